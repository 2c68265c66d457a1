//! The anchors of all `--client-ca` paths, or those of `--control-ca`, as one bundle.
//!
//! Called at start and whenever one of the files may have changed. All or nothing: one bad file refuses the whole,
//! because a bundle that lacks an anchor for a moment would cut that anchor's clients.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use trust::{Bundle, Certificate, Sha256, Speaks, Time};

use crate::file::{Failure, Named, PEM_LIMIT, Stamp, list, read};
use crate::pem;

const FLAG: &str = "--client-ca";
/// An anchor that expires within this time is warned of.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The bytes of all anchor files, and what could not be read of them.
pub(crate) struct AnchorFiles {
    flag: &'static str,
    certificates: Vec<(CertificateDer<'static>, Speaks, PathBuf)>,
    digest: Sha256,
    stamps: Vec<Stamp>,
    files: Vec<PathBuf>,
    failure: Option<Failure>,
}

impl AnchorFiles {
    /// Reads them all, up to the first that is bad.
    pub(crate) fn read(paths: &[(Speaks, PathBuf)]) -> AnchorFiles {
        AnchorFiles::read_for(FLAG, paths)
    }

    /// The same for another flag than `--client-ca`.
    pub(crate) fn read_for(flag: &'static str, paths: &[(Speaks, PathBuf)]) -> AnchorFiles {
        let digest = Sha256([0; 32]);
        let (certificates, stamps, files) = (Vec::new(), Vec::new(), Vec::new());
        let mut files = AnchorFiles { flag, certificates, digest, stamps, files, failure: None };
        for (speaks, path) in paths {
            if let Err(failure) = files.add_path(speaks, path) {
                files.failure = Some(failure);
                break;
            }
        }
        files
    }

    fn add_path(&mut self, speaks: &Speaks, path: &Path) -> Result<(), Failure> {
        let named = Named { flag: self.flag, path };
        let files = list(path).map_err(|why| named.failure(why))?;
        if files.is_empty() {
            return Err(named.failure("holds no file with an anchor; put PEM certificates into it"));
        }
        let spoken = match speaks {
            Speaks::ForAnybody => "",
            Speaks::ForTrustDomain(domain) => domain,
        };
        // Whom a file speaks for is part of what it says: a file moved to another domain's folder is a change.
        self.digest = Sha256::of_two(&self.digest.0, spoken.as_bytes());
        files.iter().try_for_each(|file| self.add_file(speaks, file))
    }

    fn add_file(&mut self, speaks: &Speaks, file: &Path) -> Result<(), Failure> {
        let named = Named { flag: self.flag, path: file };
        let content = read(file, PEM_LIMIT).map_err(|why| named.failure(why))?;
        self.digest = Sha256::of_two(&self.digest.0, &content.digest().0);
        self.stamps.push(content.stamp.clone());
        self.files.push(file.to_owned());
        let all = pem::certificates(&content.bytes).map_err(|why| named.failure(why))?;
        self.certificates.extend(all.into_iter().map(|one| (one, speaks.clone(), file.to_owned())));
        Ok(())
    }

    /// Digest of all bytes that were read.
    pub(crate) fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Whether every file could be read.
    pub(crate) fn is_whole(&self) -> bool {
        self.failure.is_none()
    }

    /// Stamps of all files that were read.
    pub(crate) fn stamps(&self) -> &[Stamp] {
        &self.stamps
    }

    /// The files that were read, in the order of their stamps.
    pub(crate) fn files(&self) -> Vec<&Path> {
        self.files.iter().map(PathBuf::as_path).collect()
    }

    /// The bundle, and sentences about what deserves a look.
    pub(crate) fn build(self, now: Time) -> Result<(Bundle, Vec<String>), Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut warnings = Vec::new();
        let mut places = Vec::new();
        let mut certificates = Vec::new();
        let mut numbers: HashMap<PathBuf, usize> = HashMap::new();
        for (der, speaks, file) in self.certificates {
            let number = numbers.entry(file.clone()).or_default();
            *number = number.saturating_add(1);
            let place = format!("certificate {number}");
            let named = Named { flag: self.flag, path: &file };
            let warning = check(&der, now).map_err(|why| named.failure(format_args!("{place} {why}")))?;
            warnings.extend(warning.map(|why| format!("{named}: {place} {why}")));
            places.push((file, place));
            certificates.push((der, speaks));
        }
        let bundle = Bundle::new(certificates).map_err(|error| {
            let unknown = (PathBuf::new(), String::new());
            let (file, place) = places.get(error.position).unwrap_or(&unknown);
            let why = format_args!("{place} {}; remove it, or replace it by an authority's certificate", error.why);
            Named { flag: self.flag, path: file }.failure(why)
        })?;
        Ok((bundle, warnings))
    }
}

/// Refuses what vouches for nobody; returns a warning about an anchor that does not now, or soon will not. Both
/// complete "certificate 3 …".
fn check(der: &CertificateDer<'_>, now: Time) -> Result<Option<String>, String> {
    let certificate = Certificate::parse(der).map_err(|why| format!("{why}; write the file again, whole"))?;
    let subject = &certificate.subject_text;
    if !certificate.is_authority {
        return Err(format!(
            "({subject:?}) is no CA certificate; name the authority that issues the clients' certificates"
        ));
    }
    if !certificate.may_sign_certificates {
        return Err(format!(
            "({subject:?}) has a key usage without keyCertSign and can vouch for nobody; reissue it with keyCertSign, \
             or remove it"
        ));
    }
    if now > certificate.not_after {
        return Ok(Some(format!("({subject:?}) has expired and vouches for nobody; replace or remove it")));
    }
    if now < certificate.not_before {
        return Ok(Some(format!("({subject:?}) is not valid yet; until then it vouches for nobody")));
    }
    if now.plus(SOON) > certificate.not_after {
        let days = certificate.not_after.since(now).as_secs() / (24 * 3600);
        return Ok(Some(format!("({subject:?}) expires in {days} days; add its successor")));
    }
    Ok(None)
}
