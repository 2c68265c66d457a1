//! A list on its way: opened for a change, issued anew, written, and what is told about it.
//!
//! Used by `edit.rs` and `import.rs`. Whatever changes a list goes through here, so that none changes without a higher
//! sequence, fresh dates and a word about its signatures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use revocation::{Document, Encoding, Entry, SecretKey};
use serde_json::{Value, json};
use trust::{Mode, Sha256, Time};

use crate::moment::distance;
use crate::revocations::args::{Begin, Issue};
use crate::revocations::file::{self, Target};
use crate::revocations::progress::Progress;
use crate::revocations::{keys, say, when, whom};
use crate::{Failure, print};

/// A list that is being changed.
pub(crate) struct Draft {
    /// What changes.
    pub(crate) document: Document,
    path: PathBuf,
    target: Target,
    before: Option<Before>,
}

/// How the list was.
struct Before {
    sequence: u64,
    lifetime: Duration,
    /// The keys that had signed; `None` for a signature that names none.
    signatures: Vec<Option<Sha256>>,
}

/// What a change came to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Entries that are new.
    pub(crate) added: Vec<Entry>,
    /// Entries that are gone.
    pub(crate) removed: Vec<Entry>,
    /// Whether the list is issued at all.
    pub(crate) unchanged: bool,
}

impl Draft {
    /// Opens the list, or begins one if it is missing and `begin` says how.
    pub(crate) fn open(path: &Path, begin: Option<&Begin>) -> Result<Draft, Failure> {
        let target = Target::open(path)?;
        let bytes = file::read_if_there(path)?.filter(|bytes| !(file::is_stream(path) && bytes.is_empty()));
        let Some(bytes) = bytes else {
            let document = new(path, begin)?;
            return Ok(Draft { document, path: path.to_owned(), target, before: None });
        };
        let document = parse(path, bytes)?;
        let header = document.header();
        if header.encoding() == Encoding::Binary {
            return Err(Failure::AtStart(format!(
                "{} is compiled, which keeps no serial numbers; change the JSON lines that it was made from, and \
                 compile them again",
                file::shown(path)
            )));
        }
        if let Some(begin) = begin {
            let has = |flag: &str, wanted: Option<&str>, found: &str| match wanted {
                Some(wanted) if wanted != found => Err(Failure::AtStart(format!(
                    "{flag} {wanted:?}: {} is there already, with {found:?}; leave the flag out, or name another file",
                    file::shown(path)
                ))),
                Some(_) | None => Ok(()),
            };
            has("--list", begin.list.as_deref(), header.list())?;
            has("--list-mode", begin.list_mode.as_deref(), whom::mode_name(header.mode()))?;
            has("--scope", begin.scope.as_deref(), header.scope().unwrap_or(""))?;
        }
        let before = Before {
            sequence: header.sequence(),
            lifetime: header.expires_at().since(header.issued_at()),
            signatures: document.signatures().to_vec(),
        };
        Ok(Draft { document, path: path.to_owned(), target, before: Some(before) })
    }

    /// Whether there was such a list before.
    pub(crate) fn is_there(&self) -> bool {
        self.before.is_some()
    }

    /// Issues the list, writes it and tells what changed.
    pub(crate) fn finish(mut self, outcome: &Outcome, issue: &Issue, now: Time) -> Result<(), Failure> {
        let secret = keys::secret(&issue.key)?;
        if outcome.unchanged {
            self.tell(outcome, (issue, &[]), now);
            // Whoever reads the stream gets the list all the same.
            if file::is_stream(&self.path) {
                return self.target.write(&self.bytes(&[])?);
            }
            return Ok(());
        }
        let expires_at = match (&issue.expires, &self.before) {
            (Some(text), _) => when::parse("--expires", text, now).map_err(Failure::AtStart)?,
            (None, Some(before)) => now.plus(before.lifetime),
            (None, None) => {
                return Err(Failure::AtStart(format!(
                    "{} is not there; to begin the list add --expires, like --expires +24h",
                    file::shown(&self.path)
                )));
            }
        };
        if expires_at <= now {
            return Err(Failure::AtStart(format!(
                "--expires {}: this has passed, and an expired list denies everybody; name a later moment, like +24h",
                revocation::show(expires_at)
            )));
        }
        let whole = |moment: Time| Time::from_seconds(moment.as_seconds());
        self.document.issue(whole(now), whole(expires_at)).map_err(|why| self.wrong(&why))?;
        let bytes = self.bytes(&secret)?;
        self.target.write(&bytes)?;
        let signed_by: Vec<Sha256> = secret.iter().map(|key| key.public().id()).collect();
        self.tell(outcome, (issue, &signed_by), now);
        Ok(())
    }

    fn bytes(&self, secret: &[SecretKey]) -> Result<Vec<u8>, Failure> {
        let _progress = Progress::new(format!("rendering {}", file::shown(&self.path)));
        let bytes = self.document.render().map_err(|why| self.wrong(&why))?;
        if secret.is_empty() {
            return Ok(bytes);
        }
        revocation::sign(bytes, secret).map_err(|error| self.wrong(&error.to_string()))
    }

    fn wrong(&self, why: &str) -> Failure {
        Failure::AtStart(format!("{}: {why}", file::shown(&self.path)))
    }

    /// Whose signature the change cost.
    fn dropped(&self, outcome: &Outcome, signed_by: &[Sha256]) -> Vec<String> {
        let before = self.before.iter().filter(|_| !outcome.unchanged).flat_map(|before| &before.signatures);
        let lost = before.filter(|id| id.is_none_or(|id| !signed_by.contains(&id)));
        lost.map(|id| id.map_or_else(|| "unnamed".to_owned(), |id| id.to_string())).collect()
    }

    fn tell(&self, outcome: &Outcome, (issue, signed_by): (&Issue, &[Sha256]), now: Time) {
        let dropped = self.dropped(outcome, signed_by);
        if !dropped.is_empty() {
            say::note(&format!(
                "{} of {} ({}) no longer held and went; sign it again: portcullis revocations sign {} --key …",
                say::count(dropped.len(), "signature", "signatures"),
                file::shown(&self.path),
                dropped.join(", "),
                self.path.display()
            ));
        }
        let text = if issue.json {
            format!("{}\n", self.as_json(outcome, signed_by, &dropped))
        } else {
            self.as_text(outcome, signed_by, now)
        };
        // Standard output may carry the list itself.
        if file::is_stream(&self.path) { say::aside(&text) } else { print::out(&text) }
    }

    fn as_json(&self, outcome: &Outcome, signed_by: &[Sha256], dropped: &[String]) -> Value {
        let header = self.document.header();
        json!({
            "file": self.path.display().to_string(),
            "changed": !outcome.unchanged,
            "list": header.list(),
            "mode": whom::mode_name(header.mode()),
            "scope": header.scope(),
            "sequence": header.sequence(),
            "previous_sequence": self.before.as_ref().map(|before| before.sequence),
            "issued_at": revocation::show(header.issued_at()),
            "expires_at": revocation::show(header.expires_at()),
            "entries": self.document.entries().len(),
            "added": outcome.added.iter().map(entry_as_json).collect::<Vec<_>>(),
            "removed": outcome.removed.iter().map(entry_as_json).collect::<Vec<_>>(),
            "signed_by": signed_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "signatures_dropped": dropped,
        })
    }

    fn as_text(&self, outcome: &Outcome, signed_by: &[Sha256], now: Time) -> String {
        /// A change of more is told by its number; `diff` shows the rest.
        const SHOWN: usize = 20;
        let mut text = String::new();
        for (sign, tone, entries) in [("-", say::Tone::Bad, &outcome.removed), ("+", say::Tone::Good, &outcome.added)] {
            for entry in entries.iter().take(SHOWN) {
                text.push_str(&say::toned(&format!("{sign} {}", say::plain(&entry.to_string())), tone));
                text.push('\n');
            }
            if entries.len() > SHOWN {
                text.push_str(&format!("{sign} … and {} more\n", entries.len() - SHOWN));
            }
        }
        let header = self.document.header();
        let sequence = match &self.before {
            _ if outcome.unchanged => format!("sequence {} as before, nothing was changed", header.sequence()),
            Some(before) => format!("sequence {} (was {})", header.sequence(), before.sequence),
            None => format!("sequence {}, new", header.sequence()),
        };
        let observes = if header.mode() == Mode::Observe { ", only observes" } else { "" };
        let signed = match signed_by.len() {
            0 => String::new(),
            count => format!(", {}", say::count(count, "signature", "signatures")),
        };
        text.push_str(&format!(
            "{}: list {}, {sequence}, {}{observes}, expires {} ({}){signed}\n",
            file::shown(&self.path),
            header.list(),
            say::count(self.document.entries().len(), "entry", "entries"),
            distance(header.expires_at(), now),
            revocation::show(header.expires_at()),
        ));
        text
    }
}

/// A list in either form.
pub(crate) fn parse(path: &Path, bytes: Vec<u8>) -> Result<Document, Failure> {
    let _progress = Progress::new(format!("reading the entries of {}", file::shown(path)));
    Document::parse(bytes).map_err(|error| Failure::AtStart(format!("{}: {error}", file::shown(path))))
}

/// An entry as a list writes it.
pub(crate) fn entry_as_json(entry: &Entry) -> Value {
    serde_json::from_str(&entry.line()).unwrap_or_else(|_| Value::from(entry.line()))
}

fn new(path: &Path, begin: Option<&Begin>) -> Result<Document, Failure> {
    let missing = |what: &str| Failure::AtStart(format!("{} {what}", file::shown(path)));
    let Some(begin) = begin else {
        return Err(missing("is not there; name a list that is, or begin it with `portcullis revocations add`"));
    };
    let Some(name) = &begin.list else {
        return Err(missing("is not there; to begin the list add --list NAME and --expires +24h"));
    };
    let mode = begin.list_mode.as_deref().map_or(Ok(Mode::Enforce), |text| whom::mode("--list-mode", text))?;
    let wrong = |flag: &str, value: &str, why: String| Failure::AtStart(format!("{flag} {value:?}: {why}"));
    let mut document = Document::new(name, mode).map_err(|why| wrong("--list", name, why))?;
    if let Some(scope) = &begin.scope {
        document.set_scope(Some(scope)).map_err(|why| wrong("--scope", scope, why))?;
    }
    Ok(document)
}
