//! The certificate and key of a server that is not the proxy: the webhook's.
//!
//! Read once at start by `portcullis`, looked at again by `injector` while it runs. It must never let files that cannot
//! be used take the last good pair away.

use proxy::Credential;
use trust::{Sha256, Time};

use crate::told::Told;
use crate::{CredentialPaths, LoadFailure};

/// Where they are, and what was found there last.
pub struct ServerCredential {
    paths: CredentialPaths,
    credential: Credential,
    /// Of the bytes that were good last.
    seen: Sha256,
    told: Told,
}

impl ServerCredential {
    /// Reads the pair; with sentences about what works, and deserves a look.
    pub fn load(paths: CredentialPaths, now: Time) -> Result<(ServerCredential, Vec<String>), LoadFailure> {
        let files = paths.read()?;
        let (credential, warnings) = (files.build(&paths, now)?, files.warnings(&paths));
        let seen = files.digest();
        Ok((ServerCredential { paths, credential, seen, told: Told::default() }, warnings))
    }

    /// The pair that was good last.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Looks again: a new pair, or why what is there now cannot be used; each once.
    pub fn look(&mut self, now: Time) -> Option<Result<&Credential, LoadFailure>> {
        let found = self.paths.read().and_then(|files| {
            let digest = files.digest();
            // What is in force was checked when it came, and may have expired since: the metrics tell that.
            if digest == self.seen { Ok((digest, None)) } else { Ok((digest, Some(files.build(&self.paths, now)?))) }
        });
        match found {
            Ok((_, None)) => self.told.healed().then_some(Ok(&self.credential)),
            Ok((digest, Some(credential))) => {
                self.told.healed();
                (self.seen, self.credential) = (digest, credential);
                Some(Ok(&self.credential))
            }
            Err(failure) => self.told.failed(failure).map(Err),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::UNIX_EPOCH;

    use testkit::{Authority, LeafSpec};

    use super::*;

    #[test]
    fn a_new_pair_is_found_once_and_half_of_one_leaves_the_last_good_pair() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let authority = Authority::root("webhook");
        let (one, two) = (authority.issue(LeafSpec::dns("a.test")), authority.issue(LeafSpec::dns("b.test")));
        let now = Time::from_seconds(i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap());
        std::fs::write(&cert, one.chain_pem()).unwrap();
        std::fs::write(&key, one.key_pem()).unwrap();
        let paths = CredentialPaths::CertAndKey { cert: cert.clone(), key: key.clone() };
        let (mut credential, _) = ServerCredential::load(paths, now).unwrap();
        let first = credential.credential().key.cert.clone();
        assert!(credential.look(now).is_none());
        std::fs::write(&cert, two.chain_pem()).unwrap();
        assert!(credential.look(now).unwrap().is_err(), "the key of another certificate");
        assert!(credential.look(now).is_none(), "told once");
        assert_eq!(credential.credential().key.cert, first);
        std::fs::write(&key, two.key_pem()).unwrap();
        assert_ne!(credential.look(now).unwrap().unwrap().key.cert, first);
        assert!(credential.look(now).is_none());
        std::fs::remove_file(&key).unwrap();
        assert!(credential.look(now).unwrap().is_err());
        std::fs::write(&key, two.key_pem()).unwrap();
        assert!(credential.look(now).unwrap().is_ok(), "that it is good again is told too");
    }
}
