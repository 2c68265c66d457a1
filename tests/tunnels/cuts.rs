//! What a tunnel's two ends see when trust ends: a WebSocket is told by Close 1008 if that is possible at once, everything
//! else breaks off.

use std::time::{Duration, Instant};

use testkit::websocket::{BINARY, CLOSE, CONTINUATION, Frame, TEXT};
use testkit::{LeafSpec, RawApp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use trust::{Bundle, Speaks, Time};

use crate::client::{BOTH, Over, Tunnel, Version, extended_connect, open, open_connect, upgrade};
use crate::connect::listening;
use crate::stage::{Wire, assert_cut, assert_left, assert_prompt};
use crate::support::{House, PATIENCE};
use crate::traffic::app;

/// Why trust ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Revocation,
    NotAfter,
    RemovedAnchor,
    SessionAge,
}

const AGE: Duration = Duration::from_secs(3600);

impl Cause {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Cause::Revocation => "revoked",
            Cause::NotAfter => "expired",
            Cause::RemovedAnchor => "anchor_removed",
            Cause::SessionAge => "session_too_old",
        }
    }

    /// A house that can be left for this cause.
    pub(crate) fn house(self, app: &RawApp) -> House {
        self.house_at(app.addr())
    }

    pub(crate) fn house_at(self, app: std::net::SocketAddr) -> House {
        let age = (self == Cause::SessionAge).then_some(AGE);
        let spec = House::before(app).allow_connect().with_clock();
        spec.policy(|policy| policy.max_session_age = age).start()
    }

    /// Ends the trust in the client `a`.
    pub(crate) fn end(self, house: &House) {
        match self {
            Cause::Revocation => drop(house.revoke("a")),
            Cause::NotAfter => {
                let end = Time::from_seconds(house.leaf("a").not_after().unix_timestamp());
                house.set_time(end.plus(Duration::from_millis(1)));
            }
            Cause::RemovedAnchor => {
                let other = testkit::Authority::root("another root");
                let bundle = Bundle::new(vec![(other.der().clone(), Speaks::ForAnybody)]).unwrap();
                house.publish_bundle(bundle);
            }
            Cause::SessionAge => house.advance(AGE + Duration::from_millis(1)),
        }
    }
}

pub(crate) fn close(label: &str) -> Frame {
    Frame::new(CLOSE, [&[3, 240][..], label.as_bytes()].concat())
}

/// An app that sends these bytes and then hears how its client ends.
async fn saying(bytes: Vec<u8>) -> RawApp {
    app(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            stream.write_all(&bytes).await.unwrap();
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
        }
    })
    .await
}

/// Everything is over, and was told and counted.
async fn assert_over(house: &House, tunnel: Tunnel, label: &str, since: Instant) {
    tunnel.closed().await;
    assert_prompt(since, "the close of the connection");
    assert_left(house, 0.0, since).await;
    assert_cut(house, label, 1.0).await;
}

async fn assert_close_is_told(cause: Cause) {
    let app = saying(Frame::new(TEXT, "one").bytes()).await;
    for version in BOTH {
        let house = cause.house(&app);
        let mut tunnel = open(&house, &house.client("a"), version).await;
        assert_eq!(tunnel.frame().await, Frame::new(TEXT, "one"));
        let since = Instant::now();
        cause.end(&house);
        let (frames, rest, over) = tunnel.frames().await;
        assert_prompt(since, "the Close");
        assert_eq!((frames, rest, over), (vec![close(cause.label())], Vec::new(), Over::Clean), "{version:?}");
        assert_over(&house, tunnel, cause.label(), since).await;
        app.wait_for_silence().await;
        assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0);
    }
}

#[tokio::test]
async fn a_revoked_websocket_is_told_by_close_1008() {
    assert_close_is_told(Cause::Revocation).await;
}

#[tokio::test]
async fn a_websocket_whose_certificate_expires_is_told_by_close_1008() {
    assert_close_is_told(Cause::NotAfter).await;
}

#[tokio::test]
async fn a_websocket_whose_anchor_is_removed_is_told_by_close_1008() {
    assert_close_is_told(Cause::RemovedAnchor).await;
}

#[tokio::test]
async fn a_websocket_whose_session_is_too_old_is_told_by_close_1008() {
    assert_close_is_told(Cause::SessionAge).await;
}

async fn assert_connect_breaks_off(cause: Cause) {
    let (app, heard) = listening().await;
    for version in BOTH {
        let house = cause.house(&app);
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        tunnel.send("so far").await.unwrap();
        let since = Instant::now();
        cause.end(&house);
        let (bytes, over) = tunnel.rest().await;
        assert_prompt(since, "the break");
        assert!(bytes.is_empty() && matches!(over, Over::Broken(_)), "{version:?}: {over:?}");
        assert_over(&house, tunnel, cause.label(), since).await;
        app.wait_for_silence().await;
        let ended = heard.lock().unwrap().pop().unwrap();
        assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset), "the app takes {version:?}'s cut for an end");
        assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0);
    }
}

#[tokio::test]
async fn a_revoked_connect_tunnel_breaks_off() {
    assert_connect_breaks_off(Cause::Revocation).await;
}

#[tokio::test]
async fn a_connect_tunnel_whose_certificate_expires_breaks_off() {
    assert_connect_breaks_off(Cause::NotAfter).await;
}

#[tokio::test]
async fn a_connect_tunnel_whose_anchor_is_removed_breaks_off() {
    assert_connect_breaks_off(Cause::RemovedAnchor).await;
}

#[tokio::test]
async fn a_connect_tunnel_whose_session_is_too_old_breaks_off() {
    assert_connect_breaks_off(Cause::SessionAge).await;
}

#[tokio::test]
async fn a_large_frame_under_way_breaks_off() {
    let bytes = Frame::new(BINARY, vec![7; 100_000]).bytes();
    let app = saying(bytes[..60_000].to_vec()).await;
    for version in BOTH {
        let house = House::before(app.addr()).start();
        let mut tunnel = open(&house, &house.client("a"), version).await;
        tunnel.exactly(60_000).await;
        let since = Instant::now();
        house.revoke("a");
        let (bytes, over) = tunnel.rest().await;
        assert!(bytes.is_empty() && matches!(over, Over::Broken(_)), "{version:?}: {bytes:?} {over:?}");
        assert_over(&house, tunnel, "revoked", since).await;
    }
}

#[tokio::test]
async fn a_small_frame_that_its_app_has_not_finished_is_not_in_the_way_of_the_close() {
    let whole = Frame::new(BINARY, vec![7; 10_000]).bytes();
    let app = saying([Frame::new(TEXT, "one").bytes(), whole[..9_000].to_vec()].concat()).await;
    for version in BOTH {
        let house = House::before(app.addr()).start();
        let mut tunnel = open(&house, &house.client("a"), version).await;
        assert_eq!(tunnel.frame().await, Frame::new(TEXT, "one"));
        let since = Instant::now();
        house.revoke("a");
        let (frames, rest, over) = tunnel.frames().await;
        assert_eq!((frames, rest, over), (vec![close("revoked")], Vec::new(), Over::Clean), "{version:?}");
        assert_over(&house, tunnel, "revoked", since).await;
    }
}

#[tokio::test]
async fn a_message_under_way_is_closed_between_its_frames() {
    let first = Frame::new(TEXT, "begun").unfinished();
    let second = Frame::new(CONTINUATION, " and going on").unfinished();
    let app = saying([first.bytes(), second.bytes()].concat()).await;
    for version in BOTH {
        let house = House::before(app.addr()).start();
        let mut tunnel = open(&house, &house.client("a"), version).await;
        assert_eq!((tunnel.frame().await, tunnel.frame().await), (first.clone(), second.clone()));
        house.revoke("a");
        let (frames, rest, over) = tunnel.frames().await;
        assert_eq!((frames, rest, over), (vec![close("revoked")], Vec::new(), Over::Clean), "{version:?}");
    }
}

#[tokio::test]
async fn nothing_follows_a_close_of_the_apps_own() {
    let own = Frame::new(CLOSE, [3, 232]);
    let app = saying(own.bytes()).await;
    for version in BOTH {
        let house = House::before(app.addr()).start();
        let mut tunnel = open(&house, &house.client("a"), version).await;
        assert_eq!(tunnel.frame().await, own);
        let since = Instant::now();
        house.revoke("a");
        assert_eq!(tunnel.rest().await, (Vec::new(), Over::Clean), "{version:?}");
        assert_over(&house, tunnel, "revoked", since).await;
    }
}

#[tokio::test]
async fn an_upgrade_that_waits_for_its_answer_gets_401() {
    let app = RawApp::silent().await;
    let house = House::before(app.addr()).start();
    let mut stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    // Frames that came too early are not what is answered.
    stream.write_all(&[upgrade("").into_bytes(), Frame::new(TEXT, "x").masked().bytes()].concat()).await.unwrap();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let exchange = client.start(extended_connect("websocket"), false).await.unwrap();
    app.wait_for_connections(2).await;
    let since = Instant::now();
    house.revoke("a");
    let mut wire = Wire { stream };
    wire.is_told("revoked", since).await;
    let mut answer = exchange.response().await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.rest().await.0), (401, b"revoked\n".to_vec()));
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 2.0).await;
    let denied = [("verdict", "denied"), ("reason", "revoked"), ("protocol", "websocket")];
    assert_eq!(house.metric("portcullis_requests_total", &denied), 2.0);
    app.wait_for_silence().await;
}

#[tokio::test]
async fn an_upgrade_of_a_session_that_is_not_trusted_any_more_never_reaches_the_app() {
    let app = RawApp::silent().await;
    let house = House::before(app.addr()).with_clock().start();
    let leaf = house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/a").valid_for(testkit::Duration::minutes(5)));
    let mut stream = house.client_of(&leaf).connect(house.address(), &["http/1.1"]).await.unwrap();
    house.wait_for_metric("portcullis_sessions_active", &[], 1.0).await;
    house.set_time_unannounced(Time::from_seconds(leaf.not_after().unix_timestamp()).plus(Duration::from_millis(1)));
    stream.write_all(upgrade("").as_bytes()).await.unwrap();
    let mut wire = Wire { stream };
    // The session may be cut before its request was read: then it is closed without an answer.
    let (text, _) = wire.rest().await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 401 "), "{text}");
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn a_websocket_that_is_cut_takes_no_neighbour_of_another_client_with_it() {
    let app = app(|mut stream| async move {
        let (mut reading, mut writing) = stream.split();
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
    })
    .await;
    let house = House::before(app.addr()).workers(1).start();
    let mut others = Vec::new();
    for version in BOTH {
        others.push(open(&house, &house.client("b"), version).await);
    }
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        tunnel.say(Frame::new(TEXT, "x").masked()).await;
        tunnel.frame().await;
        house.publish_list(house.list().serial(&house.leaf("a")).text());
        assert_eq!(tunnel.frames().await.0, [close("revoked")]);
        house.publish_list(house.list().text());
        for other in &mut others {
            other.say(Frame::new(TEXT, "alive").masked()).await;
            assert_eq!(other.frame().await, Frame::new(TEXT, "alive").masked());
        }
    }
}

#[tokio::test]
async fn every_stream_of_one_connection_is_told() {
    let app = saying(Frame::new(TEXT, "one").bytes()).await;
    let house = House::before(app.addr()).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut downloads = Vec::new();
    for _ in 0..20 {
        let exchange = client.start(extended_connect("websocket"), false).await.unwrap();
        let (upload, mut download) = exchange.split().await.unwrap();
        assert_eq!(download.next().await.unwrap().unwrap(), Frame::new(TEXT, "one").bytes());
        downloads.push((upload, download));
    }
    let since = Instant::now();
    house.revoke("a");
    for (_upload, download) in &mut downloads {
        let (bytes, ended) = download.rest().await;
        assert_eq!(bytes, close("revoked").bytes());
        ended.expect("a Close is a whole end");
    }
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 1.0).await;
}

#[tokio::test]
async fn a_client_without_a_window_for_the_close_is_reset() {
    let first = Frame::new(BINARY, vec![7; 1000]).bytes();
    let app = saying(first.clone()).await;
    let house = House::before(app.addr()).start();
    let stream = house.client("a").connect(house.address(), &["h2"]).await.unwrap();
    // The window holds exactly the frame, and opens again only when it is read.
    let window = u32::try_from(first.len()).unwrap();
    let mut client = testkit::Http2Client::with_window(stream, window).await.unwrap();
    let exchange = client.start(extended_connect("websocket"), false).await.unwrap();
    let (_upload, mut download) = exchange.split().await.unwrap();
    house.wait_for_metric("portcullis_requests_total", &[("protocol", "websocket")], 1.0).await;
    // Nothing shows from outside that the frame went out.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let since = Instant::now();
    house.revoke("a");
    client.closed(PATIENCE).await.unwrap().ok();
    assert_prompt(since, "the close");
    let (bytes, ended) = download.rest().await;
    assert!(bytes.is_empty() || bytes == first, "{bytes:?}");
    assert!(ended.is_err());
    assert_left(&house, 0.0, since).await;
}

/// What the client's own kernel holds for it, once that does not grow any more.
async fn held_by_the_kernel(tunnel: &Tunnel) -> usize {
    let mut seen = vec![0; 64 << 20];
    let (mut before, mut same) = (0, 0);
    while same < 3 || before < 100_000 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = tunnel.socket().unwrap().peek(&mut seen).await.unwrap();
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
    before
}

#[tokio::test]
async fn a_client_that_does_not_read_is_reset_and_gets_no_byte_beyond_its_own_buffer() {
    let app = app(|mut stream| async move {
        let piece = Frame::new(BINARY, vec![7; 60_000]).bytes();
        while stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    for connect in [false, true] {
        let house = House::before(app.addr()).allow_connect().start();
        let client = house.client("a");
        let mut tunnel = match connect {
            false => open(&house, &client, Version::One).await,
            true => open_connect(&house, &client, Version::One).await,
        };
        let held = held_by_the_kernel(&tunnel).await;
        let since = Instant::now();
        house.revoke("a");
        assert_left(&house, 0.0, since).await;
        let (bytes, over) = tunnel.rest().await;
        // Some may have come with the answer's head, into the client's own memory.
        let most = held + 32 * 1024;
        assert!(bytes.len() <= most && matches!(over, Over::Broken(_)), "{} of {held} bytes: {over:?}", bytes.len());
        assert_cut(&house, "revoked", 1.0).await;
        app.wait_for_silence().await;
    }
}
