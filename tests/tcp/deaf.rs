//! Sides that do not read: bytes are on their way in every buffer when trust ends, and must not arrive later.

use std::time::{Duration, Instant};

use testkit::{Ending, read_to_end};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::stage::{HandedOver, RESET, assert_cut, assert_left, rest};
use crate::support::PATIENCE;

/// What this socket's own kernel holds for it, once that does not grow any more.
async fn held_by_the_kernel(socket: &TcpStream) -> usize {
    let mut seen = vec![0; 64 << 20];
    let started = Instant::now();
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = socket.peek(&mut seen).await.unwrap();
        if now == before && now > 100_000 {
            return now;
        }
        before = now;
        assert!(started.elapsed() < PATIENCE, "the buffer does not fill: {now} bytes");
    }
}

/// Sends without end, as long as it can.
fn flood(mut writer: impl tokio::io::AsyncWrite + Send + Unpin + 'static) {
    tokio::spawn(async move { while writer.write_all(&[7; 16 << 10]).await.is_ok() {} });
}

#[tokio::test]
async fn a_client_that_does_not_read_is_reset_within_the_bound_and_so_is_its_app() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (mut client, app) = app.session(&house).await;
    let (mut app, writer) = app.into_split();
    flood(writer);
    let held = held_by_the_kernel(client.get_ref().0).await;
    let since = Instant::now();
    house.revoke("a");
    assert_left(&house, 0.0, since).await;
    assert_eq!(rest(&mut app).await.1, RESET);
    let heard = read_to_end(&mut client, PATIENCE).await;
    assert!(heard.bytes.len() <= held, "{} bytes came of {held} that were there", heard.bytes.len());
    assert_eq!(heard.ending, Ending::Reset);
    assert_cut(&house, "revoked", 1.0).await;
}

#[tokio::test]
async fn an_app_that_does_not_read_gets_no_byte_beyond_its_own_buffer_and_no_end() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (client, mut app) = app.session(&house).await;
    let (mut client, writer) = tokio::io::split(client);
    flood(writer);
    let held = held_by_the_kernel(&app).await;
    let since = Instant::now();
    house.revoke("a");
    assert_left(&house, 0.0, since).await;
    let (bytes, ending) = rest(&mut app).await;
    assert!(bytes.len() <= held, "{} bytes came of {held} that were there", bytes.len());
    assert_eq!(ending, RESET);
    assert_eq!(rest(&mut client).await, (vec![], RESET));
    assert_cut(&house, "revoked", 1.0).await;
}

#[tokio::test]
async fn a_session_of_which_one_half_ended_before_is_cut_as_well() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (mut asked, mut asked_app) = app.session(&house).await;
    asked.shutdown().await.unwrap();
    assert_eq!(rest(&mut asked_app).await, (vec![], Ok(())));
    let (mut told, mut told_app) = app.session(&house).await;
    told_app.shutdown().await.unwrap();
    assert_eq!(rest(&mut told).await, (vec![], Ok(())));
    let since = Instant::now();
    house.revoke("a");
    assert_left(&house, 0.0, since).await;
    assert_eq!(read_to_end(&mut asked, PATIENCE).await.ending, Ending::Reset);
    assert_eq!(rest(&mut told_app).await, (vec![], RESET));
    asked_app.write_all(b"late").await.unwrap_err();
    assert_cut(&house, "revoked", 2.0).await;
}
