//! Bytes of sessions that are trusted: all of them, in order, both ways, whoever speaks first.

use std::sync::Arc;

use proxy::{AppAddress, Protocol, Tcp};
use rustls::AlertDescription;
use testkit::raw_app::unused_address;
use testkit::{Ending, TlsClient, alert_of, read_to_end, sha256};
use tokio::io::{AsyncWriteExt as _, split};
use tokio::net::UnixListener;

use crate::stage::{HandedOver, connect, hears, rest};
use crate::support::{House, PATIENCE};

/// So many bytes that no two of its 64 kB are alike.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    let piece: Vec<u8> = std::iter::repeat_with(&mut next).take(8 << 10).flatten().collect();
    let pieces = std::iter::repeat_with(|| [&next()[..], &piece[8..]].concat());
    pieces.take(length / piece.len()).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn what_the_client_and_the_app_say_reaches_the_other_whoever_speaks_first() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    for first in ["client", "app"] {
        let (mut client, mut app) = app.session(&house).await;
        if first == "client" {
            client.write_all(b"ping").await.unwrap();
            hears(&mut app, b"ping").await;
        }
        app.write_all(b"+PONG\r\n").await.unwrap();
        hears(&mut client, b"+PONG\r\n").await;
        client.write_all(&[0, 255, 13, 10]).await.unwrap();
        hears(&mut app, &[0, 255, 13, 10]).await;
    }
    assert_eq!(app.app.connections(), 2, "each session has a connection of its own");
    let labels = [("verdict", "permitted"), ("reason", "trusted"), ("protocol", "tcp")];
    assert_eq!(house.metric("portcullis_requests_total", &labels), 2.0);
    assert_eq!(house.metric("portcullis_requests_total", &[]), 2.0);
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_whole_in_both_directions_at_once() {
    const LENGTH: usize = 100 << 20;
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (client, app) = app.session(&house).await;
    let up = Arc::new(noise(LENGTH, 1));
    let down = Arc::new(noise(LENGTH, 2));
    let digests = [sha256(&up), sha256(&down)];
    let (mut client_reads, mut client_writes) = split(client);
    let (mut app_reads, mut app_writes) = app.into_split();
    let sending = tokio::spawn(async move {
        client_writes.write_all(&up).await.unwrap();
        client_writes.shutdown().await.unwrap();
        client_writes
    });
    let answering = tokio::spawn(async move {
        app_writes.write_all(&down).await.unwrap();
        app_writes.shutdown().await.unwrap();
        app_writes
    });
    let arriving = tokio::spawn(async move { rest(&mut app_reads).await });
    let (bytes, ending) = rest(&mut client_reads).await;
    assert_eq!((bytes.len(), sha256(&bytes), ending), (LENGTH, digests[1], Ok(())));
    let (bytes, ending) = arriving.await.unwrap();
    assert_eq!((bytes.len(), sha256(&bytes), ending), (LENGTH, digests[0], Ok(())));
    drop((sending.await.unwrap(), answering.await.unwrap()));
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "client")], 1.0).await;
}

#[tokio::test]
async fn an_app_on_a_unix_socket_is_reached_and_both_ends_are_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("app")).unwrap();
    let address = AppAddress::Unix(folder.path().join("app"));
    let house = House::before_address(address).protocol(Protocol::Tcp(Tcp::default())).start();
    let mut client = connect(&house, "a").await;
    let (mut app, _) = listener.accept().await.unwrap();
    client.write_all(b"all of it").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut app).await, (b"all of it".to_vec(), Ok(())));
    app.write_all(b"noted").await.unwrap();
    drop(app);
    assert_eq!(rest(&mut client).await, (b"noted".to_vec(), Ok(())));
}

#[tokio::test]
async fn no_protocol_is_chosen_by_alpn_whatever_a_client_offers() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    for offered in [&["h2", "http/1.1"][..], &["postgresql"], &["h2"], &[]] {
        let mut client = house.client("a").connect(house.address(), offered).await.unwrap();
        assert_eq!(client.get_ref().1.alpn_protocol(), None, "{offered:?}");
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        hears(&mut app.next().await, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_named_protocol_is_chosen_by_those_who_offer_it_and_asked_of_nobody() {
    let mut app = HandedOver::start().await;
    let tcp = Tcp { alpn: Some("postgresql".to_owned()), ..Tcp::default() };
    let house = app.house().protocol(Protocol::Tcp(tcp)).start();
    for (offered, chosen) in
        [(&["postgresql"][..], Some(&b"postgresql"[..])), (&["h2", "postgresql"], Some(b"postgresql")), (&[], None)]
    {
        let client = house.client("a").connect(house.address(), offered).await.unwrap();
        assert_eq!(client.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
        app.next().await;
    }
    // RFC 7301 §3.2: who offers others only is told so.
    let error = house.client("a").connect(house.address(), &["h2"]).await.unwrap_err();
    assert_eq!(alert_of(&error), Some(AlertDescription::NoApplicationProtocol));
    assert_eq!(app.app.connections(), 3);
}

#[tokio::test]
async fn a_client_without_a_certificate_or_with_a_revoked_one_never_reaches_the_app() {
    let app = HandedOver::start().await;
    let house = app.house().start();
    house.revoke("a");
    for (client, alert) in [
        (house.stranger(), AlertDescription::CertificateRequired),
        (house.client("a"), AlertDescription::CertificateRevoked),
    ] {
        let mut stream = client.connect(house.address(), &[]).await.unwrap();
        let _ = stream.write_all(b"hello").await;
        assert_eq!(read_to_end(&mut stream, PATIENCE).await.ending, Ending::Alert(alert));
    }
    let older = TlsClient::tls12(house.pki.server_root.der(), None).connect(house.address(), &[]).await.unwrap_err();
    assert_eq!(alert_of(&older), Some(AlertDescription::CertificateRequired));
    assert_eq!(app.app.connections(), 0);
}

#[tokio::test]
async fn an_app_that_is_down_costs_its_client_the_connection_and_is_counted() {
    let address = AppAddress::Socket(unused_address().await);
    let house = House::before_address(address).protocol(Protocol::Tcp(Tcp::default())).start();
    let mut client = connect(&house, "a").await;
    assert_eq!(read_to_end(&mut client, PATIENCE).await.ending, Ending::Reset);
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "error")], 1.0).await;
    assert_eq!(house.metric("portcullis_app_faults_total", &[("kind", "unreachable")]), 1.0);
}
