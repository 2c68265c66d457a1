//! From flags, as text, to settings that are valid.
//!
//! Called by `run.rs` and `check.rs`. Every refusal is one sentence that names the flag, or its twin in the environment
//! if the value came from there, and the remedy. It must never open a file: that is `sources`' part.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control::{AppProbes, Bypass};
use proxy::{Config, Inbound};
use sources::{CredentialPaths, Paths};
use tracing::level_filters::LevelFilter;
use trust::{Allow, CrlCoverage, IdentityError, IdentityPattern, Policy, Speaks};

use crate::args::Flags;
use crate::control_flags::ControlSettings;
use crate::pod_flags::{BypassCheck, around};
use crate::revocation_flags::KeyPaths;
use crate::{Failure, duration, inbound};

/// IANA and Prometheus know no registered port for us; 9464 is the one OpenTelemetry's exporter made usual.
const DEFAULT_OBSERVE: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9464));
/// Threads beyond this are a slip of the keyboard on any machine that one pod gets.
const MOST_WORKERS: usize = 1024;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything the flags say.
pub(crate) struct Settings {
    /// For the traffic.
    pub(crate) traffic: Config,
    /// For the judge.
    pub(crate) policy: Policy,
    /// For the sources; without the keys that sign lists.
    pub(crate) paths: Paths,
    /// Those keys, still to be read.
    pub(crate) revocation_keys: KeyPaths,
    /// From a signal to the end of new connections.
    pub(crate) drain_delay: Duration,
    /// Where metrics and probes are served.
    pub(crate) observe: SocketAddr,
    /// What is asked of the app on kubelet's behalf.
    pub(crate) app_probes: AppProbes,
    /// Who looks whether the app can be reached around the proxy, if anybody.
    pub(crate) bypass: Option<Arc<Bypass>>,
    /// Where operators come in, if anywhere.
    pub(crate) control: Option<ControlSettings>,
    /// `None`: text at a terminal, else JSON.
    pub(crate) log_format: Option<LogFormat>,
    /// The least important lines that are written.
    pub(crate) log_level: LevelFilter,
}

impl Settings {
    /// With the keys that sign lists: read once, before anything is loaded.
    pub(crate) fn with_keys(mut self) -> Result<Settings, Failure> {
        let KeyPaths { files, threshold } = &self.revocation_keys;
        self.paths.requirements.keys =
            sources::read_keys(files, *threshold).map_err(|failure| Failure::AtStart(failure.0))?;
        Ok(self)
    }
}

/// Reads and cross-checks all flags.
pub(crate) fn resolve(flags: &Flags) -> Result<Settings, Failure> {
    let reader = Reader(flags);
    let settings = reader.settings().map_err(Failure::AtStart)?;
    Ok(settings)
}

/// Reads flags one by one; those about revocation knowledge in `revocation_flags.rs`.
pub(crate) struct Reader<'a>(pub(crate) &'a Flags);

impl Reader<'_> {
    fn settings(&self) -> Result<Settings, String> {
        let flags = self.0;
        let observe = self.observe()?;
        let mut inbounds = self.inbounds(observe)?;
        let pod_addresses = self.pod_addresses()?;
        self.lead_to(&mut inbounds, &pod_addresses)?;
        let bypass_check = self.bypass_check(&pod_addresses)?;
        let places = around(&inbounds, &pod_addresses, self.redirect_check_port()?);
        let bypass = || Bypass::new(places, bypass_check == BypassCheck::Enforce);
        Ok(Settings {
            bypass: (bypass_check != BypassCheck::Off).then(bypass),
            paths: Paths {
                credential: self.credential()?,
                client_cas: self.client_cas()?,
                revocations: self.revocations()?,
                no_revocations: flags.no_revocations,
                state_dir: self.state_dir()?,
                requirements: self.requirements()?,
                max_cut_fraction: self.max_cut_fraction()?,
                max_denial_ttl: self.max_denial_ttl()?,
            },
            revocation_keys: self.key_paths()?,
            policy: self.policy()?,
            traffic: Config {
                inbounds,
                workers: self.workers()?,
                allow_connect: flags.allow_connect,
                limits: self.with_ends(self.limits()?)?,
            },
            drain_delay: self.drain_delay()?,
            observe,
            app_probes: self.app_probes(&pod_addresses)?,
            control: self.control()?,
            log_format: self.log_format()?,
            log_level: self.log_level()?,
        })
    }

    /// The flag's name, or its twin's if the value came from the environment.
    pub(crate) fn name(&self, id: &str) -> String {
        if self.0.from_environment.contains(id) {
            return format!("PORTCULLIS_{}", id.to_ascii_uppercase());
        }
        format!("--{}", id.replace('_', "-"))
    }

    fn inbounds(&self, observe: SocketAddr) -> Result<Vec<Inbound>, String> {
        let name = self.name("inbound");
        if self.0.inbound.is_empty() {
            return Err("no --inbound is given; say where clients come in and which app they reach, like --inbound \
                        0.0.0.0:8443=127.0.0.1:8080"
                .to_owned());
        }
        let mut taken = HashSet::new();
        let mut inbounds = Vec::new();
        for text in &self.0.inbound {
            let inbound = inbound::parse(text).map_err(|why| format!("{name} {text:?}: {why}"))?;
            // Port 0 is a different port each time.
            if inbound.listen.port() != 0 && !taken.insert(inbound.listen) {
                return Err(format!(
                    "{name} names {} twice; every inbound needs an address of its own",
                    inbound.listen
                ));
            }
            if inbound.listen == observe && observe.port() != 0 {
                return Err(format!(
                    "{name} listens on {observe}, and so does {}; choose another address for one of them",
                    self.name("observe")
                ));
            }
            inbounds.push(inbound);
        }
        Ok(inbounds)
    }

    fn credential(&self) -> Result<CredentialPaths, String> {
        let flags = self.0;
        match (&flags.cert, &flags.key, &flags.credential_bundle) {
            (Some(cert), Some(key), None) => {
                Ok(CredentialPaths::CertAndKey { cert: self.path("cert", cert)?, key: self.path("key", key)? })
            }
            (None, None, Some(bundle)) => Ok(CredentialPaths::Bundle(self.path("credential_bundle", bundle)?)),
            (None, None, None) => Err("the proxy has no certificate of its own; give --cert and --key, or \
                                       --credential-bundle"
                .to_owned()),
            (Some(_), None, None) => Err(format!("{} is given without --key; give both", self.name("cert"))),
            (None, Some(_), None) => Err(format!("{} is given without --cert; give both", self.name("key"))),
            (cert, _, Some(_)) => {
                let other = self.name(if cert.is_some() { "cert" } else { "key" });
                Err(format!("{} is given beside {other}; give one form of credential", self.name("credential_bundle")))
            }
        }
    }

    pub(crate) fn path(&self, id: &str, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err(format!("{} is empty; write a path", self.name(id)));
        }
        Ok(PathBuf::from(text))
    }

    fn client_cas(&self) -> Result<Vec<(Speaks, PathBuf)>, String> {
        if self.0.client_ca.is_empty() {
            return Err("no --client-ca is given; name the anchors that vouch for clients, a PEM file or a folder of \
                        them"
                .to_owned());
        }
        let name = self.name("client_ca");
        let one = |text: &String| match text.split_once('=') {
            None => Ok((Speaks::ForAnybody, self.path("client_ca", text)?)),
            Some((domain, path)) => {
                // The strict reading of a whole ID is the only one that `trust` offers for a domain; a path like
                // `./a` would pass there for a domain and the beginning of an ID.
                let read = match domain.contains('/') {
                    true => Err(IdentityError::new("a trust domain has no '/'")),
                    false => IdentityPattern::parse_spiffe(&format!("spiffe://{domain}/*")),
                };
                read.map_err(|why| {
                    format!(
                        "{name} {text:?}: {domain:?} before the first '=' is no trust domain ({why}); a path with '=' \
                         needs a trust domain before it, or another name"
                    )
                })?;
                Ok((Speaks::ForTrustDomain(domain.to_owned()), self.path("client_ca", path)?))
            }
        };
        self.0.client_ca.iter().map(one).collect()
    }

    fn revocations(&self) -> Result<Vec<PathBuf>, String> {
        let flags = self.0;
        if flags.revocations.is_empty() && !flags.no_revocations {
            return Err("nothing says what is revoked; give --revocations with a file or folder, or --no-revocations \
                        to check none"
                .to_owned());
        }
        if !flags.revocations.is_empty() && flags.no_revocations {
            return Err(format!(
                "{} is given beside {}; leave one of them out",
                self.name("no_revocations"),
                self.name("revocations")
            ));
        }
        flags.revocations.iter().map(|text| self.path("revocations", text)).collect()
    }

    fn policy(&self) -> Result<Policy, String> {
        let flags = self.0;
        Ok(Policy {
            allow: self.allow()?,
            crl_coverage: match flags.crl_coverage.as_deref() {
                None | Some("all") => CrlCoverage::All,
                Some("leaf") => CrlCoverage::Leaf,
                Some("none") => CrlCoverage::None,
                Some(other) => {
                    return Err(format!(
                        "{} {other:?} is not known; choose all, leaf or none",
                        self.name("crl_coverage")
                    ));
                }
            },
            stale: self.stale()?,
            snapshot_max_age: self.span("snapshot_max_age", flags.snapshot_max_age.as_ref())?,
            max_session_age: self.span("max_session_age", flags.max_session_age.as_ref())?,
            max_certificate_age: self.span("max_certificate_age", flags.max_certificate_age.as_ref())?,
            idle_timeout: self.span("idle_timeout", flags.idle_timeout.as_ref())?,
        })
    }

    fn allow(&self) -> Result<Allow, String> {
        let flags = self.0;
        match (flags.allow.is_empty(), flags.allow_any) {
            (true, true) => Ok(Allow::Anybody),
            (true, false) => Err("nothing says who may come in; give --allow with an identity, like --allow \
                                  uri:spiffe://td/ns/*, or --allow-any for any client that the anchors vouch for"
                .to_owned()),
            (false, true) => {
                Err(format!("{} is given beside {}; leave one of them out", self.name("allow_any"), self.name("allow")))
            }
            (false, false) => {
                let one = |text: &String| {
                    IdentityPattern::parse(text).map_err(|why| format!("{} {text:?}: {why}", self.name("allow")))
                };
                flags.allow.iter().map(one).collect::<Result<_, _>>().map(Allow::Only)
            }
        }
    }

    pub(crate) fn span(&self, id: &str, text: Option<&String>) -> Result<Option<Duration>, String> {
        let read = |text: &String| duration::parse(text).map_err(|why| format!("{} {text:?}: {why}", self.name(id)));
        text.map(read).transpose()
    }

    fn workers(&self) -> Result<usize, String> {
        let Some(text) = &self.0.workers else {
            // On Linux the standard library honours the affinity mask and the CPU quota of cgroup v1 and v2.
            return Ok(std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_WORKERS));
        };
        match text.parse() {
            Ok(count @ 1..=MOST_WORKERS) => Ok(count),
            Ok(_) | Err(_) => {
                Err(format!("{} {text:?}: write a whole number from 1 to {MOST_WORKERS}", self.name("workers")))
            }
        }
    }

    fn observe(&self) -> Result<SocketAddr, String> {
        let Some(text) = &self.0.observe else { return Ok(DEFAULT_OBSERVE) };
        text.parse().map_err(|_| {
            format!("{} {text:?} is no address; write IP:PORT, like 127.0.0.1:9464 or [::1]:9464", self.name("observe"))
        })
    }

    pub(crate) fn log_format(&self) -> Result<Option<LogFormat>, String> {
        match self.0.log_format.as_deref() {
            None => Ok(None),
            Some("text") => Ok(Some(LogFormat::Text)),
            Some("json") => Ok(Some(LogFormat::Json)),
            Some(other) => Err(format!("{} {other:?} is not known; choose text or json", self.name("log_format"))),
        }
    }

    pub(crate) fn log_level(&self) -> Result<LevelFilter, String> {
        match self.0.log_level.as_deref() {
            None | Some("info") => Ok(LevelFilter::INFO),
            Some("error") => Ok(LevelFilter::ERROR),
            Some("warn") => Ok(LevelFilter::WARN),
            Some("debug") => Ok(LevelFilter::DEBUG),
            Some("trace") => Ok(LevelFilter::TRACE),
            Some(other) => Err(format!(
                "{} {other:?} is not known; choose error, warn, info, debug or trace",
                self.name("log_level")
            )),
        }
    }
}
