//! `portcullis run`: load, publish, serve, watch, until a signal ends it.
//!
//! Called by `main.rs`. The main thread carries the endpoint, the signals and the watchdog; sessions live on the
//! workers' threads of `proxy`. It must never touch a session.

use std::sync::Arc;
use std::time::Duration;

use control::{Endpoint, Watched};
use proxy::{Clock, Live, Metrics, Running};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use trust::{Allow, CrlCoverage, IdentityPattern, Speaks};

use crate::args::Flags;
use crate::log::Log;
use crate::resolve::{Settings, resolve};
use crate::{Failure, duration, inbound, log};

/// Issuers of CRLs that wait to be looked at; each costs one signature check, and there are few in any PKI.
const INTRODUCTIONS: usize = 64;
/// How often the watchdog looks, and how often dropped lines are counted.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row that found a worker's loop stuck: with the ten seconds after which `proxy` calls it stuck, forty
/// seconds of a stuck loop end the process. A suspended machine does not: after it every loop turns again within one.
const STUCK_LOOKS: u32 = 30;

/// Runs the proxy.
pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    let settings = resolve(flags)?;
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
    let Settings { traffic, policy, paths, observe, .. } = settings;
    let signals = Signals::listen().map_err(Failure::AtStart)?;
    let clock = Clock::real();
    let loaded = sources::load(&paths, clock.now()).map_err(|failure| Failure::AtStart(failure.0))?;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::AtStart(format!("the metrics cannot be made ({error})")))?;
    let metrics = Arc::new(metrics);
    let (introductions, receiver) = mpsc::channel(INTRODUCTIONS);
    let state = (loaded.bundle, loaded.knowledge, Arc::new(policy));
    let live = Live::new(state, loaded.credential, introductions, clock);
    // Bound before the traffic starts: whoever asks `/readyz` early waits instead of being refused.
    let endpoint = Endpoint::bind(observe).await.map_err(Failure::AtStart)?;
    let running = proxy::start(traffic, Arc::clone(&live), Arc::clone(&metrics))
        .map_err(|failure| Failure::AtStart(failure.0))?;
    described.log(running.addresses(), endpoint.address());
    for warning in &loaded.warnings {
        tracing::warn!(event = "load_warning", "{warning}");
    }
    let watching = sources::watch(paths, loaded.library, Arc::clone(&live), receiver, Arc::clone(&metrics));
    let _watching = watching.map_err(|failure| Failure::AtStart(failure.0))?;
    tokio::spawn(endpoint.serve(Watched::new(live, Arc::clone(&metrics), Arc::clone(&running))));
    let ended = until_the_end(signals, &running, || metrics.log_lines_dropped(log.dropped_lines())).await;
    metrics.log_lines_dropped(log.dropped_lines());
    ended
}

async fn until_the_end(mut signals: Signals, running: &Running, count_dropped_lines: impl Fn()) -> Result<(), Failure> {
    let mut looks = tokio::time::interval(LOOK);
    let mut stuck = 0;
    let name = loop {
        tokio::select! {
            name = signals.next() => break name,
            _ = looks.tick() => {
                count_dropped_lines();
                stuck = watchdog(running, stuck)?;
            }
        }
    };
    tracing::info!(event = "stopping", signal = name, "stopping: open requests may end, a second signal ends at once");
    tokio::select! {
        () = running.stop() => {
            tracing::info!(event = "stopped", "stopped");
            Ok(())
        }
        name = signals.next() => Err(Failure::WhileRunning(format!("ended at once by a second signal ({name})"))),
    }
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

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, String> {
        let on = |kind| signal(kind).map_err(|error| format!("signals cannot be listened to ({error})"));
        Ok(Signals { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The effective configuration in words: paths and names, never what a key file holds.
struct Described {
    inbounds: String,
    workers: usize,
    credential: String,
    client_cas: String,
    allow: String,
    revocations: String,
    crl_coverage: &'static str,
    limits: [String; 4],
    log_level: LevelFilter,
    checks_nothing: bool,
}

impl Described {
    fn of(settings: &Settings) -> Described {
        let Settings { traffic, policy, paths, log_level, .. } = settings;
        let span = |limit: Option<Duration>| limit.map_or_else(|| "none".to_owned(), duration::written);
        Described {
            inbounds: joined(traffic.inbounds.iter().map(inbound::written)),
            workers: traffic.workers,
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
            limits: [
                span(policy.snapshot_max_age),
                span(policy.max_session_age),
                span(policy.max_certificate_age),
                span(policy.idle_timeout),
            ],
            log_level: *log_level,
            checks_nothing: paths.no_revocations,
        }
    }

    fn log(&self, listening: &[std::net::SocketAddr], observe: std::net::SocketAddr) {
        let [snapshot_max_age, max_session_age, max_certificate_age, idle_timeout] = &self.limits;
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
            snapshot_max_age,
            max_session_age,
            max_certificate_age,
            idle_timeout,
            workers = self.workers,
            observe = %observe,
            log_level = %self.log_level,
            "started"
        );
        if self.checks_nothing {
            tracing::warn!(
                event = "revocations_disabled",
                "--no-revocations: a revoked certificate passes until it expires; give --revocations to check"
            );
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
