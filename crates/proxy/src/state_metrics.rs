//! Gauges of what is in force: epoch, bundle, our own certificate, snapshot.
//!
//! Made and refreshed by `metrics.rs`, before each scrape. It must never be asked on the way of a request.

use std::time::Duration;

use prometheus::IntGauge;
use trust::{Knowledge, Time, TrustState};

use crate::live::Live;
use crate::metrics::Shelf;

pub(crate) struct StateMetrics {
    epoch: IntGauge,
    bundle_anchors: IntGauge,
    certificate_expiry: IntGauge,
    revocations_disabled: IntGauge,
    sequence: IntGauge,
    age: IntGauge,
    entries: IntGauge,
    expiry: IntGauge,
    lists: IntGauge,
    crls: IntGauge,
}

impl StateMetrics {
    pub(crate) fn new(shelf: &Shelf) -> prometheus::Result<StateMetrics> {
        Ok(StateMetrics {
            epoch: shelf.gauge("portcullis_epoch", "Epoch of the trust state; grows with each publish.")?,
            bundle_anchors: shelf.gauge("portcullis_bundle_anchors", "Trusted anchors.")?,
            certificate_expiry: shelf.gauge(
                "portcullis_certificate_expiry_timestamp_seconds",
                "When the proxy's own certificate expires.",
            )?,
            revocations_disabled: shelf
                .gauge("portcullis_revocations_disabled", "1 if the proxy runs with --no-revocations.")?,
            sequence: shelf.gauge(
                "portcullis_snapshot_sequence",
                "Highest sequence among the lists in force; 0 without a list.",
            )?,
            age: shelf.gauge(
                "portcullis_snapshot_age_seconds",
                "Seconds since the oldest list or CRL in force was issued.",
            )?,
            entries: shelf.gauge("portcullis_snapshot_entries", "Entries of all lists and CRLs in force.")?,
            expiry: shelf.gauge(
                "portcullis_snapshot_expiry_timestamp_seconds",
                "When the first list or CRL in force expires; 0 without any.",
            )?,
            lists: shelf.gauge("portcullis_snapshot_lists", "Lists in force.")?,
            crls: shelf.gauge("portcullis_snapshot_crls", "CRLs in force.")?,
        })
    }

    pub(crate) fn refresh(&self, state: &TrustState, live: &Live) {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let large = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.epoch.set(large(state.epoch));
        self.bundle_anchors.set(number(state.bundle.len()));
        self.certificate_expiry.set(live.credential().not_after.as_seconds());
        self.revocations_disabled.set(i64::from(matches!(state.knowledge, Knowledge::NotWanted)));
        let Some(snapshot) = state.snapshot() else { return };
        self.sequence.set(large(snapshot.sequence()));
        let age = snapshot.issued_at().map_or(Duration::ZERO, |issued| live.now().since(issued));
        self.age.set(large(age.as_secs()));
        self.entries.set(number(snapshot.entries()));
        self.expiry.set(snapshot.expires_at().map_or(0, Time::as_seconds));
        self.lists.set(number(snapshot.lists().len()));
        self.crls.set(number(snapshot.crls().count()));
    }
}
