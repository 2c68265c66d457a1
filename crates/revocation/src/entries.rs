//! The entries of a verified CRL to keys (RFC 5280 §5.3).
//!
//! Called by [`crate::Library`] after the signature was checked. One pass to count, so that memory is taken once
//! and exactly, one to read; nothing is kept of an entry but its sixteen bytes.

use trust::{KeySet, Reason, Sha256, serial_key};

use crate::Obstacle;
use crate::der::{DerFlaw, ENUMERATED, Element, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME, Walk};
use crate::extensions::unpack;

/// Why the entries cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// They are not what RFC 5280 says.
    Malformed(DerFlaw),
    /// They say something that this program does not understand and must not skip.
    Obstacle(Obstacle),
}

impl From<DerFlaw> for Flaw {
    fn from(flaw: DerFlaw) -> Flaw {
        Flaw::Malformed(flaw)
    }
}

/// The entries of one CRL.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Those that revoke, as [`KeySet::entry`], unsorted.
    pub(crate) revoked: Vec<u128>,
    /// Keys of those that take back, in a delta CRL.
    pub(crate) taken_back: Vec<u128>,
}

/// What one entry says.
enum Says {
    Revoked(Option<Reason>),
    TakenBack,
}

/// Reads all entries; only those of a delta CRL may take back.
pub(crate) fn read(entries: Walk<'_>, issuer_key: &Sha256, is_delta: bool) -> Result<Entries, Flaw> {
    let mut count = 0;
    let mut walk = entries.clone();
    while !walk.is_done() {
        walk.require(SEQUENCE, "an entry is no SEQUENCE")?;
        count += 1;
    }
    let mut found = Entries { revoked: Vec::with_capacity(count), taken_back: Vec::new() };
    let mut walk = entries;
    while !walk.is_done() {
        let entry = walk.require(SEQUENCE, "an entry is no SEQUENCE")?;
        let mut parts = entry.walk();
        let serial = parts.require(INTEGER, "an entry has no serial number")?;
        if serial.content.is_empty() {
            return Err(serial.flaw("a serial number has no octets").into());
        }
        let date = parts.step()?;
        if !matches!(date.tag, UTC_TIME | GENERALIZED_TIME) {
            return Err(date.flaw("an entry has no revocationDate").into());
        }
        let says = match parts.optional(SEQUENCE)? {
            Some(extensions) => says(&extensions, is_delta)?,
            None => Says::Revoked(None),
        };
        parts.end("there is something after an entry's extensions")?;
        let key = serial_key(issuer_key, serial.content);
        match says {
            Says::Revoked(reason) => found.revoked.push(KeySet::entry(key, reason)),
            Says::TakenBack => found.taken_back.push(key),
        }
    }
    Ok(found)
}

fn says(extensions: &Element<'_>, is_delta: bool) -> Result<Says, Flaw> {
    let mut says = Says::Revoked(None);
    let mut walk = extensions.walk();
    while !walk.is_done() {
        let element = walk.require(SEQUENCE, "an entry's extension is no SEQUENCE")?;
        let extension = unpack(&element)?;
        match extension.oid {
            // reasonCode, 2.5.29.21
            [0x55, 0x1d, 0x15] => {
                let mut value = extension.value.walk();
                let code = value.require(ENUMERATED, "reasonCode is no ENUMERATED")?;
                value.end("there is something after reasonCode")?;
                says = match code.content {
                    // RFC 5280 §5.3.1: only a delta CRL takes back.
                    [8] if is_delta => Says::TakenBack,
                    [8] => return Err(element.flaw("a complete CRL has the reason removeFromCRL").into()),
                    // A code that nobody defined still revokes.
                    [code] => Says::Revoked(Reason::from_code(*code)),
                    _ => return Err(code.flaw("reasonCode is not one octet").into()),
                };
            }
            // certificateIssuer, 2.5.29.29: this entry and all that follow speak of somebody else's certificates.
            [0x55, 0x1d, 0x1d] => return Err(Flaw::Obstacle(Obstacle::CertificateIssuer)),
            // invalidityDate, 2.5.29.24: since when, which is before now in any case.
            [0x55, 0x1d, 0x18] => {}
            oid if extension.critical => {
                return Err(Flaw::Obstacle(Obstacle::CriticalEntryExtension(crate::outcome::oid_text(oid))));
            }
            _ => {}
        }
    }
    Ok(says)
}
