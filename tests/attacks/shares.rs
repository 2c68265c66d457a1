//! Clients with valid certificates that take all there is: one identity, all connections, all connections to the app.

use std::time::Instant;

use http::Request;
use rustls::SignatureScheme;
use testkit::{Ending, RawApp, TlsClient, alert_of, read_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::forger::Forger;
use crate::ground::Ground;
use crate::program::{PATIENCE, eventually, in_time};

/// What an idle session may hold, in kilobytes; figures of a build without optimisation.
const SESSION: u64 = 24;

/// The end of a connection whose client was told, in its handshake or right after it, that it is one too many.
async fn refused(client: &TlsClient, ground: &Ground) -> String {
    match client.connect(ground.address(), &["http/1.1"]).await {
        Err(error) => format!("{:?}", alert_of(&error).map_or_else(|| error.to_string(), |alert| format!("{alert:?}"))),
        Ok(mut stream) => {
            // TLS 1.3: its client hears of the refusal after it has sent all it has to.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            format!("{:?}", read_to_end(&mut stream, PATIENCE).await.ending)
        }
    }
}

#[tokio::test]
async fn one_identity_takes_its_share_of_the_connections_and_no_more() {
    let ground = Ground::with(|flags| flags.with("--max-connections", "2000")).await;
    let (greedy, honest) = (ground.client("greedy"), ground.honest());
    let mut connections = Vec::new();
    for _ in 0..200 {
        connections.push(in_time("a connection", greedy.connect(ground.address(), &["h2"])).await.unwrap());
    }
    let active = async || ground.program.metric("portcullis_sessions_active", &[]).await;
    eventually("all of them are sessions", async || active().await >= 200.0).await;
    for _ in 0..20 {
        let told = refused(&greedy, &ground).await;
        assert!(told.contains("AccessDenied"), "{told}");
    }
    assert_eq!(ground.limited("connections_per_identity").await, 20.0);
    let result = [("result", "limit")];
    assert_eq!(ground.program.metric("portcullis_handshakes_total", &result).await, 20.0);
    let line = ground.program.log.wait_for("it is told", |line| line["event"] == "limit").await;
    let named = (line["limit"].as_str(), line["identity"].as_str());
    assert_eq!(named, (Some("connections_per_identity"), Some("uri:spiffe://td/greedy")));
    // Another certificate of the same identity is the same identity.
    assert!(refused(&ground.client("greedy"), &ground).await.contains("AccessDenied"));
    honest.end("a greedy identity").await;
    ground.assert_memory("a greedy identity", 220 * SESSION * 2);
    // A place is free as soon as one of its connections is closed.
    drop(connections.pop());
    eventually("the greedy one comes in again", async || {
        let Ok(mut client) = greedy.http1(ground.address()).await else { return false };
        client.get("/").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_certificate_shown_without_its_key_takes_nobodys_share() {
    let ground = Ground::with(|flags| flags.with("--max-connections-per-identity", "3")).await;
    let victim = ground.stage.client("victim");
    let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    for _ in 0..10 {
        let thief = Forger { chain: victim.chain(), scheme, signature: 70 };
        let told = thief.handshake(ground.stage.server_root.der(), ground.address()).await;
        assert!(told.contains("DecryptError"), "a stolen certificate is told {told}");
    }
    let client = TlsClient::new(ground.stage.server_root.der(), Some(&victim));
    for _ in 0..3 {
        assert_eq!(client.http1(ground.address()).await.unwrap().get("/").await.unwrap().status, 200);
    }
    assert_eq!(ground.limited("connections_per_identity").await, 0.0);
}

#[tokio::test]
async fn a_full_house_refuses_at_once_and_the_silent_go_first() {
    let flags = |flags: crate::stage::Flags| {
        flags
            .with("--max-connections", "20")
            .with("--max-connections-per-identity", "20")
            .with("--handshake-timeout", "60s")
    };
    let ground = Ground::with(flags).await;
    let address = ground.address();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    // All places are taken by the silent: whoever speaks comes in for them, one by one.
    let mut inside = Vec::new();
    for _ in 0..20 {
        let mut client = ground.client("a").http1(address).await.unwrap();
        assert_eq!(client.get("/").await.unwrap().status, 200);
        inside.push(client);
    }
    assert_eq!(ground.limited("connections").await, 20.0);
    for stream in &mut silent {
        let read = in_time("a silent one's end", stream.read(&mut [0; 1])).await;
        assert!(read.is_err(), "{read:?}");
    }
    // All are taken by sessions: whoever comes now is told so and need not wait.
    for _ in 0..20 {
        let began = Instant::now();
        // The reset may be there before the client has looked.
        if let Ok(mut late) = tokio::net::TcpStream::connect(address).await {
            assert_eq!(read_to_end(&mut late, PATIENCE).await.ending, Ending::Reset);
        }
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }
    assert_eq!(ground.limited("connections").await, 40.0);
    for client in &mut inside {
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn when_all_connections_to_the_app_are_in_use_requests_get_503_until_one_is_free() {
    let app = RawApp::silent().await;
    let ground = Ground::before(&app.addr().to_string(), |flags| flags.with("--max-app-connections", "5")).await;
    let client = ground.client("a").http2(ground.address()).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(client.start(Request::get("/").body(()).unwrap(), true).await.unwrap());
    }
    app.wait_for_connections(5).await;
    let mut other = ground.client("b").http1(ground.address()).await.unwrap();
    let answer = other.get("/").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (503, "busy\n"));
    assert_eq!(ground.limited("app_connections").await, 1.0);
    assert_eq!(ground.program.metric("portcullis_app_faults_total", &[("kind", "busy")]).await, 1.0);
    drop(waiting);
    drop(client);
    eventually("the app's connections are free", async || app.open_connections() == 0).await;
    let asking = tokio::spawn(async move { other.get("/").await.map(|answer| answer.status) });
    app.wait_for_connections(6).await;
    asking.abort();
    assert_eq!(ground.limited("app_connections").await, 1.0);
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_waited_for_as_long_as_it_was_told() {
    let app = RawApp::silent().await;
    let ground = Ground::before(&app.addr().to_string(), |flags| flags.with("--app-timeout", "300ms")).await;
    let mut client = ground.client("a").http1(ground.address()).await.unwrap();
    let began = Instant::now();
    assert_eq!(client.get("/").await.unwrap().status, 504);
    assert!(began.elapsed().as_millis() >= 300, "{:?}", began.elapsed());
    assert_eq!(ground.limited("app_timeout").await, 1.0);
}
