//! The header of a list.
//!
//! Read by `list.rs`, changed by `document.rs`, written by both forms of a list. Whether its numbers and times are
//! acceptable now is [`crate::Library`]'s to judge.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trust::{Mode, Sha256, Time};

use crate::envelope::{Opened, column_of};
use crate::moment::{Moment, written};
use crate::values::{Digest, Encoding, Manner, Name, OverlayId, Scope, Written};
use crate::{ReadError, values};

/// The one format there is.
const FORMAT: &str = "revocations/v1";
/// Denials that one list makes up for: as many as there can be at one time.
const MAX_ABSORBED: usize = 1024;

/// What a list says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(crate) list: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) scope: Option<Arc<str>>,
    pub(crate) sequence: u64,
    pub(crate) entries: u64,
    pub(crate) issued_at: Time,
    pub(crate) expires_at: Time,
    pub(crate) absorbs: Vec<Arc<str>>,
    pub(crate) confirm: bool,
    pub(crate) encoding: Encoding,
    pub(crate) body: Option<Body>,
}

/// Digest and length of all that follows the first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) sha256: Sha256,
    pub(crate) bytes: u64,
}

impl Body {
    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Body {
        Body { sha256: Sha256::of(bytes), bytes: length(bytes) }
    }
}

/// A length as headers count it.
pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

struct Format;

impl Written for Format {
    const EXPECTED: &'static str = "the format \"revocations/v1\"";
    fn read(text: &str) -> Result<Format, String> {
        if text == FORMAT {
            return Ok(Format);
        }
        Err(format!("unknown format {:?}, this program reads {FORMAT:?}", crate::moment::excerpt(text)))
    }
}

values::deserialize_written!(Format);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Its presence and spelling are checked as it is read.
    #[serde(rename = "portcullis")]
    _format: Format,
    list: Name,
    mode: Option<Manner>,
    scope: Option<Scope>,
    sequence: u64,
    entries: u64,
    issued_at: Moment,
    expires_at: Moment,
    absorbs: Option<Vec<OverlayId>>,
    confirm: Option<bool>,
    encoding: Option<Encoding>,
    sha256: Option<Digest>,
    bytes: Option<u64>,
}

/// In the order in which it is written.
#[derive(Serialize)]
struct Output<'a> {
    portcullis: &'a str,
    list: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    sequence: u64,
    entries: u64,
    issued_at: String,
    expires_at: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    absorbs: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Header {
    /// Of the first line of a file: `line` as it stands there, `opened` what is in it.
    pub(crate) fn read(line: &[u8], opened: &Opened) -> Result<Header, ReadError> {
        let place = Place { line, opened };
        let header: Line = serde_json::from_slice(&opened.header).map_err(|error| place.json(&error))?;
        if header.expires_at.floor() <= header.issued_at.floor() {
            return Err(
                place.at("expires_at", "expires_at is not later than issued_at; publish the list with a later one")
            );
        }
        if header.absorbs.as_ref().is_some_and(|absorbs| absorbs.len() > MAX_ABSORBED) {
            let why = format!("the header absorbs more than {MAX_ABSORBED} denials; name only those that still run");
            return Err(place.at("absorbs", &why));
        }
        let encoding = header.encoding.unwrap_or_default();
        let body = match (header.sha256, header.bytes) {
            (Some(Digest(sha256)), Some(bytes)) => Some(Body { sha256, bytes }),
            (Some(_), None) => {
                return Err(place.at("sha256", "there is sha256 without bytes; publish the list with both"));
            }
            (None, Some(_)) => {
                return Err(place.at("bytes", "there is bytes without sha256; publish the list with both"));
            }
            (None, None) if opened.enclosed => {
                return Err(place.at(
                    "portcullis",
                    "a signed header has sha256 and bytes, or anybody could change what \
                                     follows it; sign the list again with `portcullis revocations sign`",
                ));
            }
            (None, None) if encoding == Encoding::Binary => {
                return Err(place.at(
                    "encoding",
                    "the header of a compiled list has sha256 and bytes; compile it again \
                                     with `portcullis revocations compile`",
                ));
            }
            (None, None) => None,
        };
        Ok(Header {
            list: header.list.0,
            mode: header.mode.map_or(Mode::Enforce, |mode| mode.0),
            scope: header.scope.map(|scope| scope.0),
            sequence: header.sequence,
            entries: header.entries,
            issued_at: header.issued_at.floor(),
            expires_at: header.expires_at.floor(),
            absorbs: header.absorbs.into_iter().flatten().map(|id| id.0).collect(),
            confirm: header.confirm.unwrap_or(false),
            encoding,
            body,
        })
    }

    /// The first line without its end; an error if a time has no form in RFC 3339.
    pub(crate) fn render(&self) -> Result<Vec<u8>, String> {
        let time = |time: Time, what: &str| {
            written(time).ok_or_else(|| format!("{what} lies outside of the years 0 to 9999; choose one within"))
        };
        let output = Output {
            portcullis: FORMAT,
            list: &self.list,
            mode: (self.mode == Mode::Observe).then_some(Manner(self.mode).word()),
            scope: self.scope.as_deref(),
            sequence: self.sequence,
            entries: self.entries,
            issued_at: time(self.issued_at, "issued_at")?,
            expires_at: time(self.expires_at, "expires_at")?,
            absorbs: self.absorbs.iter().map(AsRef::as_ref).collect(),
            confirm: self.confirm.then_some(true),
            encoding: (self.encoding == Encoding::Binary).then_some(self.encoding.name()),
            sha256: self.body.map(|body| body.sha256.to_string()),
            bytes: self.body.map(|body| body.bytes),
        };
        serde_json::to_vec(&output).map_err(|error| format!("the header cannot be written ({error}); issue it anew"))
    }

    /// The list's name.
    #[must_use]
    pub fn list(&self) -> &str {
        &self.list
    }

    /// Whether it acts.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whom it is meant for, if it says so.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Grows with each issue.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many entries follow.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// When it was issued.
    #[must_use]
    pub fn issued_at(&self) -> Time {
        self.issued_at
    }

    /// From then on it is outdated.
    #[must_use]
    pub fn expires_at(&self) -> Time {
        self.expires_at
    }

    /// Denials of the overlay that it makes up for.
    #[must_use]
    pub fn absorbs(&self) -> &[Arc<str>] {
        &self.absorbs
    }

    /// Whether this issue may cut more sessions than sidecars allow, if it is signed.
    #[must_use]
    pub fn confirms(&self) -> bool {
        self.confirm
    }

    /// How it is written down.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
}

/// Where in the first line something is wrong; inside of an envelope, in its payload.
pub(crate) struct Place<'a> {
    pub(crate) line: &'a [u8],
    pub(crate) opened: &'a Opened,
}

impl Place<'_> {
    /// At a field of the header.
    pub(crate) fn at(&self, field: &str, why: &str) -> ReadError {
        let key = format!("\"{field}\"");
        let column = column_of(&self.opened.header, &key);
        if self.opened.enclosed { self.inside(column, why) } else { ReadError::at(1, column, why) }
    }

    fn json(&self, error: &serde_json::Error) -> ReadError {
        let found = ReadError::json(1, error);
        if !self.opened.enclosed {
            return found;
        }
        self.inside(found.column.unwrap_or(1), &found.why)
    }

    fn inside(&self, column: usize, why: &str) -> ReadError {
        let why = format!("in the signed payload, decoded, column {column}: {why}");
        ReadError::at(1, column_of(self.line, "\"payload\""), why)
    }
}
