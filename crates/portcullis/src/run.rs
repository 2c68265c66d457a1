//! `portcullis run`: load, publish, serve, watch, until a signal ends it.
//!
//! Called by `main.rs`. The main thread carries the endpoint, the signals and the watchdog; sessions live on the
//! workers' threads of `proxy`. It must never touch a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use control::{ControlAddress, Endpoint, Sidecar, Watched};
use proxy::{Clock, Live, Metrics, Running};
use sources::Watching;
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use trust::{Allow, CrlCoverage, IdentityPattern, Speaks};

use crate::args::Flags;
use crate::ending::{Signals, end_gently};
use crate::log::Log;
use crate::operators::Operators;
use crate::resolve::{Settings, resolve};
use crate::revocation_flags::stale_written;
use crate::{Failure, descriptors, duration, inbound, limit_flags, log, panics};

/// Issuers of CRLs that wait to be looked at; each costs one signature check, and there are few in any PKI.
const INTRODUCTIONS: usize = 64;
/// How often the watchdog looks, and how often dropped lines are counted.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row that found a worker's loop stuck: with the ten seconds after which `proxy` calls it stuck, forty
/// seconds of a stuck loop end the process. A suspended machine does not: after it every loop turns again within one.
const STUCK_LOOKS: u32 = 30;

/// Runs the proxy.
pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    let settings = resolve(flags)?.with_keys()?;
    let log = log::start(settings.log_format, settings.log_level).map_err(Failure::AtStart)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::AtStart(format!("the main thread's runtime cannot start ({error})")))?;
    let ended = runtime.block_on(serve(settings, &log));
    // Tasks of the endpoint may still wait for their readers; nobody waits for them.
    runtime.shutdown_background();
    log.end();
    ended
}

async fn serve(settings: Settings, log: &Log) -> Result<(), Failure> {
    let described = Described::of(&settings);
    let Settings { mut traffic, policy, paths, drain_delay, observe, app_probes, bypass, control, .. } = settings;
    let signals = Signals::listen().map_err(Failure::AtStart)?;
    let clock = Clock::real();
    let loaded = sources::load(&paths, clock.now()).map_err(|failure| Failure::AtStart(failure.0))?;
    let operators = Operators::prepare(control, clock.now()).await?;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::AtStart(format!("the metrics cannot be made ({error})")))?;
    let metrics = Arc::new(metrics);
    panics::tell(Arc::clone(&metrics));
    let (introductions, receiver) = mpsc::channel(INTRODUCTIONS);
    let state = (loaded.bundle, loaded.knowledge, Arc::new(policy));
    let live = Live::new(state, loaded.credential, introductions, clock);
    // Before the traffic starts: denials that outlived a restart are in force from the first session on.
    let watching = sources::watch(paths, loaded.library, (Arc::clone(&live), receiver), Arc::clone(&metrics))
        .map_err(|failure| Failure::AtStart(failure.0))?;
    // Bound before the traffic starts: whoever asks `/readyz` early waits instead of being refused.
    let endpoint = Endpoint::bind(observe).await.map_err(Failure::AtStart)?;
    traffic.limits.descriptors = descriptors::raise(&traffic.limits);
    let too_few = descriptors::warning(&traffic.limits);
    let running = proxy::start(traffic, Arc::clone(&live), Arc::clone(&metrics))
        .map_err(|failure| Failure::AtStart(failure.0))?;
    described.log(running.addresses(), endpoint.address(), operators.as_ref().map(Operators::address));
    for warning in loaded.warnings.iter().chain(&too_few).chain(operators.iter().flat_map(Operators::warnings)) {
        tracing::warn!(event = "load_warning", "{warning}");
    }
    let listening = running.addresses().to_vec();
    let sidecar = Sidecar { desk: watching.desk(), live: Arc::clone(&live), listening };
    let control = operators.map(|operators| tokio::spawn(operators.serve(sidecar)));
    let watched = Watched {
        live,
        metrics: Arc::clone(&metrics),
        running: Arc::clone(&running),
        desk: watching.desk(),
        app_probes,
        bypass: bypass.clone(),
    };
    if let Some(bypass) = bypass {
        tokio::spawn(bypass.look_for_ever(Arc::clone(&metrics), running.own_dials()));
    }
    tokio::spawn(endpoint.serve(Arc::new(watched)));
    let count_dropped_lines = || metrics.log_lines_dropped(log.dropped_lines());
    let ended = until_the_end((signals, drain_delay), (&running, &watching), count_dropped_lines).await;
    metrics.log_lines_dropped(log.dropped_lines());
    if let Some(control) = control {
        // Its socket file goes with it.
        control.abort();
        let _ = control.await;
    }
    drop(watching);
    ended
}

async fn until_the_end(
    (mut signals, drain_delay): (Signals, Duration),
    (running, watching): (&Running, &Watching),
    count_dropped_lines: impl Fn(),
) -> Result<(), Failure> {
    let mut looks = tokio::time::interval(LOOK);
    let mut stuck = 0;
    let wish = loop {
        tokio::select! {
            wish = signals.next() => break wish,
            _ = looks.tick() => {
                count_dropped_lines();
                stuck = watchdog(running, stuck)?;
                still_watching(watching.has_ended())?;
            }
        }
    };
    end_gently(&mut signals, wish, running, drain_delay).await
}

/// How many looks in a row found a worker stuck, this one included; too many are a failure.
fn watchdog(running: &Running, stuck: u32) -> Result<u32, Failure> {
    let Err(worker) = running.alive() else { return Ok(0) };
    if stuck == 0 {
        tracing::error!(event = "worker_stuck", worker, "the loop of a worker has not turned for ten seconds");
    }
    if stuck < STUCK_LOOKS {
        return Ok(stuck + 1);
    }
    Err(Failure::WhileRunning(format!(
        "the loop of worker {worker} has not turned for forty seconds; start again, and report it with the log"
    )))
}

/// Nobody would be revoked any more by a proxy that goes on without its sources. To exit says so to whoever runs it,
/// with or without probes, and a new start reads every file again.
fn still_watching(ended: bool) -> Result<(), Failure> {
    if !ended {
        return Ok(());
    }
    Err(Failure::WhileRunning(
        "the thread that watches files has ended by a panic, nothing new would come into force; start again, and report \
         it with the log"
            .to_owned(),
    ))
}

/// The effective configuration in words: paths and names, never what a key file holds.
struct Described {
    inbounds: String,
    control_allow: Vec<String>,
    workers: usize,
    traffic_limits: String,
    credential: String,
    client_cas: String,
    allow: String,
    revocations: String,
    crl_coverage: &'static str,
    knowledge: DescribedKnowledge,
    limits: [String; 4],
    ends: [String; 3],
    app_probes: String,
    log_level: LevelFilter,
    checks_nothing: bool,
}

impl Described {
    fn of(settings: &Settings) -> Described {
        let Settings { traffic, policy, paths, log_level, .. } = settings;
        let span = |limit: Option<Duration>| limit.map_or_else(|| "none".to_owned(), duration::written);
        Described {
            control_allow: settings.control.iter().flat_map(|control| control.granted()).collect(),
            inbounds: joined(traffic.inbounds.iter().map(inbound::written)),
            workers: traffic.workers,
            traffic_limits: limit_flags::written(&traffic.limits),
            credential: match &paths.credential {
                sources::CredentialPaths::CertAndKey { cert, key } => {
                    format!("{} with key {}", cert.display(), key.display())
                }
                sources::CredentialPaths::Bundle(path) => path.display().to_string(),
            },
            client_cas: joined(paths.client_cas.iter().map(|(speaks, path)| match speaks {
                Speaks::ForAnybody => path.display().to_string(),
                Speaks::ForTrustDomain(domain) => format!("{domain}={}", path.display()),
            })),
            allow: match &policy.allow {
                Allow::Anybody => "any client that the anchors vouch for".to_owned(),
                Allow::Only(patterns) => joined(patterns.iter().map(pattern)),
            },
            revocations: joined(paths.revocations.iter().map(|path| path.display().to_string())),
            crl_coverage: coverage(policy.crl_coverage),
            knowledge: DescribedKnowledge::of(settings),
            limits: [
                span(policy.snapshot_max_age),
                span(policy.max_session_age),
                span(policy.max_certificate_age),
                span(policy.idle_timeout),
            ],
            ends: [traffic.limits.drain, settings.drain_delay, traffic.limits.stop].map(duration::written),
            app_probes: joined(settings.app_probes.names().map(str::to_owned)),
            log_level: *log_level,
            checks_nothing: paths.no_revocations,
        }
    }

    fn log(&self, listening: &[SocketAddr], observe: SocketAddr, control: Option<&ControlAddress>) {
        let [snapshot_max_age, max_session_age, max_certificate_age, idle_timeout] = &self.limits;
        let [drain, drain_delay, stop_timeout] = &self.ends;
        tracing::info!(
            event = "start",
            version = env!("CARGO_PKG_VERSION"),
            inbound = self.inbounds,
            listening = joined(listening.iter().map(ToString::to_string)),
            credential = self.credential,
            client_ca = self.client_cas,
            allow = self.allow,
            revocations = if self.checks_nothing { "not checked" } else { &self.revocations },
            crl_coverage = self.crl_coverage,
            revocation_key = self.knowledge.keys,
            revocation_threshold = self.knowledge.threshold,
            revocation_scope = self.knowledge.scope,
            revocation_max_bytes = self.knowledge.max_bytes,
            state_dir = self.knowledge.state_dir,
            stale = self.knowledge.stale,
            max_cut_fraction = self.knowledge.max_cut_fraction,
            max_denial_ttl = self.knowledge.max_denial_ttl,
            snapshot_max_age,
            max_session_age,
            max_certificate_age,
            idle_timeout,
            drain,
            drain_delay,
            stop_timeout,
            workers = self.workers,
            limits = self.traffic_limits,
            observe = %observe,
            app_probes = self.app_probes,
            control = control.map_or_else(|| "none".to_owned(), ToString::to_string),
            control_allow = self.control_allow.join(" "),
            log_level = %self.log_level,
            "started"
        );
        if self.checks_nothing {
            tracing::warn!(
                event = "revocations_disabled",
                "--no-revocations: a revoked certificate passes until it expires; give --revocations to check"
            );
        }
        if self.knowledge.serves_stale {
            tracing::warn!(
                event = "stale_served",
                "--stale serve: knowledge past its expiry stays in force without end, and whoever was revoked since \
                 comes in; choose deny or grace=DUR to set it an end"
            );
        }
    }
}

/// What is said of revocation knowledge.
struct DescribedKnowledge {
    keys: String,
    threshold: Option<usize>,
    scope: Option<String>,
    max_bytes: u64,
    state_dir: String,
    stale: String,
    serves_stale: bool,
    max_cut_fraction: Option<f64>,
    max_denial_ttl: String,
}

impl DescribedKnowledge {
    fn of(settings: &Settings) -> DescribedKnowledge {
        let Settings { policy, paths, revocation_keys, .. } = settings;
        let signed = !revocation_keys.files.is_empty();
        DescribedKnowledge {
            keys: match signed {
                true => joined(revocation_keys.files.iter().map(|path| path.display().to_string())),
                false => "none, lists need no signature".to_owned(),
            },
            threshold: signed.then_some(revocation_keys.threshold),
            scope: paths.requirements.scope.clone(),
            max_bytes: paths.requirements.max_bytes,
            state_dir: match &paths.state_dir {
                Some(path) => path.display().to_string(),
                None => "none, a restart knows only the files".to_owned(),
            },
            stale: stale_written(policy.stale),
            serves_stale: policy.stale == trust::Stale::Serve,
            max_cut_fraction: paths.max_cut_fraction,
            max_denial_ttl: duration::written(paths.max_denial_ttl),
        }
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

/// An identity pattern as the flag spells it.
pub(crate) fn pattern(pattern: &IdentityPattern) -> String {
    match pattern {
        IdentityPattern::Exact(identity) => identity.typed().to_owned(),
        IdentityPattern::Below(prefix) => format!("uri:{prefix}*"),
    }
}

fn coverage(coverage: CrlCoverage) -> &'static str {
    match coverage {
        CrlCoverage::All => "all",
        CrlCoverage::Leaf => "leaf",
        CrlCoverage::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_ended_by_itself_ends_the_program_with_a_sentence() {
        assert!(still_watching(false).is_ok());
        let ended = still_watching(true);
        assert!(matches!(&ended, Err(Failure::WhileRunning(why)) if why.contains("start again")), "{ended:?}");
    }
}
