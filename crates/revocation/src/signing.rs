//! Ed25519 keys: who may publish lists.
//!
//! Public keys are what `--revocation-key` names, secret keys what `portcullis revocations keygen` makes; both are the
//! PEM files that `openssl` reads and writes (RFC 8410). It must never print a secret key but into the file asked for.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use trust::Sha256;

/// Keys of one set: an organisation has a handful of people who may revoke.
pub const MAX_KEYS: usize = 32;
/// A SubjectPublicKeyInfo of Ed25519 up to its 32 octets (RFC 8410 §4, there is only this form).
const PUBLIC_KEY_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const REMEDY: &str = "make one with `portcullis revocations keygen` or `openssl genpkey -algorithm ed25519`";

/// A key that checks signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    octets: [u8; 32],
}

impl PublicKey {
    /// From a PEM file with one PUBLIC KEY.
    pub fn from_pem(text: &str) -> Result<PublicKey, String> {
        if text.contains("PRIVATE KEY-----") {
            return Err("this file holds a secret key, which must never leave its owner; name the public key that \
                        keygen wrote beside it, or make it with `openssl pkey -pubout`"
                .to_owned());
        }
        let mut blocks = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes());
        let (Some(Ok(der)), None) = (blocks.next(), blocks.next()) else {
            return Err(format!("this is no PEM file with exactly one PUBLIC KEY; {REMEDY}"));
        };
        let octets = der.strip_prefix(&PUBLIC_KEY_HEAD).and_then(|octets| octets.try_into().ok());
        octets
            .map(|octets| PublicKey { octets })
            .ok_or_else(|| format!("this public key is none of Ed25519, the only kind that signs lists; {REMEDY}"))
    }

    /// The PEM file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &self.der())
    }

    /// SHA-256 of the SubjectPublicKeyInfo; shown as 64 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> Sha256 {
        Sha256::of(&self.der())
    }

    fn der(&self) -> Vec<u8> {
        [PUBLIC_KEY_HEAD.as_slice(), &self.octets].concat()
    }

    /// Whether the holder of this key signed `message` so.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.octets).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// A key that signs.
pub struct SecretKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SecretKey {
    /// A new one, from the operating system's randomness.
    pub fn generate() -> Result<SecretKey, String> {
        let no_randomness = "no key could be made: the operating system gives no randomness; try again on another host";
        SecretKey::of(Ed25519KeyPair::generate().map_err(|_| no_randomness.to_owned())?)
    }

    /// From a PEM file with one PRIVATE KEY (PKCS#8).
    pub fn from_pem(text: &str) -> Result<SecretKey, String> {
        if text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err("this secret key is encrypted; decrypt it with `openssl pkey` and pipe it in".to_owned());
        }
        let mut blocks = PrivatePkcs8KeyDer::pem_slice_iter(text.as_bytes());
        let (Some(Ok(der)), None) = (blocks.next(), blocks.next()) else {
            return Err(format!("this is no PEM file with exactly one PRIVATE KEY (PKCS#8); {REMEDY}"));
        };
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        SecretKey::of(
            pair.map_err(|_| format!("this secret key is none of Ed25519, the only kind that signs lists; {REMEDY}"))?,
        )
    }

    /// The PEM file: PKCS#8 of version 1, which every `openssl` since 1.1.1 reads.
    pub fn to_pem(&self) -> Result<String, String> {
        let der: Pkcs8V1Der<'_> =
            self.pair.as_der().map_err(|_| "the secret key cannot be written; make another".to_owned())?;
        Ok(pem("PRIVATE KEY", der.as_ref()))
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    fn of(pair: Ed25519KeyPair) -> Result<SecretKey, String> {
        let octets = pair.public_key().as_ref().try_into();
        let octets = octets.map_err(|_| "the key has no public key of 32 octets; make another".to_owned())?;
        Ok(SecretKey { pair, public: PublicKey { octets } })
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// Whose signatures count, and how many of them a list needs.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: Vec<(Sha256, PublicKey)>,
    threshold: usize,
    id: Sha256,
}

impl Keys {
    /// `threshold` of these keys; refuses what nobody could meet, or what would count a key twice.
    pub fn new(keys: Vec<PublicKey>, threshold: usize) -> Result<Keys, String> {
        let count = keys.len();
        if count == 0 {
            return Err("a set of keys has at least one; name it with --revocation-key".to_owned());
        }
        if count > MAX_KEYS {
            return Err(format!("{count} revocation keys are too many, the limit is {MAX_KEYS}; name fewer"));
        }
        if threshold == 0 || threshold > count {
            return Err(format!(
                "a threshold of {threshold} cannot be met by {count} keys; choose one from 1 to {count}"
            ));
        }
        let ids: BTreeSet<Sha256> = keys.iter().map(PublicKey::id).collect();
        if ids.len() < count {
            return Err("a revocation key is named twice, and each counts once; name each key once".to_owned());
        }
        let count = u64::try_from(threshold).unwrap_or(u64::MAX).to_be_bytes();
        let all: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
        let id = Sha256::of_two(&all, &count);
        Ok(Keys { keys: keys.into_iter().map(|key| (key.id(), key)).collect(), threshold, id })
    }

    /// Digest of the sorted ids and the threshold: another set, or another threshold, is another id.
    #[must_use]
    pub fn id(&self) -> Sha256 {
        self.id
    }

    /// How many of the keys must have signed.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// The keys' ids.
    pub fn ids(&self) -> impl Iterator<Item = Sha256> {
        self.keys.iter().map(|(id, _)| *id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Sha256, PublicKey)> {
        self.keys.iter()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    // Both forms are shorter than a line of 64 characters allows.
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// RFC 8410 §10.1 and §10.3.
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    const SECRET: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_examples_of_rfc_8410_are_read_and_written_byte_for_byte() {
        let secret = SecretKey::from_pem(SECRET).unwrap();
        assert_eq!(secret.public(), PublicKey::from_pem(PUBLIC).unwrap());
        assert_eq!((secret.to_pem().unwrap().as_str(), secret.public().to_pem().as_str()), (SECRET, PUBLIC));
        assert_eq!(format!("{secret:?}"), "SecretKey(…)");
    }

    #[test]
    fn a_secret_key_with_attributes_and_its_public_key_is_read_too() {
        // RFC 8410 §10.3, the second example: PKCS#8 of version 2.
        let text = "-----BEGIN PRIVATE KEY-----\n\
                    MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                    oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
                    Z9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PRIVATE KEY-----\n";
        match SecretKey::from_pem(text) {
            Ok(secret) => assert_eq!(secret.public(), PublicKey::from_pem(PUBLIC).unwrap()),
            Err(sentence) => assert!(sentence.contains("keygen"), "{sentence}"),
        }
    }

    #[test]
    fn what_a_key_signed_verifies_under_no_other_key_and_for_no_other_message() {
        let (one, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let signature = one.sign(b"message");
        assert!(one.public().verifies(b"message", &signature));
        assert!(!one.public().verifies(b"massage", &signature) && !other.public().verifies(b"message", &signature));
        let short = signature.get(..63).unwrap();
        assert!(!one.public().verifies(b"message", short) && !one.public().verifies(b"message", b""));
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused_with_the_remedy() {
        let certificate = "-----BEGIN CERTIFICATE-----\nMCowBQ==\n-----END CERTIFICATE-----\n";
        let x25519 = PUBLIC.replace("K2Vw", "K2Vu");
        for (text, why) in [
            ("", "exactly one PUBLIC KEY"),
            ("hello", "exactly one PUBLIC KEY"),
            (certificate, "exactly one PUBLIC KEY"),
            (&format!("{PUBLIC}{PUBLIC}"), "exactly one PUBLIC KEY"),
            (PUBLIC.get(..60).unwrap(), "exactly one PUBLIC KEY"),
            (&x25519, "none of Ed25519"),
            (SECRET, "holds a secret key"),
        ] {
            let sentence = PublicKey::from_pem(text).unwrap_err();
            assert!(sentence.contains(why) && sentence.contains("; "), "{text}: {sentence}");
        }
        for (text, why) in [
            ("", "exactly one PRIVATE KEY"),
            (PUBLIC, "exactly one PRIVATE KEY"),
            (&SECRET.replace("K2Vw", "K2Vu"), "none of Ed25519"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "is encrypted"),
        ] {
            let sentence = SecretKey::from_pem(text).unwrap_err();
            assert!(sentence.contains(why) && sentence.contains("; "), "{text}: {sentence}");
        }
    }

    #[test]
    fn a_set_of_keys_has_an_id_of_its_members_and_threshold_in_any_order() {
        let keys: Vec<PublicKey> = (0..3).map(|_| SecretKey::generate().unwrap().public()).collect();
        let id = |keys: &[PublicKey], threshold| Keys::new(keys.to_vec(), threshold).unwrap().id();
        let reversed: Vec<PublicKey> = keys.iter().rev().copied().collect();
        assert_eq!(id(&keys, 2), id(&reversed, 2));
        assert_ne!(id(&keys, 2), id(&keys, 1));
        assert_ne!(id(&keys, 2), id(keys.get(..2).unwrap(), 2));
    }

    #[test]
    fn a_set_of_keys_that_nobody_could_meet_is_refused() {
        let key = SecretKey::generate().unwrap().public();
        for (keys, threshold, why) in [
            (vec![], 1, "at least one"),
            (vec![key], 0, "from 1 to 1"),
            (vec![key], 2, "from 1 to 1"),
            (vec![key; 2], 2, "named twice"),
        ] {
            assert!(Keys::new(keys, threshold).unwrap_err().contains(why), "{why}");
        }
        let many = (0..=MAX_KEYS).map(|_| SecretKey::generate().unwrap().public()).collect();
        assert!(Keys::new(many, 1).unwrap_err().contains("limit is 32"));
    }
}
