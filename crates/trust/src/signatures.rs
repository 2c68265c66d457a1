//! Signatures over certificates that were verified before, so that each is computed once and not in every handshake.
//!
//! Held by a [`crate::Bundle`], asked by [`crate::verify`] through webpki. Whether these bytes are that key's
//! signature over those is the same for ever, so remembering a yes changes no answer; everything that can change
//! (validity, anchors, revocation) is looked at every time. It must never remember a no: nobody could fill it then.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use crate::Sha256;

/// Signatures remembered: the issuers of any PKI and the clients of one app, at 40 bytes each. Full, it starts anew.
const MAX_SIGNATURES: usize = 4096;

/// Digests of algorithm, key, message and signature that verified.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    verified: Mutex<HashSet<Sha256>>,
}

impl Signatures {
    /// What webpki can verify, through this memory.
    pub(crate) fn algorithms(&self) -> Vec<Remembering<'_>> {
        let all = webpki::ALL_VERIFICATION_ALGS.iter();
        all.map(|algorithm| Remembering { algorithm: *algorithm, signatures: self }).collect()
    }

    fn knows(&self, digest: &Sha256) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    fn remember(&self, digest: Sha256) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_SIGNATURES {
            verified.clear();
        }
        verified.insert(digest);
    }
}

/// One algorithm with a memory.
pub(crate) struct Remembering<'a> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    signatures: &'a Signatures,
}

impl fmt::Debug for Remembering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

impl SignatureVerificationAlgorithm for Remembering<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let (key_kind, kind) = (self.public_key_alg_id(), self.signature_alg_id());
        let digest = Sha256::of_all(&[key_kind.as_ref(), kind.as_ref(), public_key, message, signature]);
        if self.signatures.knows(&digest) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        self.signatures.remember(digest);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static ASKED: Cell<u32> = const { Cell::new(0) };
    }

    /// Says yes to a signature that equals the message, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting;

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(&self, _: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            ASKED.set(ASKED.get() + 1);
            if message == signature { Ok(()) } else { Err(InvalidSignature) }
        }
        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(b"key")
        }
        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(b"signature")
        }
    }

    #[test]
    fn a_good_signature_is_computed_once_and_a_bad_one_every_time() {
        let signatures = Signatures::default();
        let algorithm = Remembering { algorithm: &Counting, signatures: &signatures };
        for _ in 0..3 {
            algorithm.verify_signature(b"k", b"m", b"m").unwrap();
        }
        assert_eq!(ASKED.replace(0), 1);
        for _ in 0..3 {
            algorithm.verify_signature(b"k", b"m", b"x").unwrap_err();
        }
        assert_eq!(ASKED.get(), 3);
    }

    #[test]
    fn another_key_or_message_or_another_division_of_the_same_bytes_is_another_signature() {
        let signatures = Signatures::default();
        let algorithm = Remembering { algorithm: &Counting, signatures: &signatures };
        algorithm.verify_signature(b"k", b"mm", b"mm").unwrap();
        for (key, message, signature) in [("k", "mmm", "m"), ("km", "m", "mm"), ("km", "mm", "m"), ("", "kmm", "mm")] {
            algorithm.verify_signature(key.as_bytes(), message.as_bytes(), signature.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let signatures = Signatures::default();
        for number in 0..2 * MAX_SIGNATURES + 1 {
            signatures.remember(Sha256::of(&number.to_be_bytes()));
        }
        assert!(signatures.verified.lock().unwrap().len() <= MAX_SIGNATURES);
    }
}
