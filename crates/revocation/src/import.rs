//! A CRL's entries, as entries of a list.
//!
//! Called by `document.rs` for `portcullis revocations import`. It must never take an entry of a CRL whose signature
//! does not verify, nor leave one out.

use trust::{Certificate, KeySet};

use crate::der::{INTEGER, SEQUENCE};
use crate::entries::{self, Flaw};
use crate::signature::{Verdict, find_signer, is_algorithm_known};
use crate::{Entry, UnverifiedCrl, Whom};

/// One entry for each revoked serial number, if one of `issuers` signed the CRL.
pub(crate) fn entries(crl: &UnverifiedCrl, issuers: &[Certificate]) -> Result<Vec<Entry>, String> {
    let facts = crl.facts();
    let what = format!("the CRL of {:?}", facts.issuer);
    if facts.base.is_some() {
        return Err(format!("{what} is a delta CRL, which holds only what changed; import the complete one"));
    }
    if let Some(obstacle) = &facts.obstacle {
        return Err(format!("{what} cannot be imported ({obstacle}); import a complete, direct CRL"));
    }
    if !is_algorithm_known(crl) {
        return Err(format!(
            "{what} is signed with an unknown algorithm; import one signed with ECDSA, Ed25519 or RSA"
        ));
    }
    let key = match find_signer(crl, issuers.iter()) {
        Verdict::SignedBy(key) => key,
        Verdict::NotEntitled => {
            return Err(format!("{what} is signed by an issuer without cRLSign; name the issuer that may sign CRLs"));
        }
        Verdict::BadSignature | Verdict::UnknownIssuer => {
            return Err(format!("{what} is signed by none of the issuers given; name its issuer's certificate"));
        }
    };
    let found = entries::read(crl.entries(), &key, false).map_err(|flaw| match flaw {
        Flaw::Malformed(flaw) => format!("{what} is malformed: {flaw}; fetch it from its issuer again, whole"),
        Flaw::Obstacle(obstacle) => format!("{what} cannot be imported ({obstacle}); import a complete, direct CRL"),
    })?;
    let malformed = |_| format!("{what} is malformed; fetch it from its issuer again, whole");
    let mut walk = crl.entries();
    let mut entries = Vec::with_capacity(found.revoked.len());
    // In a complete CRL every entry revokes, so that both are in the same order.
    for key_and_reason in found.revoked {
        let element = walk.require(SEQUENCE, "").map_err(malformed)?;
        let serial = element.walk().require(INTEGER, "").map_err(malformed)?;
        let whom = Whom::serial_octets(key, serial.content)
            .map_err(|why| format!("an entry of {what} cannot be imported: {why}; leave it to the sidecars to read"))?;
        let mut entry = Entry::of(whom);
        entry.reason = KeySet::parts(key_and_reason).1;
        entries.push(entry);
    }
    Ok(entries)
}
