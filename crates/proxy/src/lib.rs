//! The traffic: from a client's socket to the app's, only while the session is trusted.
//!
//! `portcullis` calls [`start`]; `sources` publishes through [`Live`]; `control` reads [`Live`], [`Metrics`] and
//! [`Running`]. Start reading at `request.rs`, the way of one request.
//!
//! Invariants: trust is decided in `trust` and nowhere here; nothing is forwarded without a [`trust::Permit`];
//! a session never leaves its worker; the clock is read in `clock.rs` only.

mod accept_failures;
mod anew;
mod app;
mod audit;
mod body;
mod bounds;
mod clock;
mod config;
mod connection;
mod descriptors;
mod doorman;
mod doorstep;
mod drain;
mod ending_metrics;
mod entrance;
mod fault;
mod forward;
mod framed;
mod frames;
mod gate;
mod handshake;
mod headers;
mod http1;
mod http2;
mod linger;
mod listener;
mod live;
mod metrics;
mod negotiated;
mod observe;
mod parting;
mod path;
mod pod_metrics;
mod preview;
mod proxy_protocol;
mod redirect;
mod refuse;
mod remainder;
mod request;
mod revocation_metrics;
mod roll_call;
mod roster;
mod shares;
mod sieve;
mod socket;
mod state_metrics;
mod sweep;
mod tcp;
mod tunnel;
mod tunnel_client;
mod upgrade;
mod websocket;
mod wire;
mod worker;

pub use clock::Clock;
pub use config::{AppAddress, Config, Inbound, Limits, Protocol, Tcp};
pub use doorman::{Doorman, Guest, GuestStream, Turned};
pub use live::{Credential, Introduction, Live, Published};
pub use metrics::{Metrics, ReloadResult, ReloadSource};
pub use negotiated::Negotiated;
pub use preview::{Preview, PreviewedCut};
pub use redirect::OwnDials;
pub use roster::{Ended, EndedSession, Order, Roster, Row, Wanted};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use shares::Shares;
use worker::Vitals;

/// Why the traffic cannot start: one sentence with the flag and the remedy.
#[derive(Debug)]
pub struct StartFailure(pub String);

/// A worker whose loop has not turned for so long is stuck: it turns once a second.
const STUCK: Duration = Duration::from_secs(10);

/// The running traffic.
pub struct Running {
    addresses: Vec<SocketAddr>,
    vitals: Vec<Arc<Vitals>>,
    /// The beats counted last, and when they last changed.
    pulse: Mutex<Vec<(u64, Instant)>>,
    ending: AtomicBool,
    stop: watch::Sender<bool>,
    own_dials: Arc<OwnDials>,
    gone: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Running {
    /// The addresses listened on, in the order of the configuration's inbounds.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where own dials are announced, so that they are known if they come back.
    #[must_use]
    pub fn own_dials(&self) -> Arc<OwnDials> {
        Arc::clone(&self.own_dials)
    }

    /// Whether every worker's loop turned within the last ten seconds; else the number of one that did not.
    pub fn alive(&self) -> Result<(), usize> {
        let mut pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, (vitals, last)) in self.vitals.iter().zip(pulse.iter_mut()).enumerate() {
            let beats = vitals.beats.load(Ordering::Relaxed);
            if beats != last.0 {
                *last = (beats, clock::monotonic());
            } else if last.1.elapsed() >= STUCK {
                return Err(number);
            }
        }
        Ok(())
    }

    /// Whether the end was announced or [`Running::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// From now on `/readyz` says no, while new connections are served as before: whoever sends them learns late that
    /// they are to go elsewhere.
    pub fn announce_end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Stops accepting, asks clients to leave, each at its moment, lets open requests end within `Limits::stop`, then
    /// closes; returns when all is closed.
    pub async fn stop(&self) {
        self.announce_end();
        self.stop.send_replace(true);
        let mut gone = self.gone.lock().await;
        // Workers send nothing: the channel ends with the last of them.
        while gone.recv().await.is_some() {}
    }
}

/// Binds every inbound and starts acceptor and workers on threads of their own. Works outside of a runtime.
pub fn start(mut config: Config, live: Arc<Live>, metrics: Arc<Metrics>) -> Result<Arc<Running>, StartFailure> {
    handshake::warm_up();
    // What one worker keeps for later must not be missing to another.
    let idle = config.limits.app_connections / config.workers.max(1) / 2;
    config.limits.app_idle_connections = config.limits.app_idle_connections.min(idle);
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for inbound in &config.inbounds {
        let bound = listener::bind(inbound.listen).and_then(|bound| Ok((bound.local_addr()?, bound)));
        let (address, bound) = bound.map_err(|error| {
            let listen = inbound.listen;
            StartFailure(format!("--inbound {listen}: cannot listen there ({error}); choose a free address and port"))
        })?;
        addresses.push(address);
        listeners.push(bound);
    }
    let (gone, last) = mpsc::channel(1);
    let shares = Shares::new(&config.limits);
    let own_dials = Arc::clone(&shares.own_dials);
    let mut desks = Vec::new();
    for number in 0..config.workers {
        desks.push(listener::start_worker(number, (&config, &shares), (&live, &metrics), gone.clone())?);
    }
    let vitals: Vec<_> = desks.iter().map(|desk| desk.vitals.clone()).collect();
    let (stop, stopping) = watch::channel(false);
    let acceptor = (&metrics, config.limits.descriptors);
    listener::start_acceptor(listeners, (desks, shares), acceptor, stopping)?;
    let pulse = vitals.iter().map(|_| (0, clock::monotonic())).collect();
    let (pulse, gone) = (Mutex::new(pulse), tokio::sync::Mutex::new(last));
    Ok(Arc::new(Running { addresses, vitals, pulse, ending: AtomicBool::new(false), stop, own_dials, gone }))
}
