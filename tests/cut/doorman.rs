//! The door for operators: its own bundle and allow list, the traffic's revocations, and no lock-out of the push
//! that heals. Each test stands behind it as `control` does: a listener, one task for each socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proxy::{Doorman, Guest, Turned};
use rustls::AlertDescription;
use testkit::{
    Authority, AuthoritySpec, CrlSpec, Ending, Leaf, LeafSpec, RecordingApp, TlsClient, alert_of, read_to_end,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use trust::{Allow, Bundle, CrlCoverage, Denial, IdentityPattern, Knowledge, Overlay, Selectors, Speaks, Stale, Terms};

use crate::support::{House, PATIENCE};

type Met = Result<Arc<Guest>, Turned>;

/// A control listener that lets operators in and says a word to them.
struct Door {
    _app: RecordingApp,
    house: House,
    root: Authority,
    issuing: Authority,
    doorman: Arc<Doorman>,
    address: SocketAddr,
    met: mpsc::UnboundedReceiver<Met>,
}

fn bundle(roots: &[&Authority]) -> Arc<Bundle> {
    Arc::new(Bundle::new(roots.iter().map(|root| (root.der().clone(), Speaks::ForAnybody)).collect()).unwrap())
}

impl Door {
    async fn of(app: RecordingApp, house: House) -> Door {
        let root = Authority::root("operators' root");
        let issuing = root.intermediate("operators' issuing authority");
        let allowed = ["uri:spiffe://ops/admin/*", "dns:ops.test"];
        let allowed = allowed.iter().map(|one| IdentityPattern::parse(one).unwrap()).collect();
        let doorman = Arc::new(Doorman::new(Arc::clone(&house.live), bundle(&[&root]), allowed));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, met) = mpsc::unbounded_channel();
        let stands = Arc::clone(&doorman);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (doorman, sender) = (Arc::clone(&stands), sender.clone());
                tokio::spawn(async move {
                    match doorman.admit(socket).await {
                        Ok((mut stream, guest)) => {
                            let guest = Arc::new(guest);
                            sender.send(Ok(Arc::clone(&guest))).unwrap();
                            let _ = stream.write_all(b"come in").await;
                            guest.until_denied().await;
                        }
                        Err(turned) => drop(sender.send(Err(turned))),
                    }
                });
            }
        });
        Door { _app: app, house, root, issuing, doorman, address, met }
    }

    async fn open() -> Door {
        let app = RecordingApp::start().await;
        let house = House::before(app.addr()).with_clock().start();
        Door::of(app, house).await
    }

    fn leaf(&self, path: &str) -> Leaf {
        self.issuing.issue(LeafSpec::spiffe(&format!("spiffe://ops/{path}")))
    }

    /// Comes to the door; what was said, how it ended if it did not stay, and what the doorman said.
    async fn knock(&mut self, client: &TlsClient) -> (Result<Inside, Ending>, Met) {
        let heard = match client.connect(self.address, &["http/1.1"]).await {
            Ok(mut stream) => {
                let mut word = [0; 7];
                let read =
                    tokio::time::timeout(PATIENCE, stream.read_exact(&mut word)).await.expect("it answers in time");
                match read {
                    Ok(_) => Ok(Inside { stream }),
                    Err(error) => {
                        Err(alert_of(&error).map_or_else(|| Ending::Failed(error.to_string()), Ending::Alert))
                    }
                }
            }
            Err(error) => Err(alert_of(&error).map_or_else(|| Ending::Failed(error.to_string()), Ending::Alert)),
        };
        let met = tokio::time::timeout(PATIENCE, self.met.recv()).await.expect("the doorman decides in time");
        (heard, met.unwrap())
    }

    async fn enter(&mut self, leaf: &Leaf) -> (Inside, Arc<Guest>) {
        let (inside, met) = self.knock(&self.house.client_of(leaf)).await;
        let guest = met.unwrap_or_else(|turned| panic!("turned away: {turned}"));
        (inside.unwrap_or_else(|ending| panic!("let in and then {ending:?}")), guest)
    }

    async fn is_turned_away(&mut self, client: &TlsClient, label: &str, alert: AlertDescription) -> Turned {
        let (heard, met) = self.knock(client).await;
        let turned = met.err().expect("the doorman lets nobody in");
        assert_eq!(turned.label, label, "{turned}");
        assert_eq!(heard.err(), Some(Ending::Alert(alert)));
        turned
    }
}

/// An operator who came in.
struct Inside {
    stream: testkit::ClientStream,
}

impl Inside {
    /// The connection is dropped by the task that waits for the guest's denial.
    async fn ends(mut self) {
        let rest = read_to_end(&mut self.stream, PATIENCE).await;
        assert_eq!(rest.text(), "", "nothing is said after the end of trust");
    }

    async fn stays(&mut self) {
        let read = tokio::time::timeout(Duration::from_millis(50), self.stream.read_u8()).await;
        assert!(read.is_err(), "an operator whom nobody named was shown out: {read:?}");
    }
}

#[tokio::test]
async fn only_those_come_in_whom_the_operators_bundle_vouches_for_and_the_list_names() {
    let mut door = Door::open().await;
    let (_inside, guest) = door.enter(&door.leaf("admin/ann")).await;
    assert_eq!(guest.identity().typed(), "uri:spiffe://ops/admin/ann");
    assert!(guest.judge().is_ok());
    let named = door.issuing.issue(LeafSpec::dns("ops.test"));
    let (_also, guest) = door.enter(&named).await;
    assert_eq!((guest.identity().typed(), guest.serial()), ("dns:ops.test", named.serial_hex().as_str()));
    // One of the traffic's clients, whom the app would get to see.
    let client = door.house.client("admin/ann");
    door.is_turned_away(&client, "unknown_issuer", AlertDescription::UnknownCA).await;
    let unlisted = door.house.client_of(&door.leaf("guest/bob"));
    let turned = door.is_turned_away(&unlisted, "identity_not_allowed", AlertDescription::AccessDenied).await;
    assert_eq!(turned.identity.as_deref(), Some("uri:spiffe://ops/guest/bob"));
    let stranger = door.house.stranger();
    let turned = door.is_turned_away(&stranger, "no_certificate", AlertDescription::CertificateRequired).await;
    assert_eq!(turned.identity, None);
}

#[tokio::test]
async fn an_empty_list_of_operators_lets_nobody_in() {
    let mut door = Door::open().await;
    door.doorman = Arc::new(Doorman::new(Arc::clone(&door.house.live), bundle(&[&door.root]), vec![]));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = door.house.client_of(&door.leaf("admin/ann"));
    let knocking = tokio::spawn(async move { client.connect(address, &["http/1.1"]).await.map(drop) });
    let turned = door.doorman.admit(listener.accept().await.unwrap().0).await.err().unwrap();
    assert_eq!(turned.label, "identity_not_allowed");
    drop(knocking.await);
}

#[tokio::test]
async fn knowledge_that_is_missing_or_stale_locks_no_operator_out_and_denies_the_traffic() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).with_clock().without_snapshot().start();
    let mut door = Door::of(app, house).await;
    let ann = door.leaf("admin/ann");
    let (mut missing, guest) = door.enter(&ann).await;
    door.house.publish_list(door.house.list().expires_in(testkit::Duration::hours(1)).text());
    assert_eq!(door.house.client("a").http1(door.house.address()).await.unwrap().get("/").await.unwrap().status, 200);
    door.house.advance(Duration::from_secs(7200));
    assert!(!door.house.live.is_stale(), "the traffic's policy denies what is past its expiry");
    let denied = async { door.house.client("a").http1(door.house.address()).await?.get("/").await };
    denied.await.expect_err("the traffic is denied under an outdated list");
    let (mut late, _) = door.enter(&ann).await;
    missing.stays().await;
    late.stays().await;
    assert!(guest.judge().is_ok());
    // The traffic's limits are not the operators'.
    door.house.publish_policy(|policy| {
        policy.allow = Allow::Only(vec![]);
        policy.crl_coverage = CrlCoverage::All;
        policy.stale = Stale::Deny;
        policy.max_session_age = Some(Duration::from_secs(1));
        policy.max_certificate_age = Some(Duration::from_secs(1));
        policy.idle_timeout = Some(Duration::from_secs(1));
        policy.snapshot_max_age = Some(Duration::from_secs(1));
    });
    assert!(guest.judge().is_ok());
    door.enter(&ann).await;
}

#[tokio::test]
async fn an_entry_of_a_list_shows_an_operator_out_and_nobody_else_even_when_the_list_is_stale() {
    let mut door = Door::open().await;
    let (ann, bob) = (door.leaf("admin/ann"), door.leaf("admin/bob"));
    let (inside, guest) = door.enter(&ann).await;
    let (mut stays, other) = door.enter(&bob).await;
    door.house.publish_list(door.house.list().serial(&ann).expires_in(testkit::Duration::hours(1)).text());
    inside.ends().await;
    assert!(matches!(guest.judge(), Err(Denial::Revoked { .. })));
    door.house.advance(Duration::from_secs(7200));
    let client = door.house.client_of(&ann);
    door.is_turned_away(&client, "revoked", AlertDescription::CertificateRevoked).await;
    stays.stays().await;
    assert!(other.judge().is_ok());
}

#[tokio::test]
async fn the_overlay_shows_an_operator_out_with_or_without_a_snapshot() {
    for known in [true, false] {
        let mut door = Door::open().await;
        if !known {
            door.house.live.publish(|state| state.knowledge = Knowledge::Missing);
        }
        let (inside, guest) = door.enter(&door.leaf("admin/ann")).await;
        let ids = [("uri:spiffe://ops/admin/ann".to_owned(), vec![Terms::default()])].into();
        let overlay = Arc::new(Overlay::new(Selectors { ids, ..Selectors::default() }));
        door.house.live.publish(|state| state.overlay = overlay);
        inside.ends().await;
        assert_eq!(guest.judge().unwrap_err().to_string(), "revoked (leaf by id in overlay)");
        door.house.live.publish(|state| state.overlay = Arc::default());
        assert!(guest.judge().is_ok());
    }
}

#[tokio::test]
async fn an_operator_is_shown_out_at_the_end_of_the_certificate() {
    let mut door = Door::open().await;
    let leaf = door.leaf("admin/ann");
    let (inside, guest) = door.enter(&leaf).await;
    let end = trust::Time::from_seconds(leaf.not_after().unix_timestamp());
    door.house.set_time(end);
    assert!(guest.judge().is_ok(), "the last moment is part of the validity");
    door.house.set_time(end.next());
    inside.ends().await;
    assert!(matches!(guest.judge(), Err(Denial::Expired(trust::Place::Leaf))));
    let client = door.house.client_of(&leaf);
    door.is_turned_away(&client, "expired", AlertDescription::CertificateExpired).await;
}

#[tokio::test]
async fn another_bundle_counts_at_once_and_spares_whoever_has_another_path() {
    let mut door = Door::open().await;
    let second = Authority::root("operators' second root");
    let crossed =
        second.intermediate_with(AuthoritySpec::new("operators' issuing authority").reuse_key_of(&door.issuing));
    let (ann, bob) = (door.leaf("admin/ann"), door.leaf("admin/bob"));
    let (inside, guest) = door.enter(&ann).await;
    let chain = [bob.chain(), vec![crossed.der().clone()]].concat();
    let client = TlsClient::presenting(door.house.pki.server_root.der(), &bob, chain);
    let (stays, other) = door.knock(&client).await;
    let (mut stays, other) = (stays.unwrap(), other.unwrap());
    door.doorman.trust(bundle(&[&second]));
    inside.ends().await;
    assert_eq!(guest.judge(), Err(Denial::AnchorRemoved));
    stays.stays().await;
    assert!(other.judge().is_ok());
    let client = door.house.client_of(&ann);
    door.is_turned_away(&client, "unknown_issuer", AlertDescription::UnknownCA).await;
}

#[tokio::test]
async fn a_crl_that_waits_for_an_operators_issuer_is_indexed_by_the_visit_and_then_heeded() {
    let mut door = Door::open().await;
    let ann = door.leaf("admin/ann");
    let roots = bundle(&[&door.house.pki.client_root, &door.root]);
    door.house.live.publish(|state| state.bundle = roots);
    // The traffic knows the operators' root too here, so the CRL's issuer can be verified once it is shown.
    let crl = door.issuing.crl(CrlSpec::new(1).revoke(&ann.serial()));
    door.house.publish_list(crl);
    let (inside, guest) = door.enter(&ann).await;
    assert!(door.house.serve_introductions() >= 1, "the visit introduced nobody");
    inside.ends().await;
    assert!(matches!(guest.judge(), Err(Denial::Revoked { .. })));
}

#[tokio::test]
async fn a_client_that_offers_no_http1_or_hangs_up_is_turned_away() {
    let mut door = Door::open().await;
    drop(tokio::net::TcpStream::connect(door.address).await.unwrap());
    let met = tokio::time::timeout(PATIENCE, door.met.recv()).await.unwrap().unwrap();
    assert_eq!(met.err().unwrap().label, "client_gone");
    let client = door.house.client_of(&door.leaf("admin/ann"));
    client.connect(door.address, &["h2"]).await.map(drop).expect_err("HTTP/2 is not spoken here");
    let met = tokio::time::timeout(PATIENCE, door.met.recv()).await.unwrap().unwrap();
    assert_eq!(met.err().unwrap().label, "tls_error");
}
