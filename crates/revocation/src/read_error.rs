//! Why the bytes of a file could not be read, and where.
//!
//! Made by every parser here, shown by `sources` behind the file's name. Its text must say what to do.

use std::fmt;

use crate::der::DerFlaw;

/// Where reading stopped and why; the whole file is refused by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// The line, counted from 1, if the file has lines.
    pub line: Option<usize>,
    /// The byte within the line, counted from 1, at or just before which the fault lies.
    pub column: Option<usize>,
    /// What is wrong, and the remedy.
    pub why: String,
    label: &'static str,
}

impl ReadError {
    /// Every label.
    pub const LABELS: [&'static str; 8] =
        ["malformed", "empty", "truncated", "digest_mismatch", "unsigned", "under_signed", "wrong_scope", "too_large"];

    /// One fixed word, for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// The same under another label than `malformed`; one of [`ReadError::LABELS`].
    #[must_use]
    pub(crate) fn labelled(self, label: &'static str) -> ReadError {
        debug_assert!(ReadError::LABELS.contains(&label), "{label}");
        ReadError { label, ..self }
    }

    /// About the file as a whole.
    pub(crate) fn whole(why: String) -> ReadError {
        ReadError { line: None, column: None, why, label: "malformed" }
    }

    /// At `column` of `line`.
    pub(crate) fn at(line: usize, column: usize, why: impl Into<String>) -> ReadError {
        ReadError { line: Some(line), column: Some(column.max(1)), why: why.into(), label: "malformed" }
    }

    /// From what serde_json said about this line, which it takes for the first of its input.
    pub(crate) fn json(line: usize, error: &serde_json::Error) -> ReadError {
        let said = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = said.strip_suffix(&place).unwrap_or(&said);
        let (remedy, label) = match error.classify() {
            serde_json::error::Category::Eof => ("; the line is cut short: publish the file again, whole", "truncated"),
            serde_json::error::Category::Syntax => {
                ("; a line is one JSON object: correct it and publish the file again", "malformed")
            }
            serde_json::error::Category::Data | serde_json::error::Category::Io => {
                ("; correct the line and publish the file again", "malformed")
            }
        };
        ReadError::at(line, error.column(), format!("{what}{remedy}")).labelled(label)
    }
}

impl From<DerFlaw> for ReadError {
    fn from(flaw: DerFlaw) -> ReadError {
        ReadError::whole(format!("the CRL is malformed: {flaw}; fetch it from its issuer again, whole"))
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for ReadError {}
