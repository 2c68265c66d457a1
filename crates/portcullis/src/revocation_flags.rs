//! The flags of `run` and `check` about revocation knowledge: as text, and from text to settings.
//!
//! Part of `args.rs` and `resolve.rs`. Every refusal is one sentence that names the flag, or its twin in the
//! environment, and the remedy. It must never open a file: keys are read by `sources`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use sources::Requirements;
use trust::Stale;

use crate::resolve::Reader;

/// What a header's scope may be made of, and a flag's.
const MAX_SCOPE: usize = 64;
/// Units of `--revocation-max-bytes`, with their bits.
const UNITS: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];

/// The flags, as text.
#[derive(clap::Args, Default)]
pub(crate) struct RevocationFlags {
    /// A folder that survives a restart: accepted lists, CRLs and denials are kept there with their floors, so that an
    /// older file at hand takes nothing back [default: none, a restart knows only the files]
    #[arg(long, env = "PORTCULLIS_STATE_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) state_dir: Option<String>,
    /// What becomes of knowledge past its expiry: it denies, it serves for so long and denies then, or it serves
    /// until there is newer [default: deny]
    #[arg(long, env = "PORTCULLIS_STALE", value_name = "deny|grace=DUR|serve", hide_env_values = true)]
    pub(crate) stale: Option<String>,
    /// A public key (PEM, Ed25519) that signs lists and compiled files (repeatable); with one, unsigned ones are
    /// refused
    #[arg(long, env = "PORTCULLIS_REVOCATION_KEY", value_name = "FILE", value_delimiter = '\n')]
    #[arg(hide_env_values = true)]
    pub(crate) revocation_key: Vec<String>,
    /// How many of those keys must have signed [default: 1]
    #[arg(long, env = "PORTCULLIS_REVOCATION_THRESHOLD", value_name = "N", hide_env_values = true)]
    pub(crate) revocation_threshold: Option<String>,
    /// The scope that the header of a list or compiled file must name [default: any]
    #[arg(long, env = "PORTCULLIS_REVOCATION_SCOPE", value_name = "WORD", hide_env_values = true)]
    pub(crate) revocation_scope: Option<String>,
    /// A larger list, compiled file or CRL is refused before it is read [default: 512MiB]
    #[arg(long, env = "PORTCULLIS_REVOCATION_MAX_BYTES", value_name = "N[KiB|MiB|GiB]", hide_env_values = true)]
    pub(crate) revocation_max_bytes: Option<String>,
    /// Revocations that would cut a larger share of the live sessions, from 0 to 1, are held until somebody confirms
    /// them [default: no limit]
    #[arg(long, env = "PORTCULLIS_MAX_CUT_FRACTION", value_name = "F", hide_env_values = true)]
    pub(crate) max_cut_fraction: Option<String>,
    /// How long a denial by the control API may live [default: 24h]
    #[arg(long, env = "PORTCULLIS_MAX_DENIAL_TTL", value_name = "DUR", hide_env_values = true)]
    pub(crate) max_denial_ttl: Option<String>,
}

impl RevocationFlags {
    /// See `Flags::forget_blank_twins`.
    pub(crate) fn forget_blank_twins(&mut self, from_environment: &HashSet<String>) {
        if from_environment.contains("revocation_key") {
            self.revocation_key.retain(|value| !value.trim().is_empty());
        }
        for (id, value) in [
            ("state_dir", &mut self.state_dir),
            ("stale", &mut self.stale),
            ("revocation_threshold", &mut self.revocation_threshold),
            ("revocation_scope", &mut self.revocation_scope),
            ("revocation_max_bytes", &mut self.revocation_max_bytes),
            ("max_cut_fraction", &mut self.max_cut_fraction),
            ("max_denial_ttl", &mut self.max_denial_ttl),
        ] {
            if from_environment.contains(id) && value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                *value = None;
            }
        }
    }
}

/// The keys that sign lists, by their files: `sources` reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyPaths {
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// How many of them must have signed.
    pub(crate) threshold: usize,
}

impl Reader<'_> {
    fn revocation_flags(&self) -> &RevocationFlags {
        &self.0.revocation
    }

    pub(crate) fn state_dir(&self) -> Result<Option<PathBuf>, String> {
        let path = |text: &String| self.path("state_dir", text);
        self.revocation_flags().state_dir.as_ref().map(path).transpose()
    }

    pub(crate) fn stale(&self) -> Result<Stale, String> {
        let Some(text) = self.revocation_flags().stale.as_deref() else { return Ok(Stale::Deny) };
        let name = self.name("stale");
        match (text, text.split_once('=')) {
            ("deny", _) => Ok(Stale::Deny),
            ("serve", _) => Ok(Stale::Serve),
            (_, Some(("grace", span))) => crate::duration::parse(span)
                .map(Stale::Grace)
                .map_err(|why| format!("{name} {text:?}: the time after grace=: {why}")),
            _ => Err(format!("{name} {text:?} is not known; choose deny, grace=DUR (like grace=1h) or serve")),
        }
    }

    pub(crate) fn key_paths(&self) -> Result<KeyPaths, String> {
        let flags = self.revocation_flags();
        let files = flags.revocation_key.iter().map(|text| self.path("revocation_key", text));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let Some(text) = &flags.revocation_threshold else { return Ok(KeyPaths { files, threshold: 1 }) };
        let name = self.name("revocation_threshold");
        if files.is_empty() {
            return Err(format!("{name} is given without --revocation-key; give the keys, or leave it out"));
        }
        match text.parse() {
            Ok(threshold) if (1..=files.len()).contains(&threshold) => Ok(KeyPaths { files, threshold }),
            Ok(_) | Err(_) => Err(format!(
                "{name} {text:?}: write a whole number from 1 to {}, the number of keys given",
                files.len()
            )),
        }
    }

    /// Without the keys, which lie in files.
    pub(crate) fn requirements(&self) -> Result<Requirements, String> {
        let flags = self.revocation_flags();
        let mut requirements = Requirements { stale: self.stale()?, ..Requirements::default() };
        if let Some(text) = &flags.revocation_max_bytes {
            requirements.max_bytes = bytes(text).ok_or_else(|| {
                let name = self.name("revocation_max_bytes");
                format!("{name} {text:?}: write a number of bytes above 0, or one of KiB, MiB or GiB, like 512MiB")
            })?;
        }
        if let Some(text) = &flags.revocation_scope {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if text.is_empty() || text.len() > MAX_SCOPE || !text.bytes().all(plain) {
                let name = self.name("revocation_scope");
                return Err(format!(
                    "{name} {text:?}: write a word of 1 to {MAX_SCOPE} letters, digits, '.', '_' and '-', as the \
                     lists' headers do"
                ));
            }
            requirements.scope = Some(text.clone());
        }
        Ok(requirements)
    }

    pub(crate) fn max_cut_fraction(&self) -> Result<Option<f64>, String> {
        let Some(text) = &self.revocation_flags().max_cut_fraction else { return Ok(None) };
        match text.parse::<f64>() {
            Ok(fraction) if (0.0..=1.0).contains(&fraction) => Ok(Some(fraction)),
            Ok(_) | Err(_) => Err(format!(
                "{} {text:?}: write a number from 0 to 1, like 0.2 for a fifth of the live sessions",
                self.name("max_cut_fraction")
            )),
        }
    }

    pub(crate) fn max_denial_ttl(&self) -> Result<Duration, String> {
        let ttl = self.span("max_denial_ttl", self.revocation_flags().max_denial_ttl.as_ref())?;
        Ok(ttl.unwrap_or(sources::DEFAULT_MAX_DENIAL_TTL))
    }
}

pub(crate) fn bytes(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, *bits)));
    let (digits, bits) = unit.unwrap_or((text, 0));
    // `parse` would take a sign.
    let number: u64 =
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok()? } else { return None };
    number.checked_mul(1_u64.checked_shl(bits)?).filter(|bytes| *bytes > 0)
}

/// `--stale` as the flag spells it.
pub(crate) fn stale_written(stale: Stale) -> String {
    match stale {
        Stale::Deny => "deny".to_owned(),
        Stale::Grace(span) => format!("grace={}", crate::duration::written(span)),
        Stale::Serve => "serve".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::Flags;

    fn with(change: impl FnOnce(&mut RevocationFlags)) -> Flags {
        let mut flags = Flags::default();
        change(&mut flags.revocation);
        flags
    }

    #[test]
    fn stale_is_deny_grace_or_serve_and_nothing_else() {
        let stale = |text: &str| Reader(&with(|flags| flags.stale = Some(text.to_owned()))).stale();
        assert_eq!(Reader(&Flags::default()).stale(), Ok(Stale::Deny));
        let serving = with(|flags| flags.stale = Some("serve".to_owned()));
        assert_eq!(Reader(&serving).requirements().unwrap().stale, Stale::Serve);
        for text in ["deny", "grace=1h30m", "serve"] {
            assert_eq!(stale_written(stale(text).unwrap()), text);
        }
        for text in ["", "Deny", "grace", "grace=", "grace=5", "grace=0s", "serve=1h", "deny "] {
            let sentence = stale(text).unwrap_err();
            assert!(sentence.starts_with("--stale "), "{text:?}: {sentence}");
        }
    }

    #[test]
    fn a_limit_of_bytes_has_one_reading() {
        for (text, expected) in [("1", 1), ("4096", 4096), ("2KiB", 2048), ("512MiB", 512 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "0", "0MiB", "+5", "-1", "1.5MiB", "5MB", "5 MiB", "MiB", "99999999999999GiB", "１"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_threshold_lies_between_one_and_the_number_of_keys() {
        let read = |keys: usize, threshold: &str| {
            let flags = with(|flags| {
                flags.revocation_key = vec!["key.pem".to_owned(); keys];
                flags.revocation_threshold = Some(threshold.to_owned());
            });
            Reader(&flags).key_paths()
        };
        assert_eq!(read(3, "2").unwrap().threshold, 2);
        assert!(read(0, "1").unwrap_err().contains("without --revocation-key"));
        for threshold in ["0", "4", "two", "-1", ""] {
            assert!(read(3, threshold).unwrap_err().contains("from 1 to 3"), "{threshold}");
        }
        assert_eq!(Reader(&Flags::default()).key_paths(), Ok(KeyPaths { files: Vec::new(), threshold: 1 }));
    }

    #[test]
    fn a_fraction_is_a_number_from_zero_to_one() {
        let read =
            |text: &str| Reader(&with(|flags| flags.max_cut_fraction = Some(text.to_owned()))).max_cut_fraction();
        for text in ["0", "0.25", "1"] {
            assert!(read(text).unwrap().is_some(), "{text}");
        }
        for text in ["", "1.01", "-0.1", "NaN", "inf", "20%"] {
            assert!(read(text).unwrap_err().starts_with("--max-cut-fraction "), "{text}");
        }
    }

    #[test]
    fn a_scope_is_a_word() {
        let read = |text: &str| Reader(&with(|flags| flags.revocation_scope = Some(text.to_owned()))).requirements();
        assert_eq!(read("prod-eu.1").unwrap().scope.as_deref(), Some("prod-eu.1"));
        for text in ["", "a b", "prod/eu", &"x".repeat(65)] {
            assert!(read(text).unwrap_err().starts_with("--revocation-scope "), "{text}");
        }
    }
}
