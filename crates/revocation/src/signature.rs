//! Who signed a CRL.
//!
//! Called by [`crate::Library`]. A CRL is as strong as this check: the exact signed bytes, an issuer of that name
//! from the bundle or from a verified path, and that issuer's right to sign CRLs (RFC 5280 §6.3.3 (f), (g)).

use trust::{Certificate, Sha256};

use crate::der::{BIT_STRING, SEQUENCE, Walk};
use crate::{UnverifiedCrl, crl::Facts};

/// Length of a key identifier made of a digest (RFC 5280 §4.2.1.2, RFC 7093 §2).
const KEY_ID: usize = 20;

/// Who signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The holder of this key, who may sign CRLs.
    SignedBy(Sha256),
    /// The holder of the issuer's key, whose certificate leaves out cRLSign.
    NotEntitled,
    /// Nobody whose certificate is known, though one of that name is.
    BadSignature,
    /// No certificate of the issuer is known.
    UnknownIssuer,
}

/// Whether any algorithm here could ever verify it.
pub(crate) fn is_algorithm_known(crl: &UnverifiedCrl) -> bool {
    webpki::ALL_VERIFICATION_ALGS.iter().any(|algorithm| algorithm.signature_alg_id().as_ref() == crl.algorithm())
}

/// Finds the signer among `candidates`.
pub(crate) fn find_signer<'a>(crl: &UnverifiedCrl, candidates: impl Iterator<Item = &'a Certificate>) -> Verdict {
    let mut verdict = Verdict::UnknownIssuer;
    for issuer in candidates.filter(|issuer| *issuer.subject == *crl.issuer()) {
        if verifies(crl, issuer) {
            if issuer.may_sign_crls {
                return Verdict::SignedBy(issuer.key_digest());
            }
            verdict = Verdict::NotEntitled;
        } else if verdict == Verdict::UnknownIssuer && may_be_meant(crl.facts(), issuer) {
            verdict = Verdict::BadSignature;
        }
    }
    verdict
}

fn verifies(crl: &UnverifiedCrl, issuer: &Certificate) -> bool {
    let Some((key_algorithm, key)) = public_key(issuer) else { return false };
    webpki::ALL_VERIFICATION_ALGS
        .iter()
        .filter(|algorithm| algorithm.signature_alg_id().as_ref() == crl.algorithm())
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm)
        .any(|algorithm| algorithm.verify_signature(key, crl.signed(), crl.signature()).is_ok())
}

/// Content of the key's AlgorithmIdentifier, and the key's octets.
fn public_key(issuer: &Certificate) -> Option<(&[u8], &[u8])> {
    let whole = Walk::new(&issuer.public_key, 0).require(SEQUENCE, "").ok()?;
    let mut parts = whole.walk();
    let algorithm = parts.require(SEQUENCE, "").ok()?;
    let bits = parts.require(BIT_STRING, "").ok()?;
    Some((algorithm.content, bits.content.strip_prefix(&[0])?))
}

/// Whether the CRL may have meant this certificate's key. An authority that was given a new key keeps its name:
/// a CRL that names the new key must wait for it, not be taken for a forgery of the old one's. Key identifiers
/// are only a hint (anybody can choose one), so nothing but this is concluded from them.
fn may_be_meant(crl: &Facts, issuer: &Certificate) -> bool {
    let Some(key_id) = &crl.key_id else { return true };
    let Some((_, key)) = public_key(issuer) else { return true };
    let short = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, key);
    let begins = |digest: Sha256| digest.0.get(..KEY_ID) == Some(&**key_id) || digest.0 == **key_id;
    short.as_ref() == &**key_id || begins(Sha256::of(key)) || begins(issuer.key_digest())
}
