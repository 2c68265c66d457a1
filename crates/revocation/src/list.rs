//! The bytes of a list to a [`List`]: signatures, header, digest, then the entries.
//!
//! Called by [`crate::read_under`]. All or nothing: whatever is wrong refuses the whole file, because half a list would
//! let the other half in. Whether it is newer, current or from the future is [`crate::Library`]'s to judge.

use std::sync::Arc;

use trust::{List, Sha256};

use crate::body::{Flaw, KINDS, Lines, key_set, split_keys, split_line};
use crate::envelope::{self, Opened};
use crate::header::{Header, Place, length};
use crate::line::Bare;
use crate::tally::Tally;
use crate::values::Encoding;
use crate::{Keys, ReadError, Requirements};

/// A list and where it comes from.
#[derive(Debug)]
pub struct ReadList {
    /// The list.
    pub list: List,
    /// Who vouches for it.
    pub provenance: Provenance,
}

/// Who vouches for a list, and how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Ids of the required keys that signed it, sorted; none if none were required.
    pub signed_by: Vec<Sha256>,
    /// Id of the set of keys that it was read under.
    pub key_set: Option<Sha256>,
    /// Whether those who signed it say that this issue may cut more sessions than usual.
    pub confirms: bool,
    /// Whom it is meant for, if it says so.
    pub scope: Option<Arc<str>>,
    /// How it was written down.
    pub encoding: Encoding,
    /// Digest of the header and all that follows, without signatures: one signature more is no other list.
    pub content: Sha256,
    /// Bytes of the file.
    pub size: u64,
}

/// A file whose first line is understood, and what follows is what that line says.
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) opened: Opened,
    pub(crate) signed_by: Vec<Sha256>,
    /// Where the second line begins.
    pub(crate) body_at: usize,
}

/// Reads the first line of a file, and checks what follows against it.
pub(crate) fn frame(bytes: &[u8], under: &Requirements) -> Result<Frame, ReadError> {
    let (line, body) = split_line(bytes);
    if line.is_empty() {
        return Err(ReadError::at(1, 1, "the first line is blank; it must hold the header"));
    }
    let opened = envelope::open(line)?;
    // Before the header is parsed: what nobody vouches for is not looked at.
    let signed_by = match &under.keys {
        Some(keys) => signers(&opened, keys)?,
        None => Vec::new(),
    };
    let header = Header::read(line, &opened)?;
    let place = Place { line, opened: &opened };
    if let Some(scope) = under.scope.as_deref().filter(|scope| header.scope() != Some(*scope)) {
        let found = header.scope().map_or_else(|| "has no scope".to_owned(), |scope| format!("has the scope {scope}"));
        let why = format!("the list {found}, but {scope} is asked for; publish the one of that scope");
        return Err(place.at("scope", &why).labelled("wrong_scope"));
    }
    check_body(&header, body, &place)?;
    let body_at = bytes.len() - body.len();
    Ok(Frame { header, opened, signed_by, body_at })
}

fn signers(opened: &Opened, keys: &Keys) -> Result<Vec<Sha256>, ReadError> {
    if !opened.enclosed {
        let why = "the list is not signed, and signatures are asked for; sign it with `portcullis revocations sign`";
        return Err(ReadError::at(1, 1, why).labelled("unsigned"));
    }
    let signers = opened.signers(keys);
    if signers.len() < keys.threshold() {
        let why = format!(
            "{} of the required keys signed the list, and {} must; let more of their holders sign it, or publish the \
             right one",
            signers.len(),
            keys.threshold()
        );
        return Err(ReadError::at(1, 1, why).labelled("under_signed"));
    }
    Ok(signers)
}

fn check_body(header: &Header, body: &[u8], place: &Place<'_>) -> Result<(), ReadError> {
    let Some(announced) = header.body else { return Ok(()) };
    let follow = length(body);
    if follow < announced.bytes {
        let why = format!(
            "the header announces {} bytes behind the first line, but {follow} follow, the file is cut short; publish \
             it again, whole",
            announced.bytes
        );
        return Err(place.at("bytes", &why).labelled("truncated"));
    }
    if follow > announced.bytes {
        let why = format!(
            "the header announces {} bytes behind the first line, but {follow} follow; publish the file as it was \
             issued",
            announced.bytes
        );
        return Err(place.at("bytes", &why));
    }
    if Sha256::of(body) != announced.sha256 {
        let why = "what follows the first line has another digest than the header says, it was changed or mixed up; \
                   publish the file as it was issued";
        return Err(place.at("sha256", why).labelled("digest_mismatch"));
    }
    Ok(())
}

impl Frame {
    /// The lines or, in a compiled list, the keys of each kind and the lines behind them.
    pub(crate) fn split<'a>(&self, bytes: &'a [u8]) -> Result<([&'a [u8]; 3], Lines<'a>), ReadError> {
        let (body, announced) = (bytes.get(self.body_at..).unwrap_or_default(), self.header.entries);
        match self.header.encoding {
            Encoding::Lines => {
                let lines = Lines { text: body, expected: announced, announced, compiled: false };
                Ok(([[].as_slice(); 3], lines))
            }
            Encoding::Binary => split_keys(body, announced),
        }
    }

    /// The error for lines that were not taken; `line` is the first one.
    pub(crate) fn error(&self, flaw: Flaw, line: &[u8]) -> ReadError {
        let announced = self.header.entries;
        match flaw {
            Flaw::Bad(error) => error,
            Flaw::Fewer(lines) if self.header.encoding == Encoding::Binary => {
                let why = format!(
                    "the header announces {announced} entries, but behind the keys there are {lines} lines, too few; \
                     compile the list again"
                );
                ReadError::whole(why).labelled("truncated")
            }
            Flaw::Fewer(count) => {
                let why = format!(
                    "the header announces {announced} entries, but {count} follow, the file is cut short; publish it \
                     again, whole"
                );
                Place { line, opened: &self.opened }.at("entries", &why).labelled("truncated")
            }
        }
    }
}

/// Reads the whole file.
pub(crate) fn read(bytes: Vec<u8>, under: &Requirements) -> Result<ReadList, ReadError> {
    let frame = frame(&bytes, under)?;
    let digest = Sha256::of(&bytes);
    let header = &frame.header;
    let mut tally = Tally::new(header.mode);
    let ([serials, public_keys, certificates], lines) = frame.split(&bytes)?;
    let [of_serials, of_public_keys, of_certificates] = KINDS;
    tally.set([
        key_set(serials, of_serials)?,
        key_set(public_keys, of_public_keys)?,
        key_set(certificates, of_certificates)?,
    ]);
    lines.each(|entry: Bare| tally.add(entry)).map_err(|flaw| frame.error(flaw, split_line(&bytes).0))?;
    let provenance = Provenance {
        key_set: under.keys.as_ref().map(|keys| keys.id()),
        confirms: under.keys.is_some() && header.confirm,
        scope: header.scope.clone(),
        encoding: header.encoding,
        content: header.body.map_or(digest, |body| Sha256::of_two(&frame.opened.header, &body.sha256.0)),
        size: length(&bytes),
        signed_by: frame.signed_by,
    };
    // The text goes before the index is built: the two need not be in memory together.
    drop(bytes);
    let header = frame.header;
    let too_many = || ReadError::whole("the list has more than 2³² − 1 entries; split it".to_owned());
    let (selectors, observed) = tally.selectors().ok_or_else(too_many)?;
    let list = List {
        name: header.list,
        mode: header.mode,
        sequence: header.sequence,
        digest,
        issued_at: header.issued_at,
        expires_at: header.expires_at,
        selectors,
        observed,
        absorbs: header.absorbs.into_boxed_slice(),
    };
    Ok(ReadList { list, provenance })
}
