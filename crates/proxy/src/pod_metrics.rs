//! Metrics about the pod that the proxy stands in.
//!
//! Part of `metrics.rs`; set by `control`, which looks whether the app can be reached around the proxy.

use prometheus::IntGauge;

use crate::metrics::Shelf;

pub(crate) struct PodMetrics {
    bypassable: IntGauge,
}

impl PodMetrics {
    pub(crate) fn new(shelf: &Shelf) -> prometheus::Result<PodMetrics> {
        Ok(PodMetrics {
            bypassable: shelf.gauge(
                "portcullis_app_bypassable",
                "Ports of apps that answer at the pod's address without mTLS; 0 too if nobody looks.",
            )?,
        })
    }

    pub(crate) fn bypassable(&self, ports: usize) {
        self.bypassable.set(i64::try_from(ports).unwrap_or(i64::MAX));
    }
}
