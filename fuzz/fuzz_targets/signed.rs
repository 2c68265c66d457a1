//! Any bytes as a signed list: as they are nobody signed them, so nothing is believed; and once as the header and body
//! of an envelope that the right key signed, so that what is behind the signature is reached.
#![no_main]

use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use revocation::{Keys, PublicKey, Requirements, SecretKey, read_under};

const KIND: &str = "application/vnd.portcullis.revocations+json";

static KEY: LazyLock<(Ed25519KeyPair, PublicKey, Requirements)> = LazyLock::new(|| {
    let key = SecretKey::generate().expect("there is randomness");
    let pem = key.to_pem().expect("it can be written");
    let der = STANDARD.decode(pem.lines().nth(1).expect("a line of base64")).expect("base64");
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).expect("PKCS#8");
    let keys = Keys::new(vec![key.public()], 1).expect("one of one");
    let under = Requirements { keys: Some(Arc::new(keys)), ..Requirements::default() };
    (pair, key.public(), under)
});

fuzz_target!(|bytes: &[u8]| {
    let (pair, public, under) = &*KEY;
    // The key is new in each process: nothing from outside can be signed with it. CRLs have another signature.
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        assert!(read_under(bytes.to_vec(), under).is_err());
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, body) = bytes.split_at(end);
    let message = [format!("DSSEv1 {} {KIND} {} ", KIND.len(), header.len()).as_bytes(), header].concat();
    let envelope = serde_json::json!({
        "payload": STANDARD.encode(header),
        "payloadType": KIND,
        "signatures": [{ "keyid": public.id().to_string(), "sig": STANDARD.encode(pair.sign(&message)) }],
    });
    let _ = read_under([envelope.to_string().as_bytes(), body].concat(), under);
});
