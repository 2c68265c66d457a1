//! The metrics of revocation knowledge beyond the snapshot itself: overlay, observers, staleness, refusals.
//!
//! Part of [`Metrics`]: `sources` reports what it refused, held or could not keep; the rest is read at each scrape or
//! counted by `observe.rs`. Labels come from closed lists; that of the refusals is `revocation`'s, which this crate
//! does not know.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use trust::{Denial, Selector, TrustState};

use crate::live::Live;
use crate::metrics::{Labelled, Metrics, Shelf};

/// What an entry that observes can be.
const SELECTORS: [Selector; 6] = [
    Selector::Serial,
    Selector::PublicKey,
    Selector::Certificate,
    Selector::Id,
    Selector::TrustDomain,
    Selector::Issuer,
];

pub(crate) struct RevocationMetrics {
    overlay_denials: IntGauge,
    overlay_lapsing: IntGauge,
    held: IntGauge,
    stale: IntGauge,
    observed_entries: IntGauge,
    observed: Labelled,
    refusals: IntCounterVec,
    state_dir_failures: IntCounter,
}

impl RevocationMetrics {
    pub(crate) fn new(shelf: &Shelf) -> prometheus::Result<RevocationMetrics> {
        Ok(RevocationMetrics {
            overlay_denials: shelf.gauge("portcullis_overlay_denials", "Denials of the overlay in force.")?,
            overlay_lapsing: shelf.gauge(
                "portcullis_overlay_lapsing",
                "Denials of the overlay that lapse soon, and that no list has absorbed.",
            )?,
            held: shelf.gauge(
                "portcullis_snapshot_held",
                "Lists and CRLs held back because they would cut too many sessions; 0 without any.",
            )?,
            stale: shelf.gauge(
                "portcullis_snapshot_stale",
                "1 while a list or CRL in force is past its expiry and serves only because of --stale.",
            )?,
            observed_entries: shelf
                .gauge("portcullis_snapshot_observed_entries", "Entries of all lists in force that only observe.")?,
            observed: shelf.labelled(
                (
                    "portcullis_observed_denials_total",
                    "Sessions that an entry which only observes would have denied, by what it names.",
                ),
                "selector",
                SELECTORS.map(Selector::name),
            )?,
            refusals: shelf.put(IntCounterVec::new(
                Opts::new("portcullis_revocation_refusals_total", "Lists and CRLs refused, by reason."),
                &["label"],
            ))?,
            state_dir_failures: shelf.counter(
                "portcullis_state_dir_failures_total",
                "Failures to keep or restore knowledge in --state-dir.",
            )?,
        })
    }

    pub(crate) fn refresh(&self, state: &TrustState, live: &Live) {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.overlay_denials.set(number(state.overlay.len()));
        self.observed_entries.set(number(state.snapshot().map_or(0, |snapshot| snapshot.observed_entries())));
        self.stale.set(i64::from(live.is_stale()));
    }
}

impl Metrics {
    /// So many denials of the overlay lapse soon unabsorbed.
    pub fn overlay_lapsing(&self, denials: usize) {
        self.revocations.overlay_lapsing.set(i64::try_from(denials).unwrap_or(i64::MAX));
    }

    /// So many lists and CRLs are held back.
    pub fn snapshot_held(&self, held: usize) {
        self.revocations.held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// Every label that [`Metrics::revocation_refused`] may get: from now on each is there, at zero, so that the
    /// first refusal is an increase that an alert can see.
    pub fn expect_refusals(&self, labels: &[&'static str]) {
        for label in labels {
            // Only a wrong number of labels fails.
            let _ = self.revocations.refusals.get_metric_with_label_values(&[label]);
        }
    }

    /// A list or CRL was refused; the label is from the closed list of its reader.
    pub fn revocation_refused(&self, label: &'static str) {
        if let Ok(counter) = self.revocations.refusals.get_metric_with_label_values(&[label]) {
            counter.inc();
        }
    }

    /// Something could not be kept in `--state-dir`, or what was kept there is damaged.
    pub fn state_dir_failed(&self) {
        self.revocations.state_dir_failures.inc();
    }

    /// An entry that only observes would have denied a session.
    pub(crate) fn observed(&self, denial: &Denial) {
        if let Denial::Revoked { selector, .. } = denial {
            self.revocations.observed.add(selector.name());
        }
    }
}
