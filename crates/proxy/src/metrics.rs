//! Every metric, one method per event.
//!
//! Called by this crate for traffic, by `sources` for reloads; `control` serves the registry. Labels come from
//! closed lists and are resolved once: on the request path an event is a few atomic additions.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use trust::{DENIAL_LABELS, Denial, Flaw};

use crate::bounds::Bound;
use crate::ending_metrics::EndingMetrics;
use crate::fault::Fault;
use crate::live::Live;
use crate::pod_metrics::PodMetrics;
use crate::revocation_metrics::RevocationMetrics;
use crate::state_metrics::StateMetrics;

/// What was loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadSource {
    /// Our own certificate and key.
    Credential,
    /// The anchors.
    Bundle,
    /// Lists and CRLs.
    Revocations,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// Something new is current.
    Changed,
    /// The same as before.
    Unchanged,
    /// The last good state stays.
    Failed,
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestProtocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// A whole session of bytes.
    Tcp,
    /// A request for a WebSocket, by either version.
    WebSocket,
    /// CONNECT, by either version.
    Tunnel,
}

const PROTOCOLS: [&str; 6] = ["http1", "http2", "grpc", "tcp", "websocket", "tunnel"];
/// One counter for each of them.
type ByProtocol = [IntCounter; PROTOCOLS.len()];
/// Requests that were refused for their own shape, not for their session's trust.
pub(crate) const REFUSALS: [&str; 4] = ["bad_request", "connect", "upgrade", "head_too_large"];
/// Ends of a session that are no denial.
const ENDS: [&str; 6] = ["client", "error", "timeout", "stop", "drained", "limit"];
/// Results of a handshake that are neither a flaw nor a denial.
const HANDSHAKES: [&str; 7] =
    ["ok", "no_certificate", "tls_error", "timeout", "client_gone", "limit", "undeclared_port"];
const LATENCIES: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const CUTS: [f64; 11] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
const AGES: [f64; 10] = [1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0, 2_592_000.0];

/// Counters by one closed label, resolved to an array.
pub(crate) struct Labelled(HashMap<&'static str, IntCounter>);

impl Labelled {
    pub(crate) fn add(&self, label: &str) {
        if let Some(counter) = self.0.get(label) {
            counter.inc();
        }
    }
}

/// All of them.
pub struct Metrics {
    /// What `control` serves.
    pub registry: Registry,
    sessions_active: IntGauge,
    sessions_opened: IntCounter,
    sessions_closed: Labelled,
    handshakes: Labelled,
    handshake_seconds: Histogram,
    permitted: ByProtocol,
    denied: Vec<ByProtocol>,
    refused: HashMap<&'static str, ByProtocol>,
    request_seconds: Histogram,
    app_faults: Labelled,
    limits: Labelled,
    cuts: Labelled,
    cut_seconds: Histogram,
    session_age: Histogram,
    certificate_remaining: Histogram,
    state: StateMetrics,
    pub(crate) revocations: RevocationMetrics,
    pub(crate) endings: EndingMetrics,
    pod: PodMetrics,
    reloads: IntCounterVec,
    log_lines_dropped: IntCounter,
}

/// Registers collectors; a name registered twice is a mistake of this file that its test finds.
pub(crate) struct Shelf(Registry);

impl Shelf {
    pub(crate) fn put<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> prometheus::Result<C> {
        let collector = made?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.put(IntGauge::new(name, help))
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.put(IntCounter::new(name, help))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.put(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    pub(crate) fn labelled(
        &self,
        (name, help): (&str, &str),
        label: &str,
        values: impl IntoIterator<Item = &'static str>,
    ) -> prometheus::Result<Labelled> {
        let family = self.put(IntCounterVec::new(Opts::new(name, help), &[label]))?;
        let each = values.into_iter().map(|value| Ok((value, family.get_metric_with_label_values(&[value])?)));
        Ok(Labelled(each.collect::<prometheus::Result<_>>()?))
    }
}

fn by_protocol(family: &IntCounterVec, verdict: &str, reason: &str) -> prometheus::Result<ByProtocol> {
    let [http1, http2, grpc, tcp, websocket, tunnel] = PROTOCOLS;
    let one = |protocol: &str| family.get_metric_with_label_values(&[verdict, reason, protocol]);
    Ok([one(http1)?, one(http2)?, one(grpc)?, one(tcp)?, one(websocket)?, one(tunnel)?])
}

fn reloads(shelf: &Shelf) -> prometheus::Result<IntCounterVec> {
    let help = "Loads of files by source and result; failed: the last good state stays.";
    let reloads = shelf.put(IntCounterVec::new(Opts::new("portcullis_reloads_total", help), &["source", "result"]))?;
    for source in ["credential", "bundle", "revocations"] {
        for result in ["changed", "unchanged", "failed"] {
            reloads.get_metric_with_label_values(&[source, result])?;
        }
    }
    Ok(reloads)
}

fn app_faults(shelf: &Shelf) -> prometheus::Result<Labelled> {
    let named = ("portcullis_app_faults_total", "Requests that the app did not answer, by kind.");
    shelf.labelled(named, "kind", Fault::LABELS)
}

fn limits(shelf: &Shelf) -> prometheus::Result<Labelled> {
    let named = ("portcullis_limits_total", "What a limit refused or ended, by limit.");
    shelf.labelled(named, "limit", Bound::LABELS)
}

impl Metrics {
    /// All metrics, at zero. `version` is the program's.
    pub fn new(version: &str) -> prometheus::Result<Metrics> {
        let shelf = Shelf(Registry::new());
        let build = Opts::new("portcullis_build_info", "The version that runs; always 1.");
        shelf.put(IntGauge::with_opts(build.const_label("version", version)))?.set(1);
        let requests = shelf.put(IntCounterVec::new(
            Opts::new("portcullis_requests_total", "Requests by verdict, reason and protocol."),
            &["verdict", "reason", "protocol"],
        ))?;
        let denied = DENIAL_LABELS.iter().map(|reason| by_protocol(&requests, "denied", reason));
        let refused = REFUSALS.iter().map(|reason| Ok((*reason, by_protocol(&requests, "refused", reason)?)));
        Ok(Metrics {
            sessions_active: shelf.gauge("portcullis_sessions_active", "Sessions open now.")?,
            sessions_opened: shelf.counter("portcullis_sessions_opened_total", "Sessions opened.")?,
            sessions_closed: shelf.labelled(
                ("portcullis_sessions_closed_total", "Sessions closed by reason; a denial's name means it was cut."),
                "reason",
                DENIAL_LABELS.into_iter().chain(ENDS),
            )?,
            handshakes: shelf.labelled(
                ("portcullis_handshakes_total", "Handshakes by result."),
                "result",
                HANDSHAKES.into_iter().chain(Flaw::LABELS).chain(DENIAL_LABELS),
            )?,
            handshake_seconds: shelf.histogram(
                "portcullis_handshake_seconds",
                "Duration of successful handshakes.",
                &LATENCIES,
            )?,
            permitted: by_protocol(&requests, "permitted", "trusted")?,
            denied: denied.collect::<prometheus::Result<_>>()?,
            refused: refused.collect::<prometheus::Result<_>>()?,
            request_seconds: shelf.histogram(
                "portcullis_request_seconds",
                "From a request's head to the end of its response.",
                &LATENCIES,
            )?,
            app_faults: app_faults(&shelf)?,
            limits: limits(&shelf)?,
            cuts: shelf.labelled(
                ("portcullis_cuts_total", "Sessions cut because trust ended, by reason."),
                "reason",
                DENIAL_LABELS,
            )?,
            cut_seconds: shelf.histogram(
                "portcullis_cut_seconds",
                "From the publish, the deadline or the operator's order that ended a session to the close of its socket.",
                &CUTS,
            )?,
            session_age: shelf.histogram(
                "portcullis_session_age_seconds",
                "Age of the session at each request.",
                &AGES,
            )?,
            certificate_remaining: shelf.histogram(
                "portcullis_certificate_remaining_seconds",
                "Remaining life of the client's certificate at each request.",
                &AGES,
            )?,
            log_lines_dropped: shelf.counter(
                "portcullis_log_lines_dropped_total",
                "Log lines dropped because standard output was blocked.",
            )?,
            state: StateMetrics::new(&shelf)?,
            revocations: RevocationMetrics::new(&shelf)?,
            endings: EndingMetrics::new(&shelf)?,
            pod: PodMetrics::new(&shelf)?,
            reloads: reloads(&shelf)?,
            registry: shelf.0,
        })
    }

    /// Brings the gauges up to date; called before each scrape.
    pub fn refresh(&self, live: &Live) {
        let published = live.current();
        self.state.refresh(&published.state, live);
        self.revocations.refresh(&published.state, live);
    }

    /// A file was loaded, or could not be.
    pub fn reloaded(&self, source: ReloadSource, result: ReloadResult) {
        let source = match source {
            ReloadSource::Credential => "credential",
            ReloadSource::Bundle => "bundle",
            ReloadSource::Revocations => "revocations",
        };
        let result = match result {
            ReloadResult::Changed => "changed",
            ReloadResult::Unchanged => "unchanged",
            ReloadResult::Failed => "failed",
        };
        if let Ok(counter) = self.reloads.get_metric_with_label_values(&[source, result]) {
            counter.inc();
        }
    }

    /// The log's writer dropped `lines` so far.
    pub fn log_lines_dropped(&self, lines: u64) {
        self.log_lines_dropped.inc_by(lines.saturating_sub(self.log_lines_dropped.get()));
    }

    /// A task ended by a panic.
    pub fn panicked(&self) {
        self.endings.panicked();
    }

    /// So many ports of apps can be reached without mTLS.
    pub fn app_bypassable(&self, ports: usize) {
        self.pod.bypassable(ports);
    }

    pub(crate) fn handshake(&self, result: &str, took: Option<Duration>) {
        self.handshakes.add(result);
        if let Some(took) = took {
            self.handshake_seconds.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn session_opened(&self) {
        self.sessions_opened.inc();
        self.sessions_active.inc();
    }

    pub(crate) fn session_closed(&self, reason: &str) {
        self.sessions_active.dec();
        self.sessions_closed.add(reason);
    }

    pub(crate) fn permitted(&self, protocol: RequestProtocol, age: Duration, remaining: Duration) {
        pick(&self.permitted, protocol).inc();
        self.session_age.observe(age.as_secs_f64());
        self.certificate_remaining.observe(remaining.as_secs_f64());
    }

    pub(crate) fn denied(&self, protocol: RequestProtocol, denial: &Denial) {
        if let Some(counters) = self.denied.get(denial.position()) {
            pick(counters, protocol).inc();
        }
    }

    pub(crate) fn refused(&self, protocol: RequestProtocol, reason: &str) {
        if let Some(counters) = self.refused.get(reason) {
            pick(counters, protocol).inc();
        }
    }

    pub(crate) fn request_ended(&self, took: Duration) {
        self.request_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn app_fault(&self, fault: Fault) {
        self.app_faults.add(fault.label());
    }

    pub(crate) fn limited(&self, bound: Bound) {
        self.limits.add(bound.label());
    }

    pub(crate) fn cut(&self, denial: &Denial) {
        self.cuts.add(denial.label());
    }

    pub(crate) fn cut_done(&self, took: Duration) {
        self.cut_seconds.observe(took.as_secs_f64());
    }
}

fn pick(counters: &ByProtocol, protocol: RequestProtocol) -> &IntCounter {
    let [http1, http2, grpc, tcp, websocket, tunnel] = counters;
    match protocol {
        RequestProtocol::Http1 => http1,
        RequestProtocol::Http2 => http2,
        RequestProtocol::Grpc => grpc,
        RequestProtocol::Tcp => tcp,
        RequestProtocol::WebSocket => websocket,
        RequestProtocol::Tunnel => tunnel,
    }
}
