//! The first line of a list: its header, bare or in a DSSE envelope (github.com/secure-systems-lab/dsse, v1.0.2).
//!
//! Opened by `list.rs` and `sealing.rs`, written by `sealing.rs`. A signature is checked over exactly the bytes that
//! are parsed as the header afterwards, and the header carries the digest of all that follows the first line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use trust::Sha256;

use crate::{Keys, PublicKey, ReadError, SecretKey};

/// What the envelope says that its payload is; part of what is signed, so that no signature of another kind counts.
const PAYLOAD_TYPE: &str = "application/vnd.portcullis.revocations+json";
/// Signatures on one list: twice as many as there can be keys, so that a change of keys can overlap.
const MAX_SIGNATURES: usize = 64;
/// Bytes of the first line: ten times what 64 signatures and a header that absorbs all denials take. It is understood
/// before anybody is known to have signed it, and each byte of it may cost ten of memory.
const MAX_LINE: usize = 1 << 20;

/// The header's bytes, and who signed them.
pub(crate) struct Opened {
    /// Exactly what was signed; it is to be parsed, and nothing else.
    pub(crate) header: Vec<u8>,
    /// As they stand there; nothing is known of them but their form.
    pub(crate) signatures: Vec<Signature>,
    /// Whether there is an envelope at all.
    pub(crate) enclosed: bool,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Signature {
    /// Whose it says it is: a hint, nothing more.
    keyid: Option<String>,
    octets: Vec<u8>,
}

impl Signature {
    /// The key it names, if that is one of our kind.
    pub(crate) fn key(&self) -> Option<Sha256> {
        self.keyid.as_deref().and_then(Sha256::from_hex)
    }

    /// Whether the key of this id may have made it: one that names no key may be anybody's.
    fn may_be_of(&self, id: &Sha256) -> bool {
        self.keyid.is_none() || self.key().as_ref() == Some(id)
    }
}

/// Fields that nobody here knows are skipped, as DSSE asks: nothing that is not signed is used.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
    #[serde(borrow, rename = "payloadType")]
    payload_type: Cow<'a, str>,
    signatures: Vec<Written>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
    sig: String,
}

/// Opens the first line of a file.
pub(crate) fn open(line: &[u8]) -> Result<Opened, ReadError> {
    if line.len() > MAX_LINE {
        let why = format!(
            "the first line has {} bytes, and a header has at most {MAX_LINE}; publish a list whose first line is its \
             header alone",
            line.len()
        );
        return Err(ReadError::at(1, 1, why));
    }
    let fields: BTreeMap<Cow<'_, str>, IgnoredAny> =
        serde_json::from_slice(line).map_err(|error| ReadError::json(1, &error))?;
    let enclosed = fields.contains_key("payload");
    if !enclosed {
        return Ok(Opened { header: line.to_vec(), signatures: Vec::new(), enclosed });
    }
    let envelope: Envelope<'_> = serde_json::from_slice(line).map_err(|error| ReadError::json(1, &error))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        let why = format!("the payloadType of this envelope is not {PAYLOAD_TYPE:?}; name a signed revocation list");
        return Err(ReadError::at(1, column_of(line, "\"payloadType\""), why));
    }
    if envelope.signatures.len() > MAX_SIGNATURES {
        let why = format!("the envelope has more than {MAX_SIGNATURES} signatures; sign the list again");
        return Err(ReadError::at(1, column_of(line, "\"signatures\""), why));
    }
    let bad = |key: &str| {
        let why = format!("{key} is no canonical base64; sign the list again");
        ReadError::at(1, column_of(line, &format!("\"{key}\"")), why)
    };
    let header = decode(&envelope.payload).ok_or_else(|| bad("payload"))?;
    let mut signatures = Vec::with_capacity(envelope.signatures.len());
    for one in envelope.signatures {
        let octets = decode(&one.sig).ok_or_else(|| bad("sig"))?;
        signatures.push(Signature { keyid: one.keyid.filter(|keyid| !keyid.is_empty()), octets });
    }
    Ok(Opened { header, signatures, enclosed })
}

impl Opened {
    /// The ids of those of `keys` that signed the header: each once, whatever is written there how often.
    pub(crate) fn signers(&self, keys: &Keys) -> Vec<Sha256> {
        let message = signed_bytes(&self.header);
        let signed = |id: &Sha256, key: &PublicKey| {
            let mut own = self.signatures.iter().filter(|one| one.may_be_of(id));
            own.any(|one| key.verifies(&message, &one.octets))
        };
        let mut ids: Vec<Sha256> = keys.iter().filter(|(id, key)| signed(id, key)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// The first line again, with the signatures of `keys` beside those of others.
    pub(crate) fn sealed(&self, keys: &[SecretKey]) -> Result<Vec<u8>, ReadError> {
        let message = signed_bytes(&self.header);
        let ids: Vec<Sha256> = keys.iter().map(|key| key.public().id()).collect();
        let others = self.signatures.iter().filter(|one| one.key().is_none_or(|key| !ids.contains(&key)));
        let mut signatures: Vec<Signature> = others.cloned().collect();
        let own = keys.iter().zip(&ids);
        signatures.extend(own.map(|(key, id)| Signature { keyid: Some(id.to_string()), octets: key.sign(&message) }));
        signatures.sort();
        signatures.dedup();
        if signatures.len() > MAX_SIGNATURES {
            let why = format!("there would be more than {MAX_SIGNATURES} signatures; issue the list again, unsigned");
            return Err(ReadError::at(1, 1, why));
        }
        let signatures: Vec<Written> =
            signatures.into_iter().map(|one| Written { keyid: one.keyid, sig: STANDARD.encode(one.octets) }).collect();
        let envelope = serde_json::json!({
            "payload": STANDARD.encode(&self.header),
            "payloadType": PAYLOAD_TYPE,
            "signatures": signatures,
        });
        Ok(envelope.to_string().into_bytes())
    }
}

/// DSSE's pre-authentication encoding: type and payload, each with its length.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend(payload);
    bytes
}

/// DSSE allows both alphabets. Only the one canonical encoding of the bytes is taken.
fn decode(text: &str) -> Option<Vec<u8>> {
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode(text).ok()
}

/// Where `key` stands in a line, counted from 1; 1 if it is spelled with escapes.
pub(crate) fn column_of(line: &[u8], key: &str) -> usize {
    line.windows(key.len()).position(|window| window == key.as_bytes()).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_signed_is_the_encoding_of_dsse() {
        let expected = b"DSSEv1 43 application/vnd.portcullis.revocations+json 2 {}";
        assert_eq!(signed_bytes(b"{}"), expected);
    }

    #[test]
    fn signatures_of_others_stay_and_ones_own_are_replaced() {
        let (one, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let keys = Keys::new(vec![one.public(), other.public()], 2).unwrap();
        let first = open(br#"{"a":1}"#).unwrap();
        assert!(!first.enclosed && first.signers(&keys).is_empty());
        let mut second = open(&first.sealed(&[one]).unwrap()).unwrap();
        assert_eq!((second.header.as_slice(), second.signers(&keys).len()), (br#"{"a":1}"#.as_slice(), 1));
        for keyid in [None, Some("kms://elsewhere".to_owned())] {
            second.signatures.push(Signature { keyid, octets: vec![1; 64] });
        }
        let third = open(&second.sealed(std::slice::from_ref(&other)).unwrap()).unwrap();
        assert_eq!((third.signers(&keys).len(), third.signatures.len()), (2, 4));
        let fourth = open(&third.sealed(&[other]).unwrap()).unwrap();
        assert_eq!(fourth.signatures, third.signatures);
    }

    #[test]
    fn one_key_counts_once_however_often_it_signed_and_under_whatever_name() {
        let (one, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let keys = Keys::new(vec![one.public(), other.public()], 2).unwrap();
        let header = b"{}".to_vec();
        let octets = one.sign(&signed_bytes(&header));
        let names = [None, Some(one.public().id().to_string()), Some(other.public().id().to_string())];
        let signatures =
            names.into_iter().cycle().take(9).map(|keyid| Signature { keyid, octets: octets.clone() }).collect();
        let opened = Opened { header, signatures, enclosed: true };
        assert_eq!(opened.signers(&keys), [one.public().id()]);
    }

    #[test]
    fn a_signature_under_a_name_that_is_not_its_keys_counts_for_nobody() {
        let key = SecretKey::generate().unwrap();
        let keys = Keys::new(vec![key.public()], 1).unwrap();
        let octets = key.sign(&signed_bytes(b"{}"));
        for (keyid, counts) in [(None, 1), (Some("somebody".to_owned()), 0), (Some("0".repeat(64)), 0)] {
            let signatures = vec![Signature { keyid, octets: octets.clone() }];
            assert_eq!(Opened { header: b"{}".to_vec(), signatures, enclosed: true }.signers(&keys).len(), counts);
        }
    }

    #[test]
    fn only_the_canonical_encoding_of_bytes_is_taken() {
        assert_eq!((decode("_-8="), decode("/+8=")), (Some(vec![0xff, 0xef]), Some(vec![0xff, 0xef])));
        // Without padding, with bits that mean nothing, of two alphabets, with a line end.
        for bad in ["/+8", "/+9=", "/-8=", "/+8=\n", "/+8==", "e"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
