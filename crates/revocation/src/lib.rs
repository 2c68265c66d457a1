//! What is revoked: bytes in, one snapshot out.
//!
//! Called by `sources`, off the workers: [`read`] makes a [`Material`] of the bytes of one file, a [`Library`]
//! holds all that was accepted so far and makes the [`trust::Snapshot`] that `judge` asks.
//!
//! Pure on bytes: nothing here opens a file, reads a clock, logs or counts; time is an argument. No panic is
//! reachable by any bytes, nothing recurses, and what is allocated is bounded by the size of the input.

mod body;
mod crl;
mod crls;
mod der;
mod difference;
mod document;
mod entries;
mod entry;
mod envelope;
mod extensions;
mod header;
mod import;
mod library;
mod line;
mod list;
mod lists;
mod moment;
mod outcome;
mod pem;
mod read_error;
mod requirements;
mod sealing;
mod shelf;
mod signature;
mod signing;
mod tally;
mod values;
mod waiting;
mod whom;

pub use crl::UnverifiedCrl;
pub use crls::{MAX_CRLS, MAX_INTERMEDIATES};
pub use difference::{Change, Difference};
pub use document::Document;
pub use entry::Entry;
pub use header::Header;
pub use library::Library;
pub use list::{Provenance, ReadList};
pub use lists::{MAX_JUMP, MAX_LISTS};
pub use moment::show;
pub use outcome::{Accepted, Obstacle, Refused};
pub use read_error::ReadError;
pub use requirements::{DEFAULT_MAX_BYTES, Requirements};
pub use sealing::{confirm, sign};
pub use signing::{Keys, MAX_KEYS, PublicKey, SecretKey};
pub use values::Encoding;
pub use waiting::{MAX_WAITING, MAX_WAITING_BYTES};
pub use whom::Whom;

/// What one file holds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each file, never many at once")]
pub enum Material {
    /// A named list, whole and checked.
    List(ReadList),
    /// One CRL or, from PEM, several; their signatures are still to be checked.
    Crls(Vec<UnverifiedCrl>),
}

/// Reads the bytes of one file; what they are is told by their content.
///
/// Takes them by value: a large file and what is built from it need not be in memory together.
pub fn read(bytes: Vec<u8>) -> Result<Material, ReadError> {
    read_under(bytes, &Requirements::default())
}

/// Reads the bytes of one file, if it meets the requirements: lists and compiled lists all of them, CRLs, which have
/// their issuer's signature, only the size.
pub fn read_under(bytes: Vec<u8>, under: &Requirements) -> Result<Material, ReadError> {
    if header::length(&bytes) > under.max_bytes {
        let why = format!(
            "the file has {} bytes, and {} are allowed; publish a smaller one, or raise --revocation-max-bytes",
            bytes.len(),
            under.max_bytes
        );
        return Err(ReadError::whole(why).labelled("too_large"));
    }
    let Some(start) = bytes.iter().position(|byte| !byte.is_ascii_whitespace()) else {
        let why = "the file is empty; a list that revokes nobody has a header line with \"entries\":0";
        return Err(ReadError::whole(why.to_owned()).labelled("empty"));
    };
    if start == 0 && bytes.first() == Some(&der::SEQUENCE) {
        return UnverifiedCrl::read(bytes).map(|crl| Material::Crls(vec![crl])).map_err(ReadError::from);
    }
    let text = bytes.get(start..).unwrap_or_default();
    if text.first() == Some(&b'{') {
        return list::read(bytes, under).map(Material::List);
    }
    if text.starts_with(b"-----BEGIN X509 CRL") {
        let blocks = pem::decode(bytes)?;
        let crls = blocks.into_iter().map(UnverifiedCrl::read).collect::<Result<Vec<_>, _>>();
        return crls.map(Material::Crls).map_err(ReadError::from);
    }
    let line = bytes.iter().take(start).filter(|byte| **byte == b'\n').count() + 1;
    let why = if text.starts_with(b"-----BEGIN ") {
        "this PEM block is no CRL; name a file whose blocks are all \"X509 CRL\""
    } else if text.starts_with(b"\xef\xbb\xbf") {
        "the file begins with a byte order mark; save it as UTF-8 without one"
    } else {
        "this is neither a list (a JSON header on its first line) nor a CRL (PEM or DER); name a file that is one"
    };
    Err(ReadError::at(line, 1, why))
}
