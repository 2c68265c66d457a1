//! Connections that could not be accepted: counted each, told at the beginning, then once in ten seconds, and at the end.
//!
//! Used by `listener.rs`, one for each listening socket. While descriptors are short this happens twenty times a second.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::monotonic;
use crate::metrics::Metrics;

const REPEAT: Duration = Duration::from_secs(10);

pub(crate) struct AcceptFailures {
    metrics: Arc<Metrics>,
    /// When it was told last.
    told: Cell<Option<Instant>>,
    /// Since then.
    untold: Cell<u64>,
}

impl AcceptFailures {
    pub(crate) fn new(metrics: Arc<Metrics>) -> AcceptFailures {
        AcceptFailures { metrics, told: Cell::new(None), untold: Cell::new(0) }
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
                "new connections wait; sessions go on. Raise the limit on open files, or lower the limit on connections"
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
