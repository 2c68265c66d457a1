//! The other encoding of a certificate that its ECDSA signature allows.
//!
//! Called by `certificate.rs`. If (r, s) is a signature then so is (r, n − s), where n is the order of the curve:
//! whoever holds a certificate can turn it into its twin, which every verifier accepts and whose fingerprint nobody
//! listed. So an entry that names a certificate by its fingerprint must mean both. RSA and Ed25519 signatures have no
//! second form that aws-lc accepts. Serial number, key and identity stand in what is signed, and cannot be changed so.

use std::cmp::Ordering;

use x509_parser::certificate::X509Certificate;

use crate::Sha256;

/// The orders of the curves that webpki verifies (SEC 2, secp256r1, secp384r1, secp521r1), big-endian.
const P256: [u8; 32] = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
const P384: [u8; 48] = hex(concat!(
    "ffffffffffffffffffffffffffffffffffffffffffffffff",
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973"
));
const P521: [u8; 66] = hex(concat!(
    "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa",
    "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"
));

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// The fingerprint of the twin of `certificate`, if it is signed by ECDSA.
pub(crate) fn fingerprint(certificate: &X509Certificate<'_>) -> Option<Sha256> {
    // ecdsa-with-SHA256 and its siblings (RFC 5758 §3.2).
    if !certificate.signature_algorithm.algorithm.to_id_string().starts_with("1.2.840.10045.4.3.") {
        return None;
    }
    let (r, s) = signature(&certificate.signature_value.data)?;
    // The curve is the issuer's and not told here. Its size shows in r, which both twins share and the client did
    // not choose: an r of a larger curve that fits a smaller one comes once in 2¹²⁰ signatures.
    let order: &[u8] = match r.len() {
        0..=32 => &P256,
        33..=48 => &P384,
        49..=66 => &P521,
        _ => return None,
    };
    let other = difference(order, s)?;
    let numbers = [integer(r), integer(&other)].concat();
    let mut bits = vec![0];
    bits.extend(element(SEQUENCE, &numbers));
    let algorithm = element(SEQUENCE, &{
        let oid = certificate.signature_algorithm.algorithm.as_bytes();
        element(0x06, oid)
    });
    let parts = [certificate.tbs_certificate.as_ref(), &algorithm, &element(BIT_STRING, &bits)].concat();
    Some(Sha256::of(&element(SEQUENCE, &parts)))
}

/// r and s of an ECDSA-Sig-Value (RFC 3279 §2.2.3), without leading zeros.
fn signature(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = read(SEQUENCE, der)?;
    let (r, after) = read(INTEGER, content)?;
    let (s, end) = read(INTEGER, after)?;
    (rest.is_empty() && end.is_empty()).then(|| (trimmed(r), trimmed(s)))
}

/// The content of the element that `der` begins with, and what follows it. Lengths here have at most two octets.
fn read(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length))?
}

fn trimmed(number: &[u8]) -> &[u8] {
    crate::trimmed_serial(number)
}

/// `order − number`, without leading zeros; `None` unless 0 < number < order.
fn difference(order: &[u8], number: &[u8]) -> Option<Vec<u8>> {
    let smaller = number.len().cmp(&order.len()).then_with(|| number.cmp(order));
    if number.is_empty() || smaller != Ordering::Less {
        return None;
    }
    let mut result = order.to_vec();
    let padded = number.iter().rev().copied().chain(std::iter::repeat(0));
    let mut borrowed = false;
    for (digit, taken) in result.iter_mut().rev().zip(padded) {
        let (once, first) = digit.overflowing_sub(taken);
        let (twice, second) = once.overflowing_sub(u8::from(borrowed));
        *digit = twice;
        borrowed = first || second;
    }
    Some(trimmed(&result).to_vec())
}

/// A positive INTEGER of these octets (X.690 §8.3).
fn integer(number: &[u8]) -> Vec<u8> {
    let sign = number.first().is_none_or(|first| first & 0x80 != 0);
    let content = [if sign { [0].as_slice() } else { &[] }, number].concat();
    element(INTEGER, &content)
}

/// DER of one element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let octets = length.to_be_bytes();
    let octets = trimmed(&octets);
    let mut der = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => der.push(short),
        _ => {
            der.push(0x80 | u8::try_from(octets.len()).unwrap_or(0));
            der.extend(octets);
        }
    }
    der.extend(content);
    der
}

/// The octets of hexadecimal digits, for the constants above.
const fn hex<const N: usize>(digits: &str) -> [u8; N] {
    const fn value(digit: u8) -> u8 {
        if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
    }
    let mut octets = [0; N];
    let mut at = 0;
    let mut rest = digits.as_bytes();
    while let [high, low, more @ ..] = rest {
        if let Some((_, tail)) = octets.split_at_mut_checked(at)
            && let Some(octet) = tail.first_mut()
        {
            *octet = value(*high) * 16 + value(*low);
        }
        at += 1;
        rest = more;
    }
    octets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_difference_is_that_of_the_numbers_and_exists_below_the_order_alone() {
        assert_eq!(difference(&[1, 0, 0], &[1]).unwrap(), [0xff, 0xff]);
        assert_eq!(difference(&[1, 0, 0], &[0xff, 0xff]).unwrap(), [1]);
        assert_eq!(difference(&P256, &[1]).unwrap()[31], 0x50);
        for outside in [&[][..], &[1, 0, 0], &[1, 0, 1], &[1, 0, 0, 0]] {
            assert_eq!(difference(&[1, 0, 0], outside), None);
        }
    }

    #[test]
    fn the_orders_have_the_lengths_and_ends_of_the_standard() {
        assert_eq!((P256[0], P256[31]), (0xff, 0x51));
        assert_eq!((P384[0], P384[47]), (0xff, 0x73));
        assert_eq!((P521[0], P521[1], P521[65]), (0x01, 0xff, 0x09));
    }
}
