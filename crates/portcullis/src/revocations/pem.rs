//! Certificates and keys that flags name: a PEM file, or a digest in hexadecimal.
//!
//! Used by `whom.rs` and by the commands that check CRLs. It must never read secret keys.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use trust::{Certificate, Sha256};

use crate::Failure;
use crate::revocations::file;

/// A certificate with its bytes.
pub(crate) struct Read {
    /// What it says.
    pub(crate) certificate: Certificate,
    /// Its DER.
    pub(crate) der: CertificateDer<'static>,
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(flag: &str, path: &Path) -> Result<Vec<Read>, Failure> {
    let wrong = |why: String| Failure::AtStart(format!("{flag} {}: {why}", file::shown(path)));
    let text = file::read_text(path)?;
    let mut all = Vec::new();
    for der in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let der = der.map_err(|error| wrong(format!("this is no PEM ({error}); name a PEM certificate")))?;
        let certificate = Certificate::parse(&der)
            .map_err(|flaw| wrong(format!("its certificate {} {flaw}; name another", all.len() + 1)))?;
        all.push(Read { certificate, der });
    }
    if all.is_empty() {
        return Err(wrong("it holds no certificate; name a PEM file with a CERTIFICATE block".to_owned()));
    }
    Ok(all)
}

/// The digest that `text` spells, colons and case aside; `None` if it spells a path.
pub(crate) fn digest(text: &str) -> Option<Sha256> {
    Sha256::from_hex(&text.replace(':', ""))
}

/// The digest of a public key: given itself, or by a PEM file with a certificate or a public key.
pub(crate) fn key_digest(flag: &str, text: &str) -> Result<Sha256, Failure> {
    if let Some(digest) = digest(text) {
        return Ok(digest);
    }
    let path = PathBuf::from(text);
    if !file::is_stream(&path) && !path.exists() {
        return Err(Failure::AtStart(format!(
            "{flag} {text:?}: neither a file that is there nor a SHA-256 (64 hexadecimal digits); name a PEM file or \
             write the digest"
        )));
    }
    let pem = file::read_text(&path)?;
    if let Some(Ok(key)) = SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()).next() {
        return Ok(Sha256::of(&key));
    }
    certificates(flag, &path)?.first().map(|read| read.certificate.key_digest()).ok_or_else(|| {
        Failure::AtStart(format!("{flag} {text}: it holds neither a certificate nor a public key; name one that does"))
    })
}
