//! Every cause against every state that an HTTP session can be in, all at once: what each is told is the same for every
//! cause but for its word. (WebSocket and CONNECT: `tests/tunnels`; TCP: `tests/tcp`; other people's clients:
//! `tests/streams`.) It must never let a state out that the promise names.

use std::time::{Duration, Instant};

use http::{Request, header};
use proxy::{Protocol, Wanted};
use testkit::{Authority, Ending, H2cApp, LeafSpec, OffsetDateTime, RecordingApp};
use tokio::io::AsyncWriteExt as _;
use trust::{Allow, Bundle, IdentityPattern, Knowledge, Policy, Speaks, Time};

use crate::frames::{DATA, Frame, Frames, GOAWAY, HEADERS, RST_STREAM};
use crate::stage::{Wire, assert_cut, assert_left, assert_prompt};
use crate::support::{House, Pki};

const HOUR: Duration = Duration::from_secs(3600);
const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;

/// Sessions of HTTP that each cause ends: five of HTTP/1.1 and two of HTTP/2.
const SESSIONS: f64 = 7.0;

/// A cause by its word: under which policy it can come, and how it comes.
struct Cause {
    word: &'static str,
    policy: fn(&mut Policy),
    end: fn(&House),
}

impl Cause {
    fn by(word: &'static str, end: fn(&House)) -> Cause {
        Cause { word, policy: |_| (), end }
    }
}

/// A house whose clients have certificates for a day, all of the same second, and whose clock stands still.
fn house(address: std::net::SocketAddr, cause: &Cause, protocol: Protocol) -> House {
    let (pki, now) = (Pki::new(), OffsetDateTime::now_utc());
    for name in ["idle", "parked", "waiting", "download", "upload", "h2 idle", "h2 busy", "grpc"] {
        let id = format!("spiffe://td/{}", name.replace(' ', "-"));
        let leaf = LeafSpec::spiffe(&id).not_before(now - testkit::Duration::hours(1));
        pki.put(name, pki.issuing.issue(leaf.not_after(now + testkit::Duration::hours(24))));
    }
    let limits = |limits: &mut proxy::Limits| limits.park_after = Duration::from_millis(100);
    House::before(address).protocol(protocol).pki(pki).limits(limits).with_clock().policy(cause.policy).start()
}

fn not_after(house: &House) -> Time {
    Time::from_seconds(house.leaf("grpc").not_after().unix_timestamp())
}

async fn one(house: &House, name: &str, say: &str) -> Wire {
    let mut wire = Wire::connect(house, &house.client(name)).await;
    wire.say(say).await;
    wire
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// HTTP/2 frames: a waiting stream (1), one under way (3), and one that its window has stalled (5).
async fn busy(house: &House) -> Frames {
    let mut frames = Frames::connect(house, &house.client("h2 busy"), 65_535).await;
    frames.get(1, "/slow/60000").await;
    frames.get(3, "/stream").await;
    frames.until(|frame| frame.kind == DATA && frame.stream == 3).await;
    frames.get(5, "/bytes/10000000000").await;
    let mut stalled = 0;
    while stalled < 65_535 {
        stalled += frames.until(|frame| frame.kind == DATA && frame.stream == 5).await.payload.len();
    }
    frames
}

/// The waiting stream is refused with the word, the others are reset, then GOAWAY, then a clean end.
async fn assert_frames(mut frames: Frames, word: &str, since: Instant) {
    let (rest, ending) = frames.rest().await;
    assert_prompt(since, "the end of an HTTP/2 connection");
    let of = |stream: u32, kind: u8| rest.iter().filter(move |frame| (frame.stream, frame.kind) == (stream, kind));
    assert_eq!(of(1, HEADERS).count(), 1, "{word}: {rest:?}");
    let body: Vec<u8> = of(1, DATA).flat_map(|frame| frame.payload.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&body), format!("{word}\n"));
    for stream in [3, 5] {
        assert_eq!(of(stream, RST_STREAM).map(Frame::code).collect::<Vec<_>>(), [CANCEL], "{word}: {rest:?}");
        assert!(!rest.iter().any(|frame| frame.stream == stream && frame.ends_stream()), "{word}: {rest:?}");
    }
    let last = rest.last().unwrap();
    assert_eq!((last.kind, last.code(), ending), (GOAWAY, NO_ERROR, Ending::Clean), "{word}: {rest:?}");
}

async fn assert_ends_every_state(cause: Cause) {
    let app = RecordingApp::start().await;
    let house = house(app.addr(), &cause, Protocol::Http1);
    let mut parked = one(&house, "parked", &get("/")).await;
    parked.until(b"hello").await;
    let mut upload =
        one(&house, "upload", "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n").await;
    upload.stream.write_all(b"half of it").await.unwrap();
    upload.stream.flush().await.unwrap();
    let mut waiting = one(&house, "waiting", &get("/slow/60000")).await;
    let mut download = one(&house, "download", &get("/stream")).await;
    download.until(b"chunk 3\n").await;
    let busy = busy(&house).await;
    let mut quiet = Frames::connect(&house, &house.client("h2 idle"), 65_535).await;
    quiet.get(1, "/").await;
    quiet.until(|frame| frame.stream == 1 && frame.ends_stream()).await;
    let mut idle = one(&house, "idle", &get("/")).await;
    idle.until(b"hello").await;
    app.wait_until(|app| app.requests().iter().any(|seen| seen.body_length == 10)).await;
    house.wait_for_metric("portcullis_sessions_active", &[], SESSIONS).await;
    let since = Instant::now();
    (cause.end)(&house);
    for wire in [&mut idle, &mut parked] {
        assert_eq!(wire.rest().await, (String::new(), Ending::Clean), "{}", cause.word);
    }
    waiting.is_told(cause.word, since).await;
    upload.is_told(cause.word, since).await;
    download.is_broken_off(since).await;
    assert_frames(busy, cause.word, since).await;
    let (rest, ending) = quiet.rest().await;
    let goaway: Vec<u32> = rest.iter().filter(|frame| frame.kind == GOAWAY).map(Frame::code).collect();
    assert_eq!((goaway, ending), (vec![NO_ERROR], Ending::Clean), "{}", cause.word);
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, cause.word, SESSIONS).await;
}

async fn assert_ends_every_call(cause: Cause) {
    let app = H2cApp::start().await;
    let house = house(app.addr(), &cause, Protocol::H2c);
    let line = house.client("grpc").http2(house.address()).await.unwrap();
    let request = |path: &str| Request::post(path).header(header::CONTENT_TYPE, "application/grpc").body(()).unwrap();
    let mut down = line.start(request("/stream"), true).await.unwrap().response().await.unwrap();
    down.next().await.unwrap().unwrap();
    let mut both = line.start(request("/"), false).await.unwrap();
    both.send("up and down").await.unwrap();
    let (_upload, mut echo) = both.split().await.unwrap();
    echo.next().await.unwrap().unwrap();
    let since = Instant::now();
    (cause.end)(&house);
    for call in [&mut down, &mut echo] {
        let (_, ended) = call.rest().await;
        assert_prompt(since, "the end of a call");
        ended.unwrap_or_else(|error| panic!("{}: a call ended without a status: {error}", cause.word));
        assert_eq!(call.trailers()["grpc-status"], "16", "{}", cause.word);
        assert_eq!(call.trailers()["grpc-message"], format!("portcullis: {}", cause.word));
    }
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, cause.word, 1.0).await;
}

/// Both, each with a house of its own.
macro_rules! ends_everything {
    ($name:ident, $cause:expr) => {
        #[tokio::test]
        async fn $name() {
            assert_ends_every_state($cause).await;
            assert_ends_every_call($cause).await;
        }
    };
}

ends_everything!(a_revocation_ends_a_session_in_whatever_state_it_is, {
    Cause::by("revoked", |house| {
        house.publish_list(house.list().id("spiffe://td/*").text());
    })
});

ends_everything!(a_not_after_ends_a_session_in_whatever_state_it_is, {
    Cause::by("expired", |house| {
        house.set_time(not_after(house).plus(Duration::from_millis(1)));
    })
});

ends_everything!(a_certificate_that_is_not_yet_valid_ends_a_session_in_whatever_state_it_is, {
    Cause::by("not_yet_valid", |house| house.set_time(Time::from_seconds(house.live.now().as_millis() / 1000 - 7200)))
});

ends_everything!(a_removed_anchor_ends_a_session_in_whatever_state_it_is, {
    Cause::by("anchor_removed", |house| {
        let other = Authority::root("another root");
        house.publish_bundle(Bundle::new(vec![(other.der().clone(), Speaks::ForAnybody)]).unwrap());
    })
});

ends_everything!(an_anchor_that_speaks_for_others_ends_a_session_in_whatever_state_it_is, {
    Cause::by("anchor_of_another_trust_domain", |house| {
        let others = Speaks::ForTrustDomain("others".to_owned());
        house.publish_bundle(Bundle::new(vec![(house.pki.client_root.der().clone(), others)]).unwrap());
    })
});

ends_everything!(a_certificates_age_ends_a_session_in_whatever_state_it_is, {
    let policy = |policy: &mut Policy| policy.max_certificate_age = Some(2 * HOUR);
    // The certificates began 25 hours before their end.
    let end = |house: &House| house.set_time(Time::from_millis(not_after(house).as_millis() - 23 * 3_600_000));
    Cause { word: "certificate_too_old", policy, end }
});

ends_everything!(a_sessions_age_ends_it_in_whatever_state_it_is, {
    let policy = |policy: &mut Policy| policy.max_session_age = Some(HOUR);
    Cause { word: "session_too_old", policy, end: |house| house.advance(HOUR) }
});

ends_everything!(outdated_knowledge_ends_a_session_in_whatever_state_it_is, {
    let policy = |policy: &mut Policy| policy.snapshot_max_age = Some(HOUR);
    Cause { word: "snapshot_outdated", policy, end: |house| house.advance(HOUR + Duration::from_millis(1)) }
});

ends_everything!(missing_knowledge_ends_a_session_in_whatever_state_it_is, {
    Cause::by("no_snapshot", |house| {
        house.live.publish(|state| state.knowledge = Knowledge::Missing);
    })
});

ends_everything!(an_identity_no_longer_allowed_ends_a_session_in_whatever_state_it_is, {
    Cause::by("identity_not_allowed", |house| {
        let only = IdentityPattern::parse("uri:spiffe://td/nobody").unwrap();
        house.publish_policy(|policy| policy.allow = Allow::Only(vec![only.clone()]));
    })
});

ends_everything!(an_operator_ends_a_session_in_whatever_state_it_is, {
    Cause::by("ended_by_operator", |house| {
        let live = house.live.clone();
        let order = proxy::Order { by: "uri:spiffe://ops/anna".into(), why: "a test".into() };
        tokio::spawn(async move { live.end(Wanted::default(), order).await });
    })
});
