//! Our own certificate and key.
//!
//! Called at start and whenever one of its files may have changed. The two files are replaced one after the other,
//! so a pair that does not match is a failure like any other: the old pair stays until the new one is complete.
//! It must never show a byte of the key.

use std::path::Path;
use std::sync::Arc;

use proxy::Credential;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use trust::{Certificate, Sha256, Time};

use crate::CredentialPaths;
use crate::file::{Content, Failure, Named, PEM_LIMIT, Stamp, read};
use crate::pem;

/// Permission bits that let others than the owner read.
const READABLE_BY_OTHERS: u32 = 0o044;

/// The bytes of its files.
pub(crate) struct CredentialFiles {
    cert: Content,
    /// Absent if both are in one file.
    key: Option<Content>,
}

impl CredentialPaths {
    pub(crate) fn cert(&self) -> Named<'_> {
        match self {
            CredentialPaths::CertAndKey { cert, .. } => Named { flag: "--cert", path: cert },
            CredentialPaths::Bundle(path) => Named { flag: "--credential-bundle", path },
        }
    }

    fn key(&self) -> Named<'_> {
        match self {
            CredentialPaths::CertAndKey { key, .. } => Named { flag: "--key", path: key },
            CredentialPaths::Bundle(path) => Named { flag: "--credential-bundle", path },
        }
    }

    /// Every file.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match self {
            CredentialPaths::CertAndKey { cert, key } => vec![cert, key],
            CredentialPaths::Bundle(path) => vec![path],
        }
    }

    /// Reads them.
    pub(crate) fn read(&self) -> Result<CredentialFiles, Failure> {
        let one = |named: Named<'_>| read(named.path, PEM_LIMIT).map_err(|why| named.failure(why));
        match self {
            CredentialPaths::CertAndKey { .. } => {
                Ok(CredentialFiles { cert: one(self.cert())?, key: Some(one(self.key())?) })
            }
            CredentialPaths::Bundle(_) => Ok(CredentialFiles { cert: one(self.cert())?, key: None }),
        }
    }
}

impl CredentialFiles {
    fn key(&self) -> &Content {
        self.key.as_ref().unwrap_or(&self.cert)
    }

    /// Digest of all bytes.
    pub(crate) fn digest(&self) -> Sha256 {
        Sha256::of_two(&self.cert.digest().0, &self.key().digest().0)
    }

    /// Stamps of all files.
    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        vec![self.cert.stamp.clone(), self.key().stamp.clone()]
    }

    /// What deserves a look although it works.
    pub(crate) fn warnings(&self, paths: &CredentialPaths) -> Vec<String> {
        let mode = self.key().mode & 0o777;
        if mode & READABLE_BY_OTHERS == 0 {
            return Vec::new();
        }
        vec![format!(
            "{}: the private key is readable by others than its owner (mode {mode:o}); set mode 600, or defaultMode \
             0400 in a projected volume",
            paths.key()
        )]
    }

    /// What they say, checked.
    pub(crate) fn build(&self, paths: &CredentialPaths, now: Time) -> Result<Credential, Failure> {
        let (cert, key) = (paths.cert(), paths.key());
        let chain = pem::certificates(&self.cert.bytes).map_err(|why| cert.failure(why))?;
        let private = pem::private_key(&self.key().bytes).map_err(|why| key.failure(why))?;
        let mut leaf = None;
        for (position, der) in chain.iter().enumerate() {
            let certificate = Certificate::parse(der).map_err(|why| {
                let number = position.saturating_add(1);
                cert.failure(format_args!("certificate {number} {why}; write the file again, whole"))
            })?;
            leaf.get_or_insert(certificate);
        }
        let Some(leaf) = leaf else { return Err(cert.failure("holds no certificate; name a PEM file with one")) };
        // The text of the error is left out: of a key, nothing is repeated.
        let signing = any_supported_type(&private).map_err(|_| {
            key.failure("the private key is of a kind that is not supported; use RSA, ECDSA or Ed25519")
        })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(key.failure(format_args!(
                    "the private key does not belong to the first certificate of {cert}; give the two that \
                     were made together, the proxy's own certificate first"
                )));
            }
            Err(error) => {
                return Err(cert.failure(format_args!("the certificate cannot be used ({error}); issue another one")));
            }
        }
        if now < leaf.not_before {
            return Err(cert.failure("the certificate is not valid yet; compare the clocks, or issue another one"));
        }
        if now > leaf.not_after {
            return Err(cert.failure("the certificate has expired; issue a new one"));
        }
        Ok(Credential { key: Arc::new(certified), not_before: leaf.not_before, not_after: leaf.not_after })
    }
}
