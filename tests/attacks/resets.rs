//! Requests that are given up, by the client (CVE-2023-44487) or by mistakes that make the proxy do it (CVE-2025-8671).

use std::time::Duration;

use testkit::{Ending, RawApp};

use crate::ground::Ground;
use crate::program::eventually;
use crate::wire::{
    self, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PRIORITY, RST_STREAM, WINDOW_UPDATE, assault,
    assault_for, frame, head, request,
};

const CANCEL: [u8; 4] = [0, 0, 0, 8];
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
/// What an attack by resets may cost, in kilobytes.
const RESETS: u64 = 32 * 1024;
/// Enough for a few answers, however busy the machine is.
const SHORT: Duration = Duration::from_secs(2);
/// Requests of one attack.
const MANY: u32 = 100_000;

/// Requests one after the other, each with what gives it up, `at_once` of them in each piece.
fn given_up(at_once: u32, one: impl Fn(u32) -> Vec<u8>) -> impl FnMut() -> Option<Vec<u8>> {
    let mut streams = (0..MANY).map(|number| 2 * number + 1);
    move || {
        let piece: Vec<u8> = streams.by_ref().take(usize::try_from(at_once).unwrap()).flat_map(&one).collect();
        (!piece.is_empty()).then_some(piece)
    }
}

#[tokio::test]
async fn a_rapid_reset_ends_its_connection_however_its_pace_is() {
    let app = RawApp::silent().await;
    let ground = Ground::before(&app.addr().to_string(), |flags| flags).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    for at_once in [1, 10, 1_000] {
        let reset = |stream| [request(stream, "/"), frame(RST_STREAM, 0, stream, &CANCEL)].concat();
        let seen = assault(wire::open(&client, address).await, given_up(at_once, reset)).await;
        let reached = app.connections();
        println!(
            "rapid reset, {at_once} at once: {:?} after {:.1?}, GOAWAY {:?}; {reached} reached the app so far",
            seen.ending,
            seen.after,
            seen.goaway()
        );
        assert_ne!(seen.ending, Ending::StillOpen);
        assert!(matches!(seen.goaway(), Some(ENHANCE_YOUR_CALM) | None), "{:?}", seen.goaway());
    }
    ground.wait_for_limit("flood", 3.0).await;
    assert!(app.connections() < 45_000, "{}", app.connections());
    ground.assert_memory("rapid resets", RESETS);
    eventually("nothing is left of it at the app", async || app.open_connections() == 0).await;
}

#[tokio::test]
async fn mistakes_that_make_the_proxy_reset_end_their_connection_and_hold_no_more_of_the_app_than_others() {
    let app = RawApp::silent().await;
    let ground = Ground::before(&app.addr().to_string(), |flags| flags).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    // What h2 says of them: PROTOCOL_ERROR at the first, or ENHANCE_YOUR_CALM when it has had enough.
    type Mistake = fn(u32) -> Vec<u8>;
    let mistakes: [(&str, u32, Mistake); 4] = [
        ("a window that grows by nothing", PROTOCOL_ERROR, |stream| {
            [request(stream, "/"), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
        ("a window that grows too large", ENHANCE_YOUR_CALM, |stream| {
            [request(stream, "/"), frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
        }),
        ("a stream that depends on itself", ENHANCE_YOUR_CALM, |stream| {
            [request(stream, "/"), frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[16]].concat())].concat()
        }),
        ("a body longer than it says", ENHANCE_YOUR_CALM, |stream| {
            // 15 and 13: a literal of the 28th name of HPACK's static table, content-length.
            let block = [head("POST", "/"), vec![15, 13], wire::field(b"1")].concat();
            [frame(HEADERS, END_HEADERS, stream, &block), frame(DATA, END_STREAM, stream, b"four")].concat()
        }),
    ];
    let mut floods = 0.0;
    for (mistake, code, made) in mistakes {
        let before = app.connections();
        let mut most_open = 0;
        let mut next = given_up(20, made);
        let watched = || {
            most_open = most_open.max(app.open_connections());
            next()
        };
        let seen = assault(wire::open(&client, address).await, watched).await;
        println!(
            "{mistake}: {:?} after {:.1?}, GOAWAY {:?}, {} reached the app, {most_open} at once",
            seen.ending,
            seen.after,
            seen.goaway(),
            app.connections() - before
        );
        assert_ne!(seen.ending, Ending::StillOpen, "{mistake}");
        // A reset may overtake what was said before it.
        assert!(seen.goaway().is_none_or(|said| said == code), "{mistake}: {:?}", seen.goaway());
        floods += f64::from(u8::from(code == ENHANCE_YOUR_CALM));
        ground.wait_for_limit("flood", floods).await;
        // A hundred requests of the session, and a few whose end the app has not heard of yet.
        assert!(most_open <= 150, "{mistake}: {most_open}");
        eventually("nothing is left of it at the app", async || app.open_connections() == 0).await;
    }
    ground.assert_memory("mistakes", RESETS);
}

#[tokio::test]
async fn streams_beyond_what_a_client_may_open_are_refused_and_the_others_go_on() {
    let app = RawApp::silent().await;
    let ground = Ground::before(&app.addr().to_string(), |flags| flags.with("--max-streams", "10")).await;
    let stream = wire::open(&ground.client("eager"), ground.address()).await;
    let mut requests = (0..15).map(|number| request(2 * number + 1, "/"));
    let seen = assault_for(SHORT, stream, || requests.next()).await;
    assert_eq!((seen.resets(REFUSED_STREAM), seen.ending), (5, Ending::StillOpen));
    assert_eq!((app.connections(), ground.limited("streams").await), (10, 5.0));
}

#[tokio::test]
async fn requests_beyond_what_a_session_may_have_are_refused_and_may_be_sent_again() {
    let app = RawApp::silent().await;
    let flags = |flags: crate::stage::Flags| flags.with("--max-requests-per-session", "3");
    let ground = Ground::before(&app.addr().to_string(), flags).await;
    let stream = wire::open(&ground.client("eager"), ground.address()).await;
    let mut requests = (0..5).map(|number| request(2 * number + 1, "/"));
    let seen = assault_for(SHORT, stream, || requests.next()).await;
    assert_eq!((seen.resets(REFUSED_STREAM), seen.ending), (2, Ending::StillOpen));
    assert_eq!((app.connections(), ground.limited("requests_per_session").await), (3, 2.0));
    assert_eq!(ground.limited("streams").await, 0.0);
}
