//! What a WebSocket carries, and how it ends when nobody's trust does.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::RawApp;
use testkit::websocket::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, welcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{BOTH, Over, Version, ask, open};
use crate::support::{House, eventually};

/// An app that accepts a WebSocket and goes on like this.
pub(crate) async fn app<Serve, Served>(serve: Serve) -> RawApp
where
    Serve: Fn(TcpStream) -> Served + Clone + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    RawApp::start(move |mut stream, _| {
        let serve = serve.clone();
        async move {
            stream.set_nodelay(true).unwrap();
            welcome(&mut stream, "", b"").await;
            serve(stream).await;
        }
    })
    .await
}

async fn echo() -> RawApp {
    app(|mut stream| async move {
        let (mut reading, mut writing) = stream.split();
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
    })
    .await
}

fn frames() -> Vec<Frame> {
    let of = |opcode, length: usize| Frame::new(opcode, (0..length).map(|byte| (byte % 251) as u8).collect::<Vec<_>>());
    let mut frames: Vec<_> = [0, 1, 125, 126, 127, 16_300, 16_384, 16_385, 65_535, 65_536, 300_000]
        .into_iter()
        .flat_map(|length| [of(BINARY, length), of(BINARY, length).masked()])
        .collect();
    frames.push(of(TEXT, 10).unfinished());
    frames.push(of(PING, 4));
    frames.push(of(CONTINUATION, 70_000).unfinished());
    frames.push(of(PONG, 0));
    frames.push(of(CONTINUATION, 1));
    // Reserved bits are an extension's affair, as is what such an opcode means.
    frames.push(of(0x3, 5));
    frames
}

#[tokio::test]
async fn frames_of_every_size_and_kind_pass_unchanged() {
    let app = echo().await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        for frame in frames() {
            tunnel.say(frame.clone()).await;
            assert_eq!(tunnel.frame().await, frame, "{version:?}");
        }
    }
}

#[tokio::test]
async fn frames_that_an_app_writes_in_pieces_arrive_whole() {
    let app = app(|mut stream| async move {
        for frame in frames() {
            let bytes = frame.bytes();
            let (start, rest) = bytes.split_at(1.min(bytes.len()));
            let (middle, rest) = rest.split_at(rest.len() / 2);
            for piece in [start, middle, rest] {
                stream.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        // A frame that its own sender never finishes goes on as it is.
        stream.write_all(&[0x82, 100, 1, 2, 3]).await.unwrap();
        stream.shutdown().await.unwrap();
    })
    .await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        let (came, rest, over) = open(&house, &house.client("a"), version).await.frames().await;
        assert_eq!((came.len(), over), (frames().len(), Over::Clean), "{version:?}");
        assert!(came == frames());
        assert_eq!(rest, [0x82, 100, 1, 2, 3]);
    }
}

#[tokio::test]
async fn bytes_that_are_no_frames_pass_as_well() {
    let app = echo().await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        // Read as frames: one of 0x73 bytes, of which nothing else will come, and it is held; the end sets it free.
        tunnel.send("as it comes").await.unwrap();
        tunnel.finish().await;
        assert_eq!(tunnel.rest().await, (b"as it comes".to_vec(), Over::Clean), "{version:?}");
    }
}

#[tokio::test]
async fn an_app_that_ends_ends_the_client_cleanly_with_its_own_last_word() {
    let app = app(|mut stream| async move {
        stream.write_all(&Frame::new(CLOSE, [3, 232]).bytes()).await.unwrap();
        let mut unread = Vec::new();
        stream.read_buf(&mut unread).await.unwrap();
    })
    .await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        assert_eq!(tunnel.frame().await, Frame::new(CLOSE, [3, 232]));
        tunnel.say(Frame::new(CLOSE, [3, 232]).masked()).await;
        assert_eq!(tunnel.rest().await, (Vec::new(), Over::Clean));
        if version == Version::One {
            tunnel.closed().await;
            house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "client")], 1.0).await;
        } else {
            assert_eq!(house.metric("portcullis_sessions_active", &[]), 1.0, "the connection outlives its stream");
        }
    }
    app.wait_for_silence().await;
    assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0);
}

#[tokio::test]
async fn a_client_that_ends_or_vanishes_ends_the_app() {
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let noted = Arc::clone(&heard);
    let app = app(move |mut stream| {
        let noted = Arc::clone(&noted);
        async move {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            noted.lock().unwrap().push(all);
        }
    })
    .await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        for vanishes in [false, true] {
            let mut tunnel = open(&house, &house.client("a"), version).await;
            tunnel.say(Frame::new(TEXT, "last").masked()).await;
            if vanishes {
                eventually("the frame is passed on", || house.metric("portcullis_sessions_active", &[]) >= 1.0).await;
                tunnel.vanish();
                app.wait_for_silence().await;
            } else {
                tunnel.finish().await;
                assert_eq!(tunnel.rest().await, (Vec::new(), Over::Clean));
                app.wait_for_silence().await;
                assert_eq!(heard.lock().unwrap().pop().unwrap(), Frame::new(TEXT, "last").masked().bytes());
            }
        }
    }
    house.wait_for_metric("portcullis_app_faults_total", &[], 0.0).await;
}

#[tokio::test]
async fn a_client_that_ended_is_not_kept_by_an_app_that_does_not_go() {
    let app = app(|mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        // It stays until it is told to go by a reset.
        while stream.write_all(&Frame::new(PING, "").bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    })
    .await;
    let limit = Duration::from_millis(100);
    let house = House::before(app.addr()).limits(|limits| limits.tunnel_half_closed = limit).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        tunnel.finish().await;
        let (frames, rest, over) = tunnel.frames().await;
        assert_eq!((frames, rest), (vec![Frame::new(PING, "")], Vec::new()));
        assert!(matches!(over, Over::Broken(_)), "{version:?}: {over:?}");
    }
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "timeout")], 1.0).await;
}

#[tokio::test]
async fn an_app_that_breaks_off_is_no_clean_end_for_the_client() {
    let app = app(|mut stream| async move {
        let _ = stream.read_u8().await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        tunnel.say(Frame::new(TEXT, "x").masked()).await;
        let (bytes, over) = tunnel.rest().await;
        assert!(bytes.is_empty() && matches!(over, Over::Broken(_)), "{version:?}: {over:?}");
    }
    assert_eq!(house.metric("portcullis_app_faults_total", &[("kind", "broken")]), 2.0);
}

/// Writes as long as it is taken, and returns how much was.
async fn fill(stream: &mut TcpStream) -> usize {
    let piece = Frame::new(BINARY, vec![0; 60_000]).bytes();
    let mut written = 0;
    while let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(300), stream.write(&piece)).await {
        written += count;
    }
    written
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_app_and_no_memory_grows() {
    let taken: Arc<Mutex<Vec<usize>>> = Arc::default();
    let noted = Arc::clone(&taken);
    let app = app(move |mut stream| {
        let noted = Arc::clone(&noted);
        async move {
            // What the kernel holds is known, so that the rest is ours.
            let _ = stream.read_u8().await;
            let written = fill(&mut stream).await;
            noted.lock().unwrap().push(written);
            let _ = stream.read_u8().await;
        }
    })
    .await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        tunnel.send("x").await.unwrap();
        eventually("the app is stopped", || taken.lock().unwrap().len() == 1).await;
        let held = taken.lock().unwrap().pop().unwrap();
        // Loopback's send and receive buffers on both connections: some megabytes at most.
        assert!(held < 24 << 20, "{version:?}: {held} bytes were taken for nobody");
        let (mut came, _) = (tunnel.exactly(held).await, tunnel.send("x").await);
        let mut whole = 0;
        while Frame::parse(&mut came).is_some() {
            whole += 1;
        }
        assert!(whole > 0, "{version:?}");
    }
}

#[tokio::test]
async fn an_open_websocket_is_not_idle() {
    let app = echo().await;
    let house = House::before(app.addr()).with_clock().policy(|policy| policy.idle_timeout = Some(MINUTE)).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        for _ in 0..3 {
            house.advance(MINUTE);
            tunnel.say(Frame::new(TEXT, "still here").masked()).await;
            tunnel.frame().await;
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_stop_lets_tunnels_live_until_its_limit_and_then_breaks_them_off() {
    let app = echo().await;
    let house = House::before(app.addr()).limits(|limits| limits.stop = Duration::from_millis(700)).start();
    let mut tunnels = Vec::new();
    for version in BOTH {
        tunnels.push(open(&house, &house.client("a"), version).await);
    }
    let started = Instant::now();
    let living = async {
        while !house.running.is_stopping() {
            tokio::task::yield_now().await;
        }
        for tunnel in &mut tunnels {
            tunnel.say(Frame::new(TEXT, "still here").masked()).await;
            assert_eq!(tunnel.frame().await, Frame::new(TEXT, "still here").masked());
        }
        assert!(started.elapsed() < Duration::from_millis(600));
        for tunnel in &mut tunnels {
            assert!(matches!(tunnel.rest().await.1, Over::Broken(_)));
        }
    };
    tokio::join!(house.running.stop(), living);
    assert!(started.elapsed() >= Duration::from_millis(650), "{:?}", started.elapsed());
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "stop")]), 2.0);
}

#[tokio::test]
async fn a_websocket_that_is_asked_for_when_a_stop_begins_is_still_opened() {
    let answer = Arc::new(tokio::sync::Notify::new());
    let go = Arc::clone(&answer);
    let app = RawApp::start(move |mut stream, _| {
        let go = Arc::clone(&go);
        async move {
            go.notified().await;
            welcome(&mut stream, "", &Frame::new(TEXT, "one").bytes()).await;
        }
    })
    .await;
    let house = House::before(app.addr()).start();
    let client = house.client("a");
    let opening = async {
        app.wait_for_connections(2).await;
        while !house.running.is_stopping() {
            tokio::task::yield_now().await;
        }
        // The workers have taken the list of those whom they ask to leave.
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer.notify_waiters();
    };
    let asking = async {
        let (one, two) = tokio::join!(ask(&house, &client, Version::One), ask(&house, &client, Version::Two));
        for (mut answered, status) in [(one, 101), (two, 200)] {
            assert_eq!(answered.status, status);
            assert!(status == 200 || answered.field("connection") == Some("Upgrade"));
            assert_eq!(answered.tunnel.frame().await, Frame::new(TEXT, "one"));
        }
    };
    let stopping = async {
        app.wait_for_connections(2).await;
        house.running.stop().await;
    };
    tokio::join!(asking, opening, stopping);
}

#[tokio::test]
async fn a_stop_is_over_when_the_last_tunnel_is() {
    let app = echo().await;
    let house = House::before(app.addr()).start();
    let started = Instant::now();
    let mut tunnels = Vec::new();
    for version in BOTH {
        tunnels.push(open(&house, &house.client("a"), version).await);
    }
    let ending = async {
        while !house.running.is_stopping() {
            tokio::task::yield_now().await;
        }
        for mut tunnel in tunnels {
            tunnel.finish().await;
            assert_eq!(tunnel.rest().await.1, Over::Clean);
        }
    };
    tokio::join!(house.running.stop(), ending);
    assert!(started.elapsed() < Duration::from_secs(5), "the stop took {:?}", started.elapsed());
}

#[tokio::test]
async fn the_time_of_a_request_that_becomes_a_tunnel_ends_with_its_answer() {
    let app = echo().await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        tunnel.say(Frame::new(TEXT, "x").masked()).await;
        tunnel.frame().await;
        let timed = if version == Version::One { 1.0 } else { 2.0 };
        assert_eq!(house.metric("portcullis_request_seconds_count", &[]), timed);
        tunnel.finish().await;
        tunnel.rest().await;
        app.wait_for_silence().await;
        assert_eq!(house.metric("portcullis_request_seconds_count", &[]), timed);
    }
}
