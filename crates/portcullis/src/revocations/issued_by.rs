//! Whether the key of one certificate signed another.
//!
//! Used by `whom.rs` before a certificate is named by its issuer: an authority that was given a new key keeps its
//! name, and an entry with the wrong key would revoke nobody, in silence. Pure on bytes; it must never be asked whom
//! to trust.

use trust::Certificate;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// Whether `issuer` has the issuer's name of `certificate`, whose DER is `der`, and its key verifies the signature.
pub(crate) fn issued_by(certificate: &Certificate, der: &[u8], issuer: &Certificate) -> bool {
    certificate.issuer == issuer.subject && signed(der, &issuer.public_key).unwrap_or(false)
}

fn signed(der: &[u8], public_key: &[u8]) -> Option<bool> {
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue } (RFC 5280 §4.1).
    let whole = element(der, SEQUENCE)?;
    let to_be_signed = element(whole.content, SEQUENCE)?;
    let algorithm = element(to_be_signed.rest, SEQUENCE)?;
    let signature = element(algorithm.rest, BIT_STRING)?.content.strip_prefix(&[0])?;
    let key = element(public_key, SEQUENCE)?;
    let key_algorithm = element(key.content, SEQUENCE)?;
    let bits = element(key_algorithm.rest, BIT_STRING)?.content.strip_prefix(&[0])?;
    let all = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    Some(all.iter().any(|one| {
        one.signature_alg_id().as_ref() == algorithm.content
            && one.public_key_alg_id().as_ref() == key_algorithm.content
            && one.verify_signature(bits, to_be_signed.whole, signature).is_ok()
    }))
}

/// One element of DER and what follows it.
struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
    rest: &'a [u8],
}

fn element(bytes: &[u8], tag: u8) -> Option<Element<'_>> {
    let (found, after) = bytes.split_first()?;
    let (first, mut after) = after.split_first()?;
    let mut length = usize::from(*first);
    if *first > 0x80 {
        // Four octets of length are four gigabytes; a certificate has two.
        let (octets, content) =
            after.split_at_checked(usize::from(first & 0x7f)).filter(|(octets, _)| octets.len() <= 4)?;
        length = octets.iter().fold(0, |length, octet| (length << 8) | usize::from(*octet));
        after = content;
    }
    let (content, rest) = after.split_at_checked(length)?;
    let (whole, _) = bytes.split_at_checked(bytes.len().checked_sub(rest.len())?)?;
    (*found == tag).then_some(Element { whole, content, rest })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use testkit::{Authority, LeafSpec};

    #[test]
    fn the_signer_is_told_from_another_authority_of_its_name() {
        let signer = Authority::root("authority");
        let namesake = Authority::root("authority");
        let parse = |der: &[u8]| Certificate::parse(der).unwrap();
        let leaf = signer.issue(LeafSpec::spiffe("spiffe://td/a"));
        let certificate = parse(leaf.der());
        assert!(issued_by(&certificate, leaf.der(), &parse(signer.der())));
        assert!(!issued_by(&certificate, leaf.der(), &parse(namesake.der())));
        assert!(issued_by(&parse(signer.der()), signer.der(), &parse(signer.der())), "a root issued itself");
        for end in 0..leaf.der().len() {
            assert!(!issued_by(&certificate, &leaf.der()[..end], &parse(signer.der())), "cut at {end}");
        }
    }
}
