//! A house: the proxy in this process between named clients and an app, with every lever in the test's hand.
//! Tests of traffic and cuts start one each with `House::before(app.addr()).start()`.
//! It must never publish, move time or change a limit on its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy::{AppAddress, Clock, Config, Inbound, Introduction, Limits, Live, Metrics, Protocol, Running};
use testkit::{Leaf, ListSpec, OffsetDateTime, TlsClient};
use tokio::sync::mpsc;
use trust::{Allow, Bundle, CrlCoverage, Knowledge, Policy, Time};

use super::numbers::{eventually, sum};
use super::pki::Pki;

/// The name of the list that `House::list` continues.
const LIST: &str = "test";

/// What to start. Two workers, any client of the clients' root, an empty list in force, the real clock, unless told
/// otherwise.
pub(crate) struct HouseSpec {
    app: AppAddress,
    protocol: Protocol,
    workers: usize,
    allow_connect: bool,
    limits: Limits,
    policy: Policy,
    controlled: bool,
    clock: Option<Clock>,
    knowledge: Start,
    pki: Pki,
}

enum Start {
    EmptyList,
    Missing,
    NotWanted,
}

impl HouseSpec {
    pub(crate) fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Starts as with `--allow-connect`.
    pub(crate) fn allow_connect(mut self) -> Self {
        self.allow_connect = true;
        self
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub(crate) fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    /// A clock that stands still until the test moves it (`House::advance`, `House::set_time`). It begins now.
    pub(crate) fn with_clock(mut self) -> Self {
        self.controlled = true;
        self
    }

    /// A clock of the test's own making; nothing here moves it.
    pub(crate) fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Starts without any list: everybody is denied until one is published.
    pub(crate) fn without_snapshot(mut self) -> Self {
        self.knowledge = Start::Missing;
        self
    }

    /// Starts as with `--no-revocations`.
    pub(crate) fn no_revocations(mut self) -> Self {
        self.knowledge = Start::NotWanted;
        self
    }

    pub(crate) fn pki(mut self, pki: Pki) -> Self {
        self.pki = pki;
        self
    }

    /// Starts the proxy. Returns when it listens.
    pub(crate) fn start(self) -> House {
        let started = Time::from_millis((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64);
        let controlled = self.controlled.then(|| Arc::new(AtomicI64::new(started.as_millis())));
        let clock = controlled.clone().map_or_else(|| self.clock.unwrap_or_else(Clock::real), Clock::Controlled);
        let (sender, introductions) = mpsc::channel(64);
        let knowledge =
            if matches!(self.knowledge, Start::NotWanted) { Knowledge::NotWanted } else { Knowledge::Missing };
        let bundle = self.pki.bundle();
        let state = (bundle, knowledge, Arc::new(self.policy));
        let live = Live::new(state, self.pki.credential(), sender, clock);
        let metrics = Arc::new(Metrics::new("0.0.0-test").expect("every metric has a name of its own"));
        let inbound = Inbound { listen: ([127, 0, 0, 1], 0).into(), app: self.app, protocol: self.protocol };
        let config = Config {
            inbounds: vec![inbound],
            workers: self.workers,
            allow_connect: self.allow_connect,
            limits: self.limits,
        };
        let running = proxy::start(config, Arc::clone(&live), Arc::clone(&metrics));
        let running = running.unwrap_or_else(|failure| panic!("the proxy did not start: {}", failure.0));
        let house = House {
            pki: self.pki,
            live,
            metrics,
            running,
            clock: controlled,
            library: Mutex::new(revocation::Library::default()),
            introductions: Mutex::new(introductions),
            sequence: AtomicU64::new(0),
            revoked: Mutex::default(),
        };
        if matches!(self.knowledge, Start::EmptyList) {
            house.publish_list(house.list().text());
        }
        house
    }
}

pub(crate) struct House {
    pub(crate) pki: Pki,
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) running: Arc<Running>,
    clock: Option<Arc<AtomicI64>>,
    library: Mutex<revocation::Library>,
    introductions: Mutex<mpsc::Receiver<Introduction>>,
    sequence: AtomicU64,
    revoked: Mutex<Vec<Leaf>>,
}

impl House {
    /// A house in front of the app at this address.
    pub(crate) fn before(app: SocketAddr) -> HouseSpec {
        Self::before_address(AppAddress::Socket(app))
    }

    /// A house in front of the app at this address, name or socket.
    pub(crate) fn before_address(app: AppAddress) -> HouseSpec {
        let policy = Policy {
            allow: Allow::Anybody,
            crl_coverage: CrlCoverage::All,
            stale: trust::Stale::Deny,
            snapshot_max_age: None,
            max_session_age: None,
            max_certificate_age: None,
            idle_timeout: None,
        };
        HouseSpec {
            app,
            protocol: Protocol::Auto,
            workers: 2,
            allow_connect: false,
            limits: Limits::default(),
            policy,
            controlled: false,
            clock: None,
            knowledge: Start::EmptyList,
            pki: Pki::new(),
        }
    }

    /// Where clients come in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    /// The certificate of `spiffe://td/<name>`; the same at each call.
    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        self.pki.leaf(name)
    }

    /// The client `spiffe://td/<name>`.
    pub(crate) fn client(&self, name: &str) -> TlsClient {
        self.client_of(&self.leaf(name))
    }

    /// A client with this certificate.
    pub(crate) fn client_of(&self, leaf: &Leaf) -> TlsClient {
        TlsClient::new(self.pki.server_root.der(), Some(leaf))
    }

    /// A client without a certificate.
    pub(crate) fn stranger(&self) -> TlsClient {
        TlsClient::new(self.pki.server_root.der(), None)
    }

    /// The next issue of the house's list, empty, in force for ten years from now.
    pub(crate) fn list(&self) -> ListSpec {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        let now = self.live.now();
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.as_millis()) * 1_000_000);
        let now = now.expect("a test's moment is a moment");
        ListSpec::new(LIST, sequence).issued_at(now).expires_in(testkit::Duration::days(3650))
    }

    /// Takes a list or CRL in as `sources` would and publishes the snapshot; panics if it is refused.
    /// Returns the new epoch.
    pub(crate) fn publish_list(&self, bytes: impl Into<Vec<u8>>) -> u64 {
        let material = revocation::read(bytes.into()).expect("the test's list can be read");
        let mut library = self.library.lock().expect("no publisher panics");
        let bundle = Arc::clone(&self.live.current().state.bundle);
        library.accept(material, &bundle, self.live.now()).expect("the test's list is accepted");
        let snapshot = library.snapshot().expect("a library that accepted something has a snapshot");
        self.live.publish(|state| state.knowledge = Knowledge::Known(snapshot))
    }

    /// Publishes the next issue of the list with this client's certificate added, by serial and issuer.
    pub(crate) fn revoke(&self, name: &str) -> u64 {
        self.revoke_leaf(&self.leaf(name))
    }

    /// The same for any leaf.
    pub(crate) fn revoke_leaf(&self, leaf: &Leaf) -> u64 {
        let mut revoked = self.revoked.lock().expect("no publisher panics");
        revoked.push(leaf.clone());
        let list = revoked.iter().fold(self.list(), |list, leaf| list.serial(leaf));
        self.publish_list(list.text())
    }

    /// Publishes another bundle.
    pub(crate) fn publish_bundle(&self, bundle: Bundle) -> u64 {
        self.live.publish(|state| state.bundle = Arc::new(bundle))
    }

    /// Publishes a changed policy.
    pub(crate) fn publish_policy(&self, change: impl FnOnce(&mut Policy)) -> u64 {
        self.live.publish(|state| {
            let mut policy = (*state.policy).clone();
            change(&mut policy);
            state.policy = Arc::new(policy);
        })
    }

    /// Does what `sources` does with introductions: takes those that came, publishes if they bring a new snapshot.
    /// Returns how many came.
    pub(crate) fn serve_introductions(&self) -> usize {
        let mut introductions = self.introductions.lock().expect("no publisher panics");
        let mut library = self.library.lock().expect("no publisher panics");
        let bundle = Arc::clone(&self.live.current().state.bundle);
        let mut came = 0;
        while let Ok(introduction) = introductions.try_recv() {
            came += 1;
            if library.introduce(&introduction.der, &bundle, self.live.now()) {
                let snapshot = library.snapshot().expect("a changed library has a snapshot");
                self.live.publish(|state| state.knowledge = Knowledge::Known(snapshot));
            }
        }
        came
    }

    /// Moves the controlled clock by this much and wakes the workers.
    pub(crate) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).expect("a test stays within a lifetime");
        self.controlled().fetch_add(millis, Ordering::SeqCst);
        self.live.nudge();
    }

    /// Sets the controlled clock, forward or back, and wakes the workers.
    pub(crate) fn set_time(&self, to: Time) {
        self.controlled().store(to.as_millis(), Ordering::SeqCst);
        self.live.nudge();
    }

    /// Sets the controlled clock and wakes nobody: whoever looks at it has to find out.
    pub(crate) fn set_time_unannounced(&self, to: Time) {
        self.controlled().store(to.as_millis(), Ordering::SeqCst);
    }

    fn controlled(&self) -> &AtomicI64 {
        self.clock.as_deref().expect("the house was started with_clock()")
    }

    /// The metrics as a scrape sees them.
    pub(crate) fn metrics_text(&self) -> String {
        self.metrics.refresh(&self.live);
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&self.metrics.registry.gather()).expect("every metric has a text form")
    }

    /// The sum of all samples of this name that carry all these labels. Histograms: `…_count`, `…_sum`.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum(&self.metrics_text(), name, labels)
    }

    /// Waits until the metric has this value.
    pub(crate) async fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name}{labels:?} is {value}");
        eventually(&what, || self.metric(name, labels) == value).await;
    }

    /// Waits until the metric has at least this value.
    pub(crate) async fn wait_for_metric_of_at_least(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name}{labels:?} is at least {value}");
        eventually(&what, || self.metric(name, labels) >= value).await;
    }
}
