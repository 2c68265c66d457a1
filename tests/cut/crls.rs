//! CRLs end to end: from their bytes, through the library that `sources` holds, to the handshake and the cut.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use testkit::{CrlSpec, Leaf, LeafSpec, RecordingApp, TlsClient};
use tokio::task::JoinHandle;
use trust::{Allow, CrlCoverage, Policy, Speaks};

use crate::stage::{Line, Stream, assert_cut, assert_left, assert_refused};
use crate::support::{House, HouseSpec, PATIENCE, Pki, eventually};

/// Does what `sources` does with introductions, until it is dropped.
struct Indexing(JoinHandle<()>);

impl Indexing {
    fn of(house: &Arc<House>) -> Indexing {
        let house = Arc::clone(house);
        Indexing(tokio::spawn(async move {
            loop {
                house.serve_introductions();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }))
    }
}

impl Drop for Indexing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn house_with(coverage: CrlCoverage, change: impl FnOnce(HouseSpec) -> HouseSpec) -> (RecordingApp, Arc<House>) {
    let app = RecordingApp::start().await;
    let spec = House::before(app.addr()).policy(|policy| policy.crl_coverage = coverage);
    (app, Arc::new(change(spec).start()))
}

fn of_root(house: &House, number: u64) -> Vec<u8> {
    house.pki.client_root.crl(CrlSpec::new(number))
}

fn of_issuing(house: &House, number: u64, revoked: &[&Leaf]) -> Vec<u8> {
    let crl = CrlSpec::new(number);
    house.pki.issuing.crl(revoked.iter().fold(crl, |crl, leaf| crl.revoke(&leaf.serial())))
}

/// Whether requests of this client pass, by a new connection.
async fn passes(house: &House, client: &TlsClient) -> bool {
    let status = async { client.http1(house.address()).await?.get("/").await.map(|answer| answer.status.as_u16()) };
    matches!(status.await, Ok(200))
}

#[tokio::test]
async fn a_crl_of_the_root_that_names_an_intermediate_ends_the_sessions_below_it() {
    let (_app, house) = house_with(CrlCoverage::All, |spec| spec).await;
    let [one, two] = Stream::both(&house, &house.client("a")).await;
    let crl = house.pki.client_root.crl(CrlSpec::new(1).revoke(&house.pki.issuing.serial()));
    let since = Instant::now();
    house.publish_list(crl);
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 2.0).await;
    assert_refused(&house, &house.leaf("a"), AlertDescription::CertificateRevoked).await;
}

#[tokio::test]
async fn a_crl_of_the_root_that_names_a_leaf_ends_its_sessions_and_no_others() {
    let (_app, house) = house_with(CrlCoverage::All, |spec| spec).await;
    let mint = |name: &str| house.pki.client_root.issue(LeafSpec::spiffe(&format!("spiffe://td/{name}")));
    let (bad, good) = (mint("bad"), mint("good"));
    house.publish_list(of_root(&house, 1));
    let [one, two] = Stream::both(&house, &house.client_of(&bad)).await;
    let mut others = Stream::both(&house, &house.client_of(&good)).await;
    let since = Instant::now();
    house.publish_list(house.pki.client_root.crl(CrlSpec::new(2).revoke(&bad.serial())));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    for stream in &mut others {
        stream.flows().await;
    }
    assert_cut(&house, "revoked", 2.0).await;
    assert_refused(&house, &bad, AlertDescription::CertificateRevoked).await;
}

#[tokio::test]
async fn the_first_handshake_below_an_unknown_intermediate_waits_until_its_crl_is_indexed() {
    let (_app, house) = house_with(CrlCoverage::All, |spec| spec).await;
    house.publish_list(of_root(&house, 1));
    house.publish_list(of_issuing(&house, 1, &[]));
    let client = house.client("good");
    let mut connecting = {
        let house = Arc::clone(&house);
        tokio::spawn(async move { passes(&house, &client).await })
    };
    // TLS is done, the session is not: nobody has indexed the CRL.
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut connecting).await.is_err(), "nothing waits");
    assert_eq!(house.metric("portcullis_sessions_opened_total", &[]), 0.0);
    eventually("the issuer is introduced", || house.serve_introductions() > 0).await;
    assert!(connecting.await.unwrap(), "a good client passes once its issuer's CRL is indexed");
    assert_eq!(house.metric("portcullis_cuts_total", &[]), 0.0);
}

#[tokio::test]
async fn a_revoked_client_that_introduces_its_own_issuer_is_denied_and_a_good_one_passes() {
    let (app, house) = house_with(CrlCoverage::All, |spec| spec).await;
    let bad = house.leaf("bad");
    house.publish_list(of_root(&house, 1));
    house.publish_list(of_issuing(&house, 1, &[&bad]));
    let _indexing = Indexing::of(&house);
    assert!(!passes(&house, &house.client("bad")).await, "a revoked client passed");
    assert_eq!(app.count(), 0);
    assert_cut(&house, "revoked", 1.0).await;
    assert!(passes(&house, &house.client("good")).await);
    assert_refused(&house, &bad, AlertDescription::CertificateRevoked).await;
}

#[tokio::test]
async fn a_status_that_nobody_finds_out_within_the_deadline_is_unknown() {
    let (app, house) =
        house_with(CrlCoverage::All, |spec| spec.limits(|limits| limits.handshake = Duration::from_millis(600))).await;
    house.publish_list(of_root(&house, 1));
    house.publish_list(of_issuing(&house, 1, &[]));
    let started = Instant::now();
    assert!(!passes(&house, &house.client("a")).await);
    assert!(started.elapsed() < Duration::from_secs(2), "the deadline bounds the wait: {:?}", started.elapsed());
    assert_cut(&house, "status_unknown", 1.0).await;
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn coverage_says_which_links_need_a_crl() {
    // For each coverage: with the root's CRL alone, with the intermediate's alone, with both.
    let table = [
        (CrlCoverage::All, [false, false, true]),
        (CrlCoverage::Leaf, [false, true, true]),
        (CrlCoverage::None, [true, true, true]),
    ];
    for (coverage, expected) in table {
        for (number, expected) in expected.into_iter().enumerate() {
            let (_app, house) = house_with(coverage, |spec| spec).await;
            let _indexing = Indexing::of(&house);
            let bad = house.leaf("bad");
            if number != 1 {
                house.publish_list(of_root(&house, 1));
            }
            if number != 0 {
                house.publish_list(of_issuing(&house, 1, &[&bad]));
                assert!(!passes(&house, &house.client("bad")).await, "{coverage:?}, {number}: a revoked client passed");
            }
            assert_eq!(passes(&house, &house.client("good")).await, expected, "{coverage:?}, {number}");
        }
    }
}

#[tokio::test]
async fn the_next_crl_of_an_intermediate_ends_live_sessions() {
    let (_app, house) = house_with(CrlCoverage::All, |spec| spec).await;
    let _indexing = Indexing::of(&house);
    house.publish_list(of_root(&house, 1));
    house.publish_list(of_issuing(&house, 1, &[]));
    let [one, two] = Stream::both(&house, &house.client("bad")).await;
    let mut others = Stream::both(&house, &house.client("good")).await;
    let since = Instant::now();
    house.publish_list(of_issuing(&house, 2, &[&house.leaf("bad")]));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    for stream in &mut others {
        stream.flows().await;
    }
    assert_left(&house, 2.0, Instant::now()).await;
    assert_cut(&house, "revoked", 2.0).await;
}

#[tokio::test]
async fn the_first_crl_of_an_intermediate_ends_the_live_sessions_it_names_and_no_others() {
    let (_app, house) = house_with(CrlCoverage::None, |spec| spec).await;
    let _indexing = Indexing::of(&house);
    let [one, two] = Stream::both(&house, &house.client("bad")).await;
    let mut others = Stream::both(&house, &house.client("good")).await;
    let since = Instant::now();
    house.publish_list(of_issuing(&house, 1, &[&house.leaf("bad")]));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    for stream in &mut others {
        stream.flows().await;
    }
    assert_cut(&house, "revoked", 2.0).await;
}

#[tokio::test]
async fn the_first_crls_of_all_authorities_disturb_no_live_session_that_they_do_not_name() {
    let (_app, house) = house_with(CrlCoverage::All, |spec| spec).await;
    let _indexing = Indexing::of(&house);
    let [one, two] = Stream::both(&house, &house.client("bad")).await;
    let mut others = Stream::both(&house, &house.client("good")).await;
    // In one publish, as one file of both CRLs would be.
    let bad = house.leaf("bad");
    let both = [of_root(&house, 1), of_issuing(&house, 1, &[&bad])].map(|der| testkit::pem("X509 CRL", &der)).concat();
    let since = Instant::now();
    house.publish_list(both);
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    for stream in &mut others {
        stream.flows().await;
    }
    assert_cut(&house, "revoked", 2.0).await;
    assert_eq!(Line::both(&house, &house.client("good")).await[0].status("/").await.unwrap(), 200);
}

/// Writes a house's files into a folder and starts the proxy on them, with `sources` watching.
struct Watched {
    folder: tempfile::TempDir,
    pki: Pki,
    metrics: Arc<proxy::Metrics>,
    running: Arc<proxy::Running>,
    _watching: sources::Watching,
}

impl Watched {
    fn start(app: &RecordingApp, crls: &[(&str, Vec<u8>)], pki: Pki) -> Watched {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = pki.server_root.issue(LeafSpec::dns("localhost")).write_to(folder.path(), "own");
        let anchors = folder.path().join("anchors.pem");
        std::fs::write(&anchors, pki.client_root.pem()).unwrap();
        let revocations = folder.path().join("revocations");
        std::fs::create_dir(&revocations).unwrap();
        for (name, crl) in crls {
            std::fs::write(revocations.join(name), crl).unwrap();
        }
        let paths = sources::Paths {
            credential: sources::CredentialPaths::CertAndKey { cert, key },
            client_cas: vec![(Speaks::ForAnybody, anchors)],
            revocations: vec![revocations],
            no_revocations: false,
            state_dir: None,
            requirements: revocation::Requirements::default(),
            max_cut_fraction: None,
            max_denial_ttl: sources::DEFAULT_MAX_DENIAL_TTL,
        };
        let clock = proxy::Clock::real();
        let loaded = sources::load(&paths, clock.now()).expect("the files can be loaded");
        let policy = Arc::new(Policy {
            allow: Allow::Anybody,
            crl_coverage: CrlCoverage::All,
            stale: trust::Stale::Deny,
            snapshot_max_age: None,
            max_session_age: None,
            max_certificate_age: None,
            idle_timeout: None,
        });
        let (sender, introductions) = tokio::sync::mpsc::channel(64);
        let live = proxy::Live::new((loaded.bundle, loaded.knowledge, policy), loaded.credential, sender, clock);
        let metrics = Arc::new(proxy::Metrics::new("0.0.0-test").unwrap());
        let from = (Arc::clone(&live), introductions);
        let watching = sources::watch(paths, loaded.library, from, Arc::clone(&metrics));
        let inbound = proxy::Inbound {
            listen: ([127, 0, 0, 1], 0).into(),
            app: proxy::AppAddress::Socket(app.addr()),
            protocol: proxy::Protocol::Auto,
        };
        let limits = proxy::Limits::default();
        let config = proxy::Config { inbounds: vec![inbound], workers: 2, allow_connect: false, limits };
        let running =
            proxy::start(config, live, Arc::clone(&metrics)).unwrap_or_else(|failure| panic!("{}", failure.0));
        Watched { folder, pki, metrics, running, _watching: watching.unwrap() }
    }

    async fn passes(&self, leaf: &Leaf) -> bool {
        let client = TlsClient::new(self.pki.server_root.der(), Some(leaf));
        let status = async { client.http1(self.running.addresses()[0]).await?.get("/").await };
        matches!(status.await, Ok(answer) if answer.status == 200)
    }
}

#[tokio::test]
async fn crl_files_are_indexed_by_sources_as_clients_show_their_issuers_and_replaced_ones_cut() {
    let app = RecordingApp::start().await;
    let pki = Pki::new();
    let (bad, good, turned) = (pki.leaf("bad"), pki.leaf("good"), pki.leaf("turned"));
    let root_crl = pki.client_root.crl(CrlSpec::new(1));
    let issuing_crl = pki.issuing.crl(CrlSpec::new(1).revoke(&bad.serial()));
    let house = Watched::start(&app, &[("root.crl", root_crl), ("issuing.crl", issuing_crl)], pki);
    assert!(!house.passes(&bad).await, "a revoked client passed");
    assert!(house.passes(&good).await, "a good client passes once its issuer's CRL is indexed");
    assert_eq!(app.count(), 1);
    let client = TlsClient::new(house.pki.server_root.der(), Some(&turned));
    let mut session = client.http1(house.running.addresses()[0]).await.unwrap();
    let mut stream = session.download("/stream").await.unwrap();
    stream.next().await.unwrap().unwrap();
    let crl = house.pki.issuing.crl(CrlSpec::new(2).revoke(&bad.serial()).revoke(&turned.serial()));
    testkit::atomic_write(house.folder.path().join("revocations/issuing.crl"), crl).unwrap();
    let broken = tokio::time::timeout(PATIENCE, stream.rest()).await.expect("the replaced CRL cuts").1;
    broken.expect_err("a cut stream ends in an error");
    assert!(!house.passes(&turned).await);
    assert!(house.passes(&good).await);
    let text = prometheus::TextEncoder::new().encode_to_string(&house.metrics.registry.gather()).unwrap();
    // The revoked client that introduced its own issuer, and the one that was named later.
    assert!(text.contains("portcullis_cuts_total{reason=\"revoked\"} 2"), "{text}");
}
