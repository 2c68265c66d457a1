//! Signed lists, forged without the product's own signing: DSSE by the letter, Ed25519 by rcgen.
//!
//! Used by tests that attack signatures. It must never check anything.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use serde_json::json;
use testkit::{ListSpec, hex, sha256};

const TYPE: &str = "application/vnd.portcullis.revocations+json";

/// Somebody who signs.
pub(crate) struct Signer(KeyPair);

impl Signer {
    pub(crate) fn new() -> Signer {
        Signer(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    /// What `--revocation-key` reads.
    pub(crate) fn public(&self) -> revocation::PublicKey {
        revocation::PublicKey::from_pem(&self.0.public_key_pem()).unwrap()
    }

    fn id(&self) -> String {
        hex(&sha256(&self.0.subject_public_key_info()))
    }
}

/// The set of keys of which so many must sign.
pub(crate) fn keys(signers: &[&Signer], threshold: usize) -> sources::Requirements {
    let keys = revocation::Keys::new(signers.iter().map(|one| one.public()).collect(), threshold).unwrap();
    sources::Requirements { keys: Some(std::sync::Arc::new(keys)), ..sources::Requirements::default() }
}

/// The list, signed by each.
pub(crate) fn signed(list: ListSpec, signers: &[&Signer]) -> String {
    let text = list.text();
    let body = &text[text.find('\n').unwrap() + 1..];
    let digest = format!("\"{}\"", hex(&sha256(body.as_bytes())));
    let list = list.header_field("sha256", &digest).header_field("bytes", &body.len().to_string());
    format!("{}\n{body}", envelope(&list.header(), signers))
}

/// A DSSE envelope around any payload.
pub(crate) fn envelope(payload: &str, signers: &[&Signer]) -> String {
    let message = format!("DSSEv1 {} {TYPE} {} {payload}", TYPE.len(), payload.len());
    let one = |signer: &&Signer| {
        let signature = signer.0.sign(message.as_bytes()).unwrap();
        json!({"keyid": signer.id(), "sig": STANDARD.encode(signature)})
    };
    let signatures: Vec<_> = signers.iter().map(one).collect();
    json!({"payload": STANDARD.encode(payload), "payloadType": TYPE, "signatures": signatures}).to_string()
}
