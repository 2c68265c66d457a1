//! Digests, and the sixteen-byte keys under which a certificate is looked up.
//!
//! Used when certificates, lists and CRLs are read, once each; a request never hashes.

use std::fmt;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Sha256 {
        Sha256::of_two(bytes, &[])
    }

    /// The digest of `first ‖ second`, without joining them in memory.
    #[must_use]
    pub fn of_two(first: &[u8], second: &[u8]) -> Sha256 {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(first);
        context.update(second);
        Sha256::finish(context)
    }

    /// The digest of `parts`, each with its length before it, so that no other division of the same bytes has it.
    pub(crate) fn of_all(parts: &[&[u8]]) -> Sha256 {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        Sha256::finish(context)
    }

    fn finish(context: aws_lc_rs::digest::Context) -> Sha256 {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Sha256(bytes)
    }

    /// From 64 hexadecimal digits of either case; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Sha256> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (to, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let mut value = 0;
            for digit in pair {
                value = value * 16 + char::from(*digit).to_digit(16)?;
            }
            *to = u8::try_from(value).ok()?;
        }
        Some(Sha256(bytes))
    }

    /// The first sixteen bytes, as the key of a [`crate::KeySet`].
    #[must_use]
    pub fn key(&self) -> u128 {
        u128::from_be_bytes(*self.0.first_chunk().unwrap_or(&[0; 16]))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A serial number as people write it: content octets of the INTEGER without leading zeros.
///
/// DER puts a zero octet before a serial whose first bit is set (X.690 §8.3), `openssl` prints it without;
/// a list written by hand must mean the same certificate either way.
#[must_use]
pub fn trimmed_serial(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets.get(zeros..).unwrap_or(&[])
}

/// The key of one issued certificate: SHA-256 over the issuer key's digest and the trimmed serial, cut to
/// sixteen bytes. Unique per issuer key, which is what a CRL speaks about.
#[must_use]
pub fn serial_key(issuer: &Sha256, serial: &[u8]) -> u128 {
    Sha256::of_two(&issuer.0, trimmed_serial(serial)).key()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_serial_means_the_same_with_and_without_its_sign_octet() {
        let issuer = Sha256::of(b"issuer");
        assert_eq!(serial_key(&issuer, &[0, 0x8f, 1]), serial_key(&issuer, &[0x8f, 1]));
        assert_ne!(serial_key(&issuer, &[0x8f, 1]), serial_key(&Sha256::of(b"other"), &[0x8f, 1]));
    }

    #[test]
    fn hexadecimal_goes_in_and_comes_out_and_nothing_else_does() {
        let digest = Sha256::of(b"");
        assert_eq!(digest.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Sha256::from_hex(&digest.to_string().to_uppercase()).unwrap(), digest);
        for bad in ["", "e3", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(Sha256::from_hex(bad), None, "{bad}");
        }
    }
}
