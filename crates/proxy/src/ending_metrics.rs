//! Metrics about endings that are nobody's fault, and about what must never happen.
//!
//! Part of `metrics.rs`; counted by `drain.rs` and `listener.rs`, and by the program's panic hook. Labels from closed
//! lists, resolved once.

use prometheus::IntCounter;
use trust::Limit;

use crate::metrics::{Labelled, Shelf};

/// What a drain is counted under when the proxy stops.
const STOP: &str = "stop";

pub(crate) struct EndingMetrics {
    drains: Labelled,
    panics: IntCounter,
    accept_failures: IntCounter,
}

impl EndingMetrics {
    pub(crate) fn new(shelf: &Shelf) -> prometheus::Result<EndingMetrics> {
        let planned = Limit::ALL.into_iter().filter(|limit| limit.is_planned()).map(Limit::label);
        Ok(EndingMetrics {
            drains: shelf.labelled(
                ("portcullis_drains_total", "Sessions asked to leave, by the limit that ends them, or at a stop."),
                "limit",
                planned.chain([STOP]),
            )?,
            panics: shelf.counter(
                "portcullis_panics_total",
                "Tasks that ended by a panic, each a defect of this program; the log has its place.",
            )?,
            accept_failures: shelf.counter(
                "portcullis_accept_failures_total",
                "Connections that could not be accepted for lack of descriptors or memory.",
            )?,
        })
    }

    /// A session is asked to leave for this limit, or since the proxy stops.
    pub(crate) fn drained(&self, limit: Option<Limit>) {
        self.drains.add(limit.map_or(STOP, Limit::label));
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    pub(crate) fn accept_failed(&self) {
        self.accept_failures.inc();
    }
}
