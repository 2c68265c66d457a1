//! From the publish on no byte passes, in either direction: every byte of a stream carries the time at which it was sent,
//! by an app on a thread of its own, and none that was sent after the publish arrives. How soon all is over is measured in
//! `cuts.rs`: here an app sends as fast as it can.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use testkit::websocket::{BINARY, CLOSE, Frame, accepting};

use crate::client::{BOTH, Over, Tunnel, Version, open, open_connect};
use crate::cuts::{Cause, close};
use crate::support::{House, eventually};

/// Nanoseconds on a clock that app and test share.
fn stamp() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGINNING.get_or_init(Instant::now).elapsed().as_nanos()).unwrap()
}

/// What a tunnel carries here: a stamp of 8 bytes, bare or in a frame.
fn record(frames: bool, client: bool) -> Vec<u8> {
    let bare = stamp().to_be_bytes().to_vec();
    match (frames, client) {
        (false, _) => bare,
        (true, false) => Frame::new(BINARY, bare).bytes(),
        (true, true) => Frame::new(BINARY, bare).masked().bytes(),
    }
}

/// The stamps in these bytes, and what is not one: the frames of another kind, and a rest.
fn stamps(frames: bool, mut bytes: Vec<u8>) -> (Vec<u64>, Vec<Frame>, Vec<u8>) {
    if !frames {
        let all = bytes.chunks_exact(8).map(|chunk| u64::from_be_bytes(chunk.try_into().unwrap())).collect();
        return (all, Vec::new(), Vec::new());
    }
    let (mut all, mut others) = (Vec::new(), Vec::new());
    while let Some(frame) = Frame::parse(&mut bytes) {
        match frame.opcode {
            BINARY => all.push(u64::from_be_bytes(frame.payload.try_into().unwrap())),
            _ => others.push(frame),
        }
    }
    (all, others, bytes)
}

/// An app that accepts every tunnel, stamps what it sends on the first, and reads the stamps of the second.
struct Stamper {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
    ended: Arc<AtomicUsize>,
}

impl Stamper {
    fn start(frames: bool, pace: Option<Duration>) -> Stamper {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stamper = Stamper {
            address: listener.local_addr().unwrap(),
            sent: Arc::default(),
            heard: Arc::default(),
            ended: Arc::default(),
        };
        let (sent, heard, ended) = (stamper.sent.clone(), stamper.heard.clone(), stamper.ended.clone());
        std::thread::spawn(move || {
            let down = accept(&listener);
            let up = accept(&listener);
            let ending = ended.clone();
            std::thread::spawn(move || {
                listen(up, frames, &heard);
                ending.fetch_add(1, Ordering::SeqCst);
            });
            speak(down, frames, (pace, &sent));
            ended.fetch_add(1, Ordering::SeqCst);
        });
        stamper
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream.write_all(accepting(std::str::from_utf8(&head).unwrap(), "").as_bytes()).unwrap();
    stream
}

fn speak(mut stream: TcpStream, frames: bool, (pace, sent): (Option<Duration>, &AtomicU64)) {
    while stream.write_all(&record(frames, false)).is_ok() {
        sent.fetch_add(1, Ordering::SeqCst);
        if let Some(pace) = pace {
            std::thread::park_timeout(pace);
        }
    }
}

fn listen(mut stream: TcpStream, frames: bool, heard: &AtomicU64) {
    let (mut unread, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        unread.extend_from_slice(&buffer[..count]);
        let whole = if frames { unread.len() / 14 * 14 } else { unread.len() / 8 * 8 };
        for latest in stamps(frames, unread.drain(..whole).collect()).0 {
            heard.fetch_max(latest, Ordering::SeqCst);
        }
    }
}

async fn tunnel(house: &House, version: Version, frames: bool) -> Tunnel {
    let client = house.client("a");
    if frames { open(house, &client, version).await } else { open_connect(house, &client, version).await }
}

/// Sends stamps until that fails.
async fn talk(mut tunnel: Tunnel, frames: bool) {
    while tunnel.send(record(frames, true)).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

async fn assert_nothing_passes(cause: Cause, version: Version, (frames, pace): (bool, Option<Duration>)) {
    let case = format!("{cause:?}, {version:?}, frames: {frames}, pace: {pace:?}");
    let app = Stamper::start(frames, pace);
    let house = cause.house_at(app.address);
    let mut down = tunnel(&house, version, frames).await;
    let up = tokio::spawn(talk(tunnel(&house, version, frames).await, frames));
    let first = down.exactly(20 * record(frames, false).len()).await;
    let reading = tokio::spawn(async move { (down.rest().await, down) });
    eventually("the other direction flows", || app.heard.load(Ordering::SeqCst) > 0).await;
    let sent = app.sent.load(Ordering::SeqCst);
    eventually("the first one still does", || app.sent.load(Ordering::SeqCst) > sent).await;
    cause.end(&house);
    let published = stamp();
    let ((bytes, over), down) = reading.await.unwrap();
    up.await.unwrap();
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    down.closed().await;
    eventually("the app has heard both ends", || app.ended.load(Ordering::SeqCst) == 2).await;
    let (came, others, rest) = stamps(frames, [first, bytes].concat());
    let late = came.iter().filter(|at| **at > published).count();
    assert_eq!(late, 0, "{case}: {late} of {} records were sent after the publish", came.len());
    let heard = app.heard.load(Ordering::SeqCst);
    assert!(heard <= published, "{case}: the app heard what was sent {} ns after the publish", heard - published);
    // A Close comes whole and last, or the tunnel breaks off; it never ends as if nothing had happened.
    match over {
        Over::Clean => assert_eq!((others, rest), (vec![close(cause.label())], Vec::new()), "{case}"),
        Over::Broken(_) => assert!(others.iter().all(|frame| frame.opcode != CLOSE) || frames, "{case}"),
    }
    assert!(frames || over != Over::Clean, "{case}: a tunnel of bytes ended cleanly");
}

async fn assert_for_every_tunnel(cause: Cause) {
    for version in BOTH {
        for frames in [true, false] {
            for pace in [Some(Duration::from_micros(300)), None] {
                assert_nothing_passes(cause, version, (frames, pace)).await;
            }
        }
    }
}

#[tokio::test]
async fn nothing_sent_after_a_revocation_passes() {
    assert_for_every_tunnel(Cause::Revocation).await;
}

#[tokio::test]
async fn nothing_sent_after_a_certificates_end_passes() {
    assert_for_every_tunnel(Cause::NotAfter).await;
}

#[tokio::test]
async fn nothing_sent_after_the_removal_of_an_anchor_passes() {
    assert_for_every_tunnel(Cause::RemovedAnchor).await;
}

#[tokio::test]
async fn nothing_sent_after_a_session_became_too_old_passes() {
    assert_for_every_tunnel(Cause::SessionAge).await;
}
