//! Certificates and private keys out of PEM text.
//!
//! Called by `credential.rs` and `anchors.rs`. Every error completes "--flag PATH: …" and says what to do. It must
//! never show a byte of a key.

use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Every certificate, in order; at least one.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    check_text(bytes)?;
    let all = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| sentence(&error))?;
    if all.is_empty() {
        return Err("holds no certificate (no block \"BEGIN CERTIFICATE\"); name a PEM file with one".to_owned());
    }
    Ok(all)
}

/// The one private key.
pub(crate) fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    check_text(bytes)?;
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    if holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED") {
        return Err("holds an encrypted private key, and nobody is here to type its passphrase; store it decrypted \
                    (openssl pkey), readable by the proxy's user alone"
            .to_owned());
    }
    let all = PrivateKeyDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let mut all = all.map_err(|error| sentence(&error))?;
    match (all.pop(), all.is_empty()) {
        (Some(key), true) => Ok(key),
        (Some(_), false) => {
            Err("holds more than one private key; leave the one that the certificate is for".to_owned())
        }
        (None, _) => {
            Err("holds no private key (no block \"BEGIN PRIVATE KEY\"); name the PEM file that has it".to_owned())
        }
    }
}

fn check_text(bytes: &[u8]) -> Result<(), String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty; write it again, whole".to_owned());
    }
    if bytes.first() == Some(&0x30) {
        return Err("is DER, not PEM; convert it (openssl x509 -inform der)".to_owned());
    }
    Ok(())
}

fn sentence(error: &Error) -> String {
    if let Error::MissingSectionEnd { .. } = error {
        return "ends within a PEM block, it is cut short; write it again, whole".to_owned();
    }
    if let Error::Base64Decode(_) = error {
        return "has a PEM block that is no base64; write it again, whole".to_owned();
    }
    if let Error::IllegalSectionStart { .. } = error {
        return "has a PEM block whose first line is broken; write it again, whole".to_owned();
    }
    "is not readable as PEM; write it again, whole".to_owned()
}
