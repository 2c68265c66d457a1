//! JSON lines to a [`List`]: a header, then one entry a line.
//!
//! Called by [`crate::read`]. All or nothing: whatever is wrong refuses the whole file, because half a list would
//! let the other half in. Whether it is newer, current or from the future is [`crate::Library`]'s to judge.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use trust::{List, Sha256};

use crate::ReadError;
use crate::entry::Entry;
use crate::moment::{Moment, excerpt};
use crate::tally::Tally;

/// The one format there is.
const FORMAT: &str = "revocations/v1";
/// A list's name stands in logs and sentences: a word, not a text.
const MAX_NAME: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// Its presence and spelling are checked as it is read.
    #[serde(rename = "portcullis")]
    _format: Format,
    list: Name,
    sequence: u64,
    entries: u64,
    issued_at: Moment,
    expires_at: Moment,
}

/// Reads the whole file.
pub(crate) fn read(bytes: Vec<u8>) -> Result<List, ReadError> {
    let digest = Sha256::of(&bytes);
    let mut lines = Lines { rest: &bytes, line: 0 };
    let first = lines.next().unwrap_or_default();
    if first.is_empty() {
        return Err(ReadError::at(1, 1, "the first line is blank; it must hold the header"));
    }
    let header: Header = serde_json::from_slice(first).map_err(|error| ReadError::json(1, &error))?;
    if header.expires_at.floor() <= header.issued_at.floor() {
        let why = "expires_at is not later than issued_at; publish the list with a later one";
        return Err(ReadError::at(1, column_of(first, "\"expires_at\""), why));
    }
    let mut tally = Tally::default();
    let mut count = 0_u64;
    while let Some(text) = lines.next() {
        let line = lines.line;
        if count == header.entries {
            let why = format!(
                "the header announces {} entries, but here is one more; publish the file again with its count",
                header.entries
            );
            return Err(ReadError::at(line, 1, why));
        }
        if text.trim_ascii().is_empty() {
            return Err(ReadError::at(line, 1, "a blank line; remove it, each line holds one entry"));
        }
        tally.add(serde_json::from_slice::<Entry>(text).map_err(|error| ReadError::json(line, &error))?);
        count += 1;
    }
    if count < header.entries {
        let why = format!(
            "the header announces {} entries, but {count} follow, the file is cut short; publish it again, whole",
            header.entries
        );
        return Err(ReadError::at(1, column_of(first, "\"entries\""), why));
    }
    // The text goes before the index is built: the two need not be in memory together.
    drop(bytes);
    let too_many = || ReadError::whole("the list has more than 2³² − 1 entries; split it".to_owned());
    Ok(List {
        name: header.list.0,
        sequence: header.sequence,
        digest,
        issued_at: header.issued_at.floor(),
        expires_at: header.expires_at.floor(),
        mode: trust::Mode::Enforce,
        selectors: tally.selectors().ok_or_else(too_many)?,
        observed: trust::Selectors::default(),
        absorbs: Box::default(),
    })
}

/// Where `key` stands in the header, counted from 1; 1 if it is spelled with escapes.
fn column_of(header: &[u8], key: &str) -> usize {
    header.windows(key.len()).position(|window| window == key.as_bytes()).map_or(1, |at| at + 1)
}

/// Lines that end in LF or CR LF; the last one need not.
struct Lines<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest) = match end.and_then(|end| self.rest.split_at_checked(end)) {
            Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
            None => (self.rest, [].as_slice()),
        };
        self.rest = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

struct Format;

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Format, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Format;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the format {FORMAT:?}")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Format, E> {
                if text == FORMAT {
                    return Ok(Format);
                }
                Err(E::custom(format_args!("unknown format {:?}, this program reads {FORMAT:?}", excerpt(text))))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

struct Name(Arc<str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the list's name")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
                if !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(plain) {
                    return Ok(Name(Arc::from(text)));
                }
                Err(E::custom(format_args!(
                    "the list's name {:?} is not made of 1 to {MAX_NAME} letters, digits, '.', '_' and '-'",
                    excerpt(text)
                )))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
