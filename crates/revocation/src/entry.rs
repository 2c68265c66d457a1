//! One entry of a list, with everything that it says: for people who change lists.
//!
//! Made by the commands of what people type, and by `document.rs` of the lines of a list. It must never be kept for
//! what is in force: a million of these cost a hundred times what a million keys do.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use trust::{KeySet, Mode, Reason, Time};

use crate::line::Line;
use crate::moment::{show, written};
use crate::values::{Manner, Note, Written};
use crate::whom::Kind;
use crate::{ReadError, Whom};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whom it names.
    pub whom: Whom,
    /// Whether it acts.
    pub mode: Mode,
    /// Only certificates whose `notBefore` is earlier.
    pub issued_before: Option<Time>,
    /// It has no force from this moment on.
    pub until: Option<Time>,
    /// Why; for logs.
    pub reason: Option<Reason>,
    note: Option<Box<str>>,
}

impl Entry {
    /// Names `whom`, without any limit.
    #[must_use]
    pub fn of(whom: Whom) -> Entry {
        Entry { whom, mode: Mode::Enforce, issued_before: None, until: None, reason: None, note: None }
    }

    /// Reads a line of a list.
    pub fn parse(line: &str) -> Result<Entry, ReadError> {
        serde_json::from_str(line).map_err(|error| ReadError::json(1, &error))
    }

    /// For whoever reads the list.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Gives it a note, of at most 1024 bytes.
    pub fn set_note(&mut self, text: &str) -> Result<(), String> {
        let note = Note::read(text).map_err(|why| format!("{why}; shorten it"))?;
        self.note = Some(note.0);
        Ok(())
    }

    /// The line of a list that says so; what is left of a compiled entry has a key that no list may hold.
    #[must_use]
    pub fn line(&self) -> String {
        let mut fields: Vec<(&str, String)> = self.whom.fields();
        let time = |time: Option<Time>| time.map(show);
        fields.extend(time(self.issued_before).map(|time| ("issued_before", time)));
        fields.extend(time(self.until).map(|time| ("until", time)));
        fields.extend(self.reason.map(|reason| ("reason", reason.name().to_owned())));
        fields.extend((self.mode == Mode::Observe).then(|| ("mode", Manner(self.mode).word().to_owned())));
        fields.extend(self.note.as_ref().map(|note| ("note", note.to_string())));
        let fields: Vec<String> =
            fields.into_iter().map(|(key, value)| format!("\"{key}\":{}", serde_json::Value::from(value))).collect();
        format!("{{{}}}", fields.join(","))
    }

    /// Why a line cannot say it, if that is so.
    pub(crate) fn check(&self) -> Result<(), String> {
        let times = [self.issued_before, self.until];
        if times.into_iter().flatten().any(|time| written(time).is_none()) {
            return Err(format!("a time of {} lies outside of the years 0 to 9999; choose one within", self.whom));
        }
        Ok(())
    }

    /// What is left of a compiled list's key.
    pub(crate) fn compiled(kind: Kind, entry: u128) -> Entry {
        Entry { reason: KeySet::parts(entry).1, ..Entry::of(Whom::key(kind, entry)) }
    }

    /// The key by which a compiled list can say all of it, if one can.
    pub(crate) fn compact(&self) -> Option<(Kind, u128)> {
        let plain =
            self.mode == Mode::Enforce && self.issued_before.is_none() && self.until.is_none() && self.note.is_none();
        let (kind, key) = self.whom.compact().filter(|_| plain)?;
        Some((kind, KeySet::entry(key, self.reason)))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        let terms = |entry: &Entry| (entry.issued_before, entry.until, entry.reason.map(Reason::name), entry.mode);
        let by_terms = || terms(self).cmp(&terms(other)).then_with(|| self.note.cmp(&other.note));
        self.whom.cmp(&other.whom).then_with(by_terms)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        let mut line = Line::<Note>::deserialize(deserializer)?;
        let (terms, mode, note) = (line.terms(), line.mode, line.note.take());
        let selected = line.selected().ok_or_else(|| D::Error::custom("this entry selects nobody"))?;
        Ok(Entry {
            whom: Whom::of(selected),
            mode: mode.map_or(Mode::Enforce, |mode| mode.0),
            issued_before: terms.issued_before,
            until: terms.until,
            reason: terms.reason,
            note: note.map(|note| note.0),
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whom.fmt(f)?;
        if let Some(time) = self.issued_before {
            write!(f, ", issued before {}", show(time))?;
        }
        if let Some(time) = self.until {
            write!(f, ", until {}", show(time))?;
        }
        if let Some(reason) = self.reason {
            write!(f, ", {}", reason.name())?;
        }
        if self.mode == Mode::Observe {
            f.write_str(", only observed")?;
        }
        // Foreign text on its way to a terminal.
        self.note.as_ref().map_or(Ok(()), |note| write!(f, ", {note:?}"))
    }
}
