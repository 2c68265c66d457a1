//! `portcullis inject` and `--uninject`: a text of documents in, the same text with its pods changed out.
//!
//! Called by the program with what it read. Documents that stay as they are stay byte for byte. It must never give out
//! half of a result: whoever pipes it on would create what was refused.

use serde_json::Value;

use crate::manifest::{self, Mode, Report};
use crate::{yaml_read, yaml_write};

/// What became of one text.
#[derive(Debug)]
pub struct Filtered {
    /// All documents, in their order.
    pub text: String,
    /// What became of each object with a pod in it, and of each that was left alone.
    pub reports: Vec<Report>,
}

/// Changes every pod in `text`, which is YAML or JSON; an error completes "FILE: ".
pub fn filter(text: &str, mode: &Mode<'_>) -> Result<Filtered, String> {
    match text.trim_start().starts_with('{') {
        true => match json(text, mode) {
            Some(filtered) => Ok(filtered),
            None => yaml(text, mode),
        },
        false => yaml(text, mode),
    }
}

/// Objects one after the other; `None` if it is no JSON throughout.
fn json(text: &str, mode: &Mode<'_>) -> Option<Filtered> {
    let mut filtered = Filtered { text: String::new(), reports: Vec::new() };
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut start = 0;
    while let Some(object) = objects.next() {
        let mut object = object.ok()?;
        let end = objects.byte_offset();
        let raw = text.get(start..end)?;
        start = end;
        if manifest::change(&mut object, mode, &mut filtered.reports) {
            let blank = raw.len() - raw.trim_start().len();
            filtered.text.push_str(raw.get(..blank)?);
            filtered.text.push_str(&serde_json::to_string_pretty(&object).ok()?);
        } else {
            filtered.text.push_str(raw);
        }
    }
    filtered.text.push_str(text.get(start..)?);
    Some(filtered)
}

fn yaml(text: &str, mode: &Mode<'_>) -> Result<Filtered, String> {
    let mut filtered = Filtered { text: String::new(), reports: Vec::new() };
    for (line, raw) in documents(text) {
        let read = yaml_read::read(raw).map_err(|(found, why)| format!("line {}: {why}", line + found))?;
        let mut object = read.unwrap_or(Value::Null);
        if !object.is_null() && manifest::change(&mut object, mode, &mut filtered.reports) {
            filtered.text.push_str(&opening(raw));
            filtered.text.push_str(&yaml_write::write(&object));
        } else {
            filtered.text.push_str(raw);
        }
    }
    Ok(filtered)
}

/// Each document with its `---`, and how many lines are before it. Nothing in YAML but a mark begins a line so: blocks
/// are indented. Directives stand before the mark of their document.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let (mut documents, mut start, mut offset, mut first_line) = (Vec::new(), 0, 0, 0);
    let mut directed = false;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_mark(line) && offset > start && !std::mem::take(&mut directed) {
            documents.push((first_line, text.get(start..offset).unwrap_or_default()));
            (start, first_line) = (offset, number);
        }
        directed = line.starts_with('%') || (directed && is_empty(line));
        offset += line.len();
    }
    documents.push((first_line, text.get(start..).unwrap_or_default()));
    documents
}

fn is_empty(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

fn is_mark(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// What comes before the content: directives, the mark, and comments that tools put there.
fn opening(raw: &str) -> String {
    let mut opening = String::new();
    for line in raw.split_inclusive('\n') {
        let mark = is_mark(line);
        let rest = if mark { line.get(3..).unwrap_or_default() } else { line };
        if is_empty(rest) || line.starts_with('%') {
            opening.push_str(line);
            continue;
        }
        // The content begins on the mark's own line.
        opening.push_str(if mark { "---\n" } else { "" });
        break;
    }
    opening
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart_by_their_marks_alone() {
        let text = "# head\na: |\n  ---\n  x\n---\nb: 1\n--- # Source: c.yaml\nc: 1\n---- d\n";
        let found = documents(text);
        assert_eq!(found.concat_texts(), text);
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [0, 4, 6]);
        assert_eq!(opening("--- # Source: c.yaml\n# x\n\nc: 1\n"), "--- # Source: c.yaml\n# x\n\n");
        assert_eq!(opening("--- {a: 1}\n"), "---\n");
        assert_eq!(opening("a: 1\n# b\n"), "");
        let directed = "%YAML 1.2\n# x\n---\nb: 1\n---\nc: 1\n";
        assert_eq!(documents(directed).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [0, 4]);
        assert_eq!(opening("%YAML 1.2\n# x\n--- b\n"), "%YAML 1.2\n# x\n---\n");
    }

    trait Texts {
        fn concat_texts(&self) -> String;
    }

    impl Texts for Vec<(usize, &str)> {
        fn concat_texts(&self) -> String {
            self.iter().map(|(_, text)| *text).collect()
        }
    }
}
