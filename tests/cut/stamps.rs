//! From the end of trust on no byte passes, in either direction: every byte of a stream tells when it was sent, and none
//! that was sent later arrives. Trust is ended from a thread of its own, so that the two meet at any moment: by a publish,
//! and by a clock that nobody is told of, where the bytes themselves have to find out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use proxy::Protocol;
use testkit::http2_client::send_bytes;
use testkit::stamp::STAMP;
use testkit::{BodyState, Download, H2cApp, Journal, LeafSpec, RecordingApp, stamp, stamps};
use trust::Time;

use crate::support::{House, PATIENCE, eventually};

/// Each meets the end of trust at another moment of its streams.
const ROUNDS: usize = 15;
/// Stamps that come before it.
const FLOWING: usize = 100;
/// In the best round the last byte was sent no longer than this before it: the streams really flowed then.
const CLOSE_CALL: u64 = 25_000_000;

#[derive(Clone, Copy, Debug)]
enum Way {
    Http1,
    Http2,
    Grpc,
}

/// An app of either kind.
enum App {
    Http1(RecordingApp),
    H2c(H2cApp),
}

impl App {
    async fn start(way: Way, cause: Cause) -> (App, Arc<House>) {
        let (app, address, protocol) = match way {
            Way::Http1 | Way::Http2 => {
                let app = RecordingApp::start().await;
                let address = app.addr();
                (App::Http1(app), address, Protocol::Http1)
            }
            Way::Grpc => {
                let app = H2cApp::start().await;
                let address = app.addr();
                (App::H2c(app), address, Protocol::H2c)
            }
        };
        let spec = House::before(address).protocol(protocol);
        let house = if cause == Cause::Clock { spec.with_clock().start() } else { spec.start() };
        let short = LeafSpec::spiffe("spiffe://td/a").valid_for(testkit::Duration::minutes(5));
        house.pki.put("a", house.pki.issuing.issue(short));
        (app, Arc::new(house))
    }

    fn journal(&self) -> &Journal {
        match self {
            App::Http1(app) => app,
            App::H2c(app) => app,
        }
    }
}

/// What ends the trust in `a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Publish,
    /// Its certificate's `notAfter`, for which nobody is woken.
    Clock,
}

impl Cause {
    /// `a` is trusted from now on.
    fn restored(self, house: &House) {
        match self {
            Cause::Publish => drop(house.publish_list(house.list().text())),
            Cause::Clock => house.set_time(Time::from_millis(last_moment(house).as_millis() - 60_000)),
        }
    }

    /// Ends it on a thread of its own; the moment after.
    async fn ended(self, house: &Arc<House>) -> u64 {
        let house = Arc::clone(house);
        let ending = tokio::task::spawn_blocking(move || {
            match self {
                Cause::Publish => drop(house.publish_list(house.list().id("spiffe://td/a").text())),
                Cause::Clock => house.set_time_unannounced(last_moment(&house).plus(Duration::from_millis(1))),
            }
            stamp()
        });
        ending.await.unwrap()
    }
}

fn last_moment(house: &House) -> Time {
    Time::from_seconds(house.leaf("a").not_after().unix_timestamp())
}

/// What is sent of a kind that each way has: a download's request, or an upload's.
fn request(way: Way, path: &str) -> Request<()> {
    let kind = if let Way::Grpc = way { "application/grpc" } else { "application/octet-stream" };
    Request::post(path).header(header::CONTENT_TYPE, kind).body(()).unwrap()
}

async fn download(house: &House, way: Way) -> (Download, Box<dyn Send>) {
    let client = house.client("a");
    if let Way::Http1 = way {
        let mut line = client.http1(house.address()).await.unwrap();
        return (line.download("/stamps").await.unwrap(), Box::new(line));
    }
    let line = client.http2(house.address()).await.unwrap();
    let exchange = line.start(request(way, "/stamps"), true).await.unwrap();
    (exchange.response().await.unwrap(), Box::new(line))
}

/// Reads stamps to the end, which has to be no clean one; the last.
async fn last_of(mut download: Download, flows: tokio::sync::oneshot::Sender<()>, way: Way) -> u64 {
    let (mut unread, mut last, mut count, mut flows) = (Vec::new(), 0, 0, Some(flows));
    loop {
        match download.next().await {
            Ok(Some(piece)) => unread.extend_from_slice(&piece),
            // gRPC ends by its trailers.
            Ok(None) => break assert_eq!(download.trailers()["grpc-status"], "16", "{way:?}"),
            Err(_) => break,
        }
        let whole = unread.len() / STAMP * STAMP;
        for at in stamps(&unread.drain(..whole).collect::<Vec<u8>>()) {
            assert!(at >= last, "a gap, or bytes out of order");
            (last, count) = (at, count + 1);
        }
        if count > FLOWING
            && let Some(flows) = flows.take()
        {
            flows.send(()).unwrap();
        }
    }
    last
}

async fn nothing_late_comes_down(way: Way, cause: Cause) {
    let (_app, house) = App::start(way, cause).await;
    let mut closest = u64::MAX;
    for round in 0..ROUNDS {
        cause.restored(&house);
        let (download, line) = download(&house, way).await;
        let (tell, flows) = tokio::sync::oneshot::channel();
        let reading = tokio::spawn(last_of(download, tell, way));
        flows.await.unwrap();
        let over = cause.ended(&house).await;
        let last = tokio::time::timeout(PATIENCE, reading).await.expect("the stream ends").unwrap();
        assert!(last <= over, "{way:?}, {cause:?}, round {round}: a byte came that was sent {} ns late", last - over);
        closest = closest.min(over - last);
        drop(line);
    }
    assert!(closest < CLOSE_CALL, "{way:?}, {cause:?}: the last byte was sent {closest} ns before, or earlier");
}

/// Sends stamps until that fails; when each was sent.
async fn upload(house: Arc<House>, way: Way) -> Vec<u64> {
    let (client, mut sent) = (house.client("a"), Vec::new());
    let mut next = || {
        sent.push(stamp());
        Bytes::copy_from_slice(&sent[sent.len() - 1].to_be_bytes())
    };
    if let Way::Http1 = way {
        let mut line = client.http1(house.address()).await.unwrap();
        let (mut body, sending) = testkit::upload();
        let answer = tokio::spawn(async move {
            let _ = line.open(request(way, "/upload").map(|()| sending)).await;
        });
        while body.send(next()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        answer.await.unwrap();
        return sent;
    }
    let line = client.http2(house.address()).await.unwrap();
    let mut exchange = line.start(request(way, "/upload"), false).await.unwrap();
    if let Way::Http2 = way {
        while exchange.send(next()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        return sent;
    }
    // The app echoes, and h2 drops whoever lets small frames pile up.
    let (mut body, mut echo) = exchange.split().await.unwrap();
    let reading = tokio::spawn(async move { drop(echo.rest().await) });
    while send_bytes(&mut body, next()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    reading.await.unwrap();
    sent
}

async fn nothing_late_goes_up(way: Way, cause: Cause) {
    let (app, house) = App::start(way, cause).await;
    let mut closest = u64::MAX;
    for round in 0..ROUNDS {
        cause.restored(&house);
        let sending = tokio::spawn(upload(Arc::clone(&house), way));
        let arrived = || app.journal().requests().get(round).map_or(0, |seen| seen.body_length as usize);
        eventually(&format!("the upload of round {round} flows"), || arrived() > FLOWING * STAMP).await;
        let over = cause.ended(&house).await;
        let sent = tokio::time::timeout(PATIENCE, sending).await.expect("the upload ends").unwrap();
        app.journal().wait_until(|journal| journal.requests()[round].state != BodyState::Open).await;
        assert_eq!(app.journal().requests()[round].state, BodyState::Broken, "{way:?}: an upload was cut, not ended");
        let last = sent[arrived().div_ceil(STAMP) - 1];
        assert!(
            last <= over,
            "{way:?}, {cause:?}, round {round}: a byte went up that was sent {} ns late",
            last - over
        );
        closest = closest.min(over - last);
    }
    assert!(closest < CLOSE_CALL, "{way:?}, {cause:?}: the last byte was sent {closest} ns before, or earlier");
}

#[tokio::test]
async fn no_byte_sent_after_the_publish_comes_down_over_http1() {
    nothing_late_comes_down(Way::Http1, Cause::Publish).await;
}

#[tokio::test]
async fn no_byte_sent_after_the_publish_comes_down_over_http2() {
    nothing_late_comes_down(Way::Http2, Cause::Publish).await;
}

#[tokio::test]
async fn no_byte_sent_after_the_publish_comes_down_over_grpc() {
    nothing_late_comes_down(Way::Grpc, Cause::Publish).await;
}

#[tokio::test]
async fn no_byte_sent_after_the_publish_goes_up_over_http1() {
    nothing_late_goes_up(Way::Http1, Cause::Publish).await;
}

#[tokio::test]
async fn no_byte_sent_after_the_publish_goes_up_over_http2() {
    nothing_late_goes_up(Way::Http2, Cause::Publish).await;
}

#[tokio::test]
async fn no_byte_sent_after_the_publish_goes_up_over_grpc() {
    nothing_late_goes_up(Way::Grpc, Cause::Publish).await;
}

#[tokio::test]
async fn no_byte_sent_after_a_not_after_that_nobody_was_told_of_comes_down_over_http1() {
    nothing_late_comes_down(Way::Http1, Cause::Clock).await;
}

#[tokio::test]
async fn no_byte_sent_after_a_not_after_that_nobody_was_told_of_comes_down_over_http2() {
    nothing_late_comes_down(Way::Http2, Cause::Clock).await;
}

#[tokio::test]
async fn no_byte_sent_after_a_not_after_that_nobody_was_told_of_comes_down_over_grpc() {
    nothing_late_comes_down(Way::Grpc, Cause::Clock).await;
}

#[tokio::test]
async fn no_byte_sent_after_a_not_after_that_nobody_was_told_of_goes_up_over_http1() {
    nothing_late_goes_up(Way::Http1, Cause::Clock).await;
}

#[tokio::test]
async fn no_byte_sent_after_a_not_after_that_nobody_was_told_of_goes_up_over_http2() {
    nothing_late_goes_up(Way::Http2, Cause::Clock).await;
}

#[tokio::test]
async fn no_byte_sent_after_a_not_after_that_nobody_was_told_of_goes_up_over_grpc() {
    nothing_late_goes_up(Way::Grpc, Cause::Clock).await;
}
