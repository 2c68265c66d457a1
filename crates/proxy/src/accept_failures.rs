//! Connections that could not be accepted: counted each, told at the beginning, then once in ten seconds, and at the end.
//!
//! Used by `listener.rs`, one for each listening socket. While descriptors are short this happens twenty times a second.

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::monotonic;
use crate::descriptors::leaves_enough;
use crate::metrics::Metrics;

const REPEAT: Duration = Duration::from_secs(10);
/// Clients' sockets may use three of four descriptors: the requests of those who are in need some to the app.
const CLIENTS: (u64, u64) = (3, 4);

pub(crate) struct AcceptFailures {
    metrics: Arc<Metrics>,
    /// Descriptors that clients' sockets may use.
    descriptors: u64,
    /// When it was told last.
    told: Cell<Option<Instant>>,
    /// Since then.
    untold: Cell<u64>,
}

impl AcceptFailures {
    pub(crate) fn new(metrics: Arc<Metrics>, descriptors: u64) -> AcceptFailures {
        let descriptors = descriptors.saturating_mul(CLIENTS.0) / CLIENTS.1;
        AcceptFailures { metrics, descriptors, told: Cell::new(None), untold: Cell::new(0) }
    }

    /// Whether this socket may stay; one that may not is a failure, and is reset: a close would wait for its client.
    pub(crate) fn leaves_enough(&self, socket: &TcpStream) -> bool {
        let enough = leaves_enough(socket, self.descriptors);
        if !enough {
            // A failure leaves the ordinary close: nothing better can be done.
            let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
            self.failed(&io::Error::other("too few descriptors are left"));
        }
        enough
    }

    /// One more.
    pub(crate) fn failed(&self, error: &io::Error) {
        self.metrics.endings.accept_failed();
        let failures = self.untold.get() + 1;
        self.untold.set(failures);
        if self.told.get().is_none_or(|told| told.elapsed() >= REPEAT) {
            self.told.set(Some(monotonic()));
            self.untold.set(0);
            tracing::error!(
                target: "portcullis",
                event = "accept_failed",
                error = error.to_string(),
                failures,
                "new connections fail, sessions go on; raise the limit on open files, or lower the one on connections"
            );
        }
    }

    /// A connection was accepted.
    pub(crate) fn recovered(&self) {
        if self.told.take().is_some() {
            self.untold.set(0);
            tracing::info!(target: "portcullis", event = "accept_recovered", "new connections are accepted again");
        }
    }
}
