//! Who is let in: the TLS alert that each kind of refused client sees, and what is counted for it.

use std::time::{Duration, Instant};

use rustls::{AlertDescription, HandshakeKind, ProtocolVersion};
use testkit::{
    Authority, Ending, ExtendedKeyUsagePurpose, Leaf, LeafSpec, OffsetDateTime, RecordingApp, TlsClient, alert_of,
};
use tokio::io::AsyncWriteExt;
use trust::{Allow, IdentityPattern};

use crate::support::{House, PATIENCE};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn house() -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    (app, house)
}

fn by_version(house: &House, leaf: Option<&Leaf>) -> [TlsClient; 2] {
    let root = house.pki.server_root.der();
    [TlsClient::tls12(root, leaf), TlsClient::tls13(root, leaf)]
}

/// The alert that a client sees, whenever it sees it; panics if it is let in.
async fn alert_to(house: &House, client: &TlsClient) -> AlertDescription {
    match client.raw(house.address(), GET, PATIENCE).await {
        Err(error) => alert_of(&error).unwrap_or_else(|| panic!("no alert but {error}")),
        Ok(answer) => {
            let Ending::Alert(alert) = answer.ending else { panic!("no alert but {answer:?}") };
            alert
        }
    }
}

async fn assert_refused(
    leaf: Option<&Leaf>,
    (house, app): (&House, &RecordingApp),
    alerts: &[AlertDescription],
    result: &str,
) {
    let labels = [("result", result)];
    let before = house.metric("portcullis_handshakes_total", &labels);
    for client in by_version(house, leaf) {
        let alert = alert_to(house, &client).await;
        assert!(alerts.contains(&alert), "{result}: {alert:?}");
    }
    house.wait_for_metric("portcullis_handshakes_total", &labels, before + 2.0).await;
    assert_eq!(app.count(), 0, "{result}");
    assert_eq!(house.metric("portcullis_sessions_opened_total", &[]), 0.0, "{result}");
}

#[tokio::test]
async fn both_tls_versions_are_spoken_and_counted() {
    let (_app, house) = house().await;
    let versions = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];
    for (client, version) in by_version(&house, Some(&house.leaf("a"))).into_iter().zip(versions) {
        for alpn in ["h2", "http/1.1"] {
            let stream = client.connect(house.address(), &[alpn]).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version));
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        }
        assert_eq!(client.http1(house.address()).await.unwrap().get("/").await.unwrap().text(), "hello");
        assert_eq!(client.http2(house.address()).await.unwrap().get("/").await.unwrap().text(), "hello");
    }
    house.wait_for_metric("portcullis_handshakes_total", &[("result", "ok")], 8.0).await;
    house.wait_for_metric("portcullis_handshake_seconds_count", &[], 8.0).await;
    house.wait_for_metric("portcullis_handshakes_total", &[], 8.0).await;
}

#[tokio::test]
async fn a_client_without_alpn_speaks_http1_and_one_with_a_strange_protocol_is_refused() {
    let (_app, house) = house().await;
    let client = house.client("a");
    let stream = client.connect(house.address(), &[]).await.unwrap();
    assert_eq!(testkit::Http1Client::over(stream).await.unwrap().get("/").await.unwrap().text(), "hello");
    let refused = client.connect(house.address(), &["spdy/3"]).await.expect_err("no protocol is common");
    assert_eq!(alert_of(&refused), Some(AlertDescription::NoApplicationProtocol));
    house.wait_for_metric("portcullis_handshakes_total", &[("result", "tls_error")], 1.0).await;
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let (app, house) = house().await;
    let alerts = [AlertDescription::CertificateRequired, AlertDescription::HandshakeFailure];
    assert_refused(None, (&house, &app), &alerts, "no_certificate").await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let (app, house) = house().await;
    // The same names with other keys, and the authority that vouches for the proxy alone.
    let imposter = Authority::root("clients' root").intermediate("clients' issuing authority");
    for authority in [&imposter, &house.pki.server_root] {
        let leaf = authority.issue(LeafSpec::spiffe("spiffe://td/a"));
        let labels = [("result", "unknown_issuer"), ("result", "bad_signature")];
        let counted = || labels.iter().map(|label| house.metric("portcullis_handshakes_total", &[*label])).sum::<f64>();
        let before = counted();
        for client in by_version(&house, Some(&leaf)) {
            let alert = alert_to(&house, &client).await;
            assert_eq!(alert, AlertDescription::UnknownCA);
        }
        crate::support::eventually("both are counted", || counted() == before + 2.0).await;
    }
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn a_certificate_outside_its_time_is_refused() {
    let (app, house) = house().await;
    let now = OffsetDateTime::now_utc();
    let hour = testkit::Duration::hours(1);
    let spec = LeafSpec::spiffe("spiffe://td/a");
    let late = house.pki.issuing.issue(spec.clone().not_before(now - hour * 2).not_after(now - hour));
    assert_refused(Some(&late), (&house, &app), &[AlertDescription::CertificateExpired], "expired").await;
    let early = house.pki.issuing.issue(spec.not_before(now + hour).not_after(now + hour * 2));
    let alerts = [AlertDescription::BadCertificate, AlertDescription::CertificateExpired];
    assert_refused(Some(&early), (&house, &app), &alerts, "not_yet_valid").await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let (app, house) = house().await;
    house.revoke("a");
    assert_refused(Some(&house.leaf("a")), (&house, &app), &[AlertDescription::CertificateRevoked], "revoked").await;
}

#[tokio::test]
async fn a_client_below_a_revoked_intermediate_is_refused() {
    let (app, house) = house().await;
    house.publish_list(house.list().authority_serial(&house.pki.issuing, &house.pki.client_root).text());
    assert_refused(Some(&house.leaf("a")), (&house, &app), &[AlertDescription::CertificateRevoked], "revoked").await;
}

#[tokio::test]
async fn an_identity_that_is_not_allowed_is_refused() {
    let app = RecordingApp::start().await;
    let allowed = IdentityPattern::parse("uri:spiffe://td/front/*").unwrap();
    let house = House::before(app.addr()).policy(|policy| policy.allow = Allow::Only(vec![allowed])).start();
    let alerts = [AlertDescription::AccessDenied];
    assert_refused(Some(&house.leaf("back/a")), (&house, &app), &alerts, "identity_not_allowed").await;
    let mut client = house.client("front/a").http1(house.address()).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_certificate_that_is_not_for_clients_is_refused() {
    let (app, house) = house().await;
    let spec = LeafSpec::spiffe("spiffe://td/a").extended_key_usages(&[ExtendedKeyUsagePurpose::ServerAuth]);
    let leaf = house.pki.issuing.issue(spec);
    assert_refused(Some(&leaf), (&house, &app), &[AlertDescription::UnsupportedCertificate], "not_for_clients").await;
}

#[tokio::test]
async fn nobody_is_let_in_before_there_is_a_snapshot() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).without_snapshot().start();
    assert_refused(Some(&house.leaf("a")), (&house, &app), &[AlertDescription::AccessDenied], "no_snapshot").await;
    house.publish_list(house.list().text());
    let mut client = house.client("a").http1(house.address()).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn no_session_is_ever_resumed_and_no_ticket_is_given() {
    let (_app, house) = house().await;
    for client in by_version(&house, Some(&house.leaf("a"))) {
        for _ in 0..3 {
            let mut stream = client.connect(house.address(), &["http/1.1"]).await.unwrap();
            // The answer comes after any ticket, so that none can still be under way.
            let answer = testkit::exchange_bytes(
                &mut stream,
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                PATIENCE,
            )
            .await;
            assert!(answer.text().contains("hello"), "{answer:?}");
            let session = stream.get_ref().1;
            assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(session.tls13_tickets_received(), 0);
        }
    }
    assert_eq!(house.metric("portcullis_handshakes_total", &[("result", "ok")]), 6.0);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go_after_the_deadline() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.handshake = Duration::from_millis(200)).start();
    let mut socket = tokio::net::TcpStream::connect(house.address()).await.unwrap();
    let ended = testkit::read_to_end(&mut socket, PATIENCE).await;
    assert_ne!(ended.ending, Ending::StillOpen);
    house.wait_for_metric("portcullis_handshakes_total", &[("result", "timeout")], 1.0).await;
}

#[tokio::test]
async fn bytes_that_are_no_tls_are_refused_and_counted() {
    let (app, house) = house().await;
    let mut socket = tokio::net::TcpStream::connect(house.address()).await.unwrap();
    let ended = testkit::exchange_bytes(&mut socket, GET, PATIENCE).await;
    assert_ne!(ended.ending, Ending::StillOpen);
    house.wait_for_metric("portcullis_handshakes_total", &[("result", "tls_error")], 1.0).await;
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn whoever_is_refused_takes_a_place_until_its_socket_is_closed() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.connections = 2).start();
    let mut refused = Vec::new();
    for _ in 0..2 {
        let mut socket = tokio::net::TcpStream::connect(house.address()).await.unwrap();
        socket.write_all(b"no TLS at all, and yet I stay").await.unwrap();
        refused.push(socket);
    }
    house.wait_for_metric("portcullis_handshakes_total", &[("result", "tls_error")], 2.0).await;
    // A refused socket is held for half a second, so that its client gets to read the alert.
    match tokio::net::TcpStream::connect(house.address()).await {
        Ok(mut third) => assert_eq!(testkit::read_to_end(&mut third, PATIENCE).await.ending, Ending::Reset),
        // It was faster than we.
        Err(reset) => assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert_eq!(house.metric("portcullis_limits_total", &[("limit", "connections")]), 1.0);
    for socket in &mut refused {
        assert_ne!(testkit::read_to_end(socket, PATIENCE).await.ending, Ending::StillOpen);
    }
    drop(refused);
    let started = Instant::now();
    let mut let_in = loop {
        match house.client("a").http1(house.address()).await {
            Ok(client) => break client,
            Err(error) => assert!(started.elapsed() < PATIENCE, "there is a place again: {error}"),
        }
    };
    assert_eq!(let_in.get("/").await.unwrap().text(), "hello");
}
