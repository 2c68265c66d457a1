//! The webhook's metrics.
//!
//! Written by `server.rs` and `serving.rs`, read by `observe.rs`. Labels come from closed lists: never a name of a pod,
//! a namespace or an image.

use std::time::Duration;

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::verdict::{Reason, Skip, Verdict};

/// The promise is five milliseconds.
const SECONDS: [f64; 11] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0];

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    injections: IntCounterVec,
    errors: IntCounterVec,
    seconds: Histogram,
    expiry: IntGauge,
    reloads: IntCounterVec,
}

impl Metrics {
    /// At zero, every label in place.
    pub fn new(version: &str) -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let injections = counter("portcullis_injections_total", "Pods that were asked about.", &["result", "reason"])?;
        injections.with_label_values(&["injected", "injected"]);
        Skip::ALL.iter().for_each(|skip| drop(injections.with_label_values(&["skipped", skip.word()])));
        Reason::ALL.iter().for_each(|reason| drop(injections.with_label_values(&["refused", reason.word()])));
        let errors = counter("portcullis_webhook_errors_total", "Requests that were no review.", &["reason"])?;
        crate::server::ERRORS.iter().for_each(|word| drop(errors.with_label_values(&[*word])));
        let seconds = HistogramOpts::new("portcullis_injection_seconds", "From a review's whole body to its answer.");
        let seconds = Histogram::with_opts(seconds.buckets(SECONDS.to_vec()))?;
        let expiry = IntGauge::new(
            "portcullis_webhook_certificate_expiry_timestamp_seconds",
            "When the webhook's own certificate ends.",
        )?;
        let reloads = counter(
            "portcullis_webhook_certificate_reloads_total",
            "Loads of the webhook's certificate.",
            &["result"],
        )?;
        ["changed", "failed"].iter().for_each(|result| drop(reloads.with_label_values(&[*result])));
        let build = counter_gauge(version)?;
        for collector in
            [Box::new(injections.clone()) as Box<dyn prometheus::core::Collector>, Box::new(errors.clone())]
        {
            registry.register(collector)?;
        }
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(expiry.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(build))?;
        Ok(Metrics { registry, injections, errors, seconds, expiry, reloads })
    }

    /// A pod was judged, and it took so long.
    pub(crate) fn judged(&self, verdict: &Verdict, took: Duration) {
        let (result, reason) = words(verdict);
        self.injections.with_label_values(&[result, reason]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A request was no review.
    pub(crate) fn erred(&self, word: &str) {
        self.errors.with_label_values(&[word]).inc();
    }

    /// The certificate in force ends then.
    pub(crate) fn expires(&self, seconds: i64) {
        self.expiry.set(seconds);
    }

    /// The certificate was loaded again.
    pub(crate) fn reloaded(&self, worked: bool) {
        self.reloads.with_label_values(&[if worked { "changed" } else { "failed" }]).inc();
    }

    /// As Prometheus reads them, with the type of the text.
    pub(crate) fn text(&self) -> Result<(String, Vec<u8>), prometheus::Error> {
        let (encoder, mut bytes) = (TextEncoder::new(), Vec::new());
        encoder.encode(&self.registry.gather(), &mut bytes)?;
        Ok((encoder.format_type().to_owned(), bytes))
    }
}

/// The words of the result and its reason.
pub(crate) fn words(verdict: &Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Injected(_) => ("injected", "injected"),
        Verdict::Skipped(skip) => ("skipped", skip.word()),
        Verdict::Refused(refusal) => ("refused", refusal.reason.word()),
    }
}

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn counter_gauge(version: &str) -> Result<IntGauge, prometheus::Error> {
    let build = Opts::new("portcullis_build_info", "What runs.").const_label("version", version);
    let build = IntGauge::with_opts(build)?;
    build.set(1);
    Ok(build)
}
