//! Sides that do not read: bytes are on their way in every buffer when trust ends, and must not arrive later.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use testkit::{Ending, read_to_end};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

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

/// Sends without end, as long as it can; why not any longer.
fn flood(mut writer: impl AsyncWrite + Send + Unpin + 'static) -> JoinHandle<ErrorKind> {
    tokio::spawn(async move {
        loop {
            if let Err(error) = writer.write_all(&[7; 16 << 10]).await {
                return error.kind();
            }
        }
    })
}

/// Fails unless a side that reads here and floods there was reset. The kernel tells a reset once, to whoever asks first.
async fn assert_reset(reader: &mut (impl AsyncRead + Unpin), flooding: JoinHandle<ErrorKind>) {
    let (bytes, read) = rest(reader).await;
    let wrote = tokio::time::timeout(PATIENCE, flooding).await.expect("it cannot send for ever").unwrap();
    assert!(bytes.is_empty(), "{} bytes came", bytes.len());
    assert!(read == RESET || wrote == ErrorKind::ConnectionReset, "read: {read:?}, write: {wrote:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_reset_within_the_bound_and_so_is_its_app() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let (mut client, app) = app.session(&house).await;
    let (mut app, writer) = app.into_split();
    let flooding = flood(writer);
    let held = held_by_the_kernel(client.get_ref().0).await;
    let since = Instant::now();
    house.revoke("a");
    assert_left(&house, 0.0, since).await;
    assert_reset(&mut app, flooding).await;
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
    let flooding = flood(writer);
    let held = held_by_the_kernel(&app).await;
    let since = Instant::now();
    house.revoke("a");
    assert_left(&house, 0.0, since).await;
    let (bytes, ending) = rest(&mut app).await;
    assert!(bytes.len() <= held, "{} bytes came of {held} that were there", bytes.len());
    assert_eq!(ending, RESET);
    assert_reset(&mut client, flooding).await;
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
