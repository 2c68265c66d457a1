//! How a tunnel ends without a cut: each side's goodbye reaches the other, and only a goodbye looks like one.

use std::io::ErrorKind;
use std::time::Duration;

use testkit::{ClientStream, Ending, TlsClient, read_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{HandedOver, RESET, hears, rest};
use crate::support::{House, PATIENCE};

async fn closed_for(house: &House, reason: &str, count: f64) {
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", reason)], count).await;
    assert_eq!(house.metric("portcullis_sessions_active", &[]), 0.0);
}

/// A session of `a` by either version of TLS: their rules about close_notify differ.
async fn of_both_versions(app: &mut HandedOver, house: &House) -> [(ClientStream, TcpStream); 2] {
    let (root, leaf) = (house.pki.server_root.der(), house.leaf("a"));
    let mut sessions = Vec::new();
    for client in [TlsClient::tls12(root, Some(&leaf)), TlsClient::tls13(root, Some(&leaf))] {
        sessions.push((client.connect(house.address(), &[]).await.unwrap(), app.next().await));
    }
    sessions.try_into().unwrap_or_else(|_| unreachable!("two were pushed"))
}

#[tokio::test]
async fn after_the_clients_goodbye_the_app_still_answers() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    for (mut client, mut app) in of_both_versions(&mut app, &house).await {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut app).await, (b"question".to_vec(), Ok(())));
        for word in [&b"one"[..], b"two"] {
            app.write_all(word).await.unwrap();
            hears(&mut client, word).await;
        }
        app.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, (vec![], Ok(())));
    }
    closed_for(&house, "client", 2.0).await;
}

#[tokio::test]
async fn after_the_apps_goodbye_the_client_still_speaks() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    for (mut client, mut app) in of_both_versions(&mut app, &house).await {
        app.write_all(b"bye").await.unwrap();
        app.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, (b"bye".to_vec(), Ok(())));
        for word in [&b"one"[..], b"two"] {
            client.write_all(word).await.unwrap();
            hears(&mut app, word).await;
        }
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut app).await, (vec![], Ok(())));
    }
    closed_for(&house, "client", 2.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_without_a_goodbye_has_its_app_see_a_reset() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (mut client, mut app) = app.session(&house).await;
    client.write_all(b"part of an upload").await.unwrap();
    hears(&mut app, b"part of an upload").await;
    // Closes the socket below TLS: whoever cuts the wire can do the same.
    client.get_mut().0.shutdown().await.unwrap();
    assert_eq!(rest(&mut app).await, (vec![], RESET));
    assert_eq!(read_to_end(&mut client, PATIENCE).await.ending, Ending::Reset);
    closed_for(&house, "client", 1.0).await;
}

#[tokio::test]
async fn a_client_that_resets_has_its_app_see_a_reset() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (client, mut app) = app.session(&house).await;
    client.get_ref().0.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(rest(&mut app).await, (vec![], RESET));
    closed_for(&house, "error", 1.0).await;
    assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0);
}

#[tokio::test]
async fn an_app_that_dies_has_its_client_see_a_reset_and_not_an_end() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (mut client, mut app) = app.session(&house).await;
    app.write_all(b"part of an answer").await.unwrap();
    hears(&mut client, b"part of an answer").await;
    app.set_zero_linger().unwrap();
    drop(app);
    assert_eq!(read_to_end(&mut client, PATIENCE).await.ending, Ending::Reset);
    closed_for(&house, "error", 1.0).await;
    assert_eq!(house.metric("portcullis_app_faults_total", &[("kind", "broken")]), 1.0);
}

#[tokio::test]
async fn an_app_that_closes_with_something_unread_has_its_client_see_a_reset() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (mut client, mut app) = app.session(&house).await;
    app.write_all(b"answer").await.unwrap();
    hears(&mut client, b"answer").await;
    client.write_all(b"unread").await.unwrap();
    assert_eq!(app.peek(&mut [0; 6]).await.unwrap(), 6);
    drop(app);
    assert_eq!(read_to_end(&mut client, PATIENCE).await.ending, Ending::Reset);
    closed_for(&house, "error", 1.0).await;
}

#[tokio::test]
async fn an_apps_last_words_reach_a_client_that_is_still_sending() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (mut client, mut app) = app.session(&house).await;
    client.write_all(b"QUIT\r\n").await.unwrap();
    hears(&mut app, b"QUIT\r\n").await;
    app.write_all(b"+OK\r\n").await.unwrap();
    drop(app);
    // What follows meets an app that is gone; what it said before is still to be heard.
    for _ in 0..100 {
        client.write_all(b"GET key\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(rest(&mut client).await, (b"+OK\r\n".to_vec(), Ok(())));
    client.shutdown().await.unwrap();
    drop(client);
    closed_for(&house, "client", 1.0).await;
    assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0);
}

#[tokio::test]
async fn a_client_that_never_stops_sending_to_an_app_that_is_gone_is_not_heard_for_ever() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (mut client, app) = app.session(&house).await;
    drop(app);
    let sending = async { while client.write_all(&[0; 1024]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, sending).await.expect("nobody listens to it any longer");
    let ending = client.read(&mut [0; 16]).await.map_err(|error| error.kind());
    assert!(matches!(ending, Ok(0) | Err(ErrorKind::ConnectionReset)), "{ending:?}");
    closed_for(&house, "client", 1.0).await;
}

#[tokio::test]
async fn a_stop_gives_tunnels_their_time_and_then_resets_both_sides() {
    let mut app = HandedOver::start().await;
    let house = app.house().limits(|limits| limits.stop = Duration::from_millis(500)).start();
    let (mut client, mut app) = app.session(&house).await;
    let stopping = tokio::spawn({
        let running = house.running.clone();
        async move { running.stop().await }
    });
    while !house.running.is_stopping() {
        tokio::task::yield_now().await;
    }
    client.write_all(b"still here").await.unwrap();
    hears(&mut app, b"still here").await;
    app.write_all(b"so am I").await.unwrap();
    hears(&mut client, b"so am I").await;
    assert_eq!(rest(&mut app).await, (vec![], RESET));
    assert_eq!(read_to_end(&mut client, PATIENCE).await.ending, Ending::Reset);
    stopping.await.unwrap();
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "stop")]), 1.0);
}
