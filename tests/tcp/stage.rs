//! What the tests beside it share: a house that carries bytes, apps made of a closure, and the bound on a cut.
//! Used by every module of this folder. It must never publish: when trust ends is each test's own line.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use proxy::{Protocol, Tcp};
use testkit::{ClientStream, RawApp};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::{House, HouseSpec, PATIENCE, eventually};

/// From a publish to the end of the connection: the promise.
const BOUND: Duration = Duration::from_millis(50);

/// An app whose connections the test gets, in the order in which they come.
pub(crate) struct HandedOver {
    pub(crate) app: RawApp,
    connections: mpsc::UnboundedReceiver<TcpStream>,
}

impl HandedOver {
    pub(crate) async fn start() -> HandedOver {
        let (hand, connections) = mpsc::unbounded_channel();
        let app = RawApp::start(move |stream, _| {
            let hand = hand.clone();
            async move { hand.send(stream).expect("the test takes its connections") }
        })
        .await;
        HandedOver { app, connections }
    }

    pub(crate) async fn next(&mut self) -> TcpStream {
        let next = tokio::time::timeout(PATIENCE, self.connections.recv());
        next.await.expect("the app is dialled in time").expect("the app runs")
    }

    /// A house that carries bytes to it.
    pub(crate) fn house(&self) -> HouseSpec {
        House::before(self.app.addr()).protocol(Protocol::Tcp(Tcp::default()))
    }

    /// A session of the client `a`, from both of its ends.
    pub(crate) async fn session(&mut self, house: &House) -> (ClientStream, TcpStream) {
        (connect(house, "a").await, self.next().await)
    }
}

/// A session of this client.
pub(crate) async fn connect(house: &House, name: &str) -> ClientStream {
    house.client(name).connect(house.address(), &[]).await.unwrap()
}

/// Fails if more time than the promise has gone by.
pub(crate) fn assert_prompt(since: Instant, what: &str) {
    let took = since.elapsed();
    assert!(took < BOUND, "{what} took {took:?}, more than {BOUND:?}");
}

/// Waits until this many sessions are left, and fails if that takes longer than the promise.
pub(crate) async fn assert_left(house: &House, sessions: f64, since: Instant) {
    eventually("the cut sessions are gone", || house.metric("portcullis_sessions_active", &[]) == sessions).await;
    assert_prompt(since, "the end of the sessions");
}

/// Fails unless so many sessions were cut for this reason, closed for it, and timed within the promise.
pub(crate) async fn assert_cut(house: &House, reason: &str, count: f64) {
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", reason)], count).await;
    assert_eq!(house.metric("portcullis_cuts_total", &[("reason", reason)]), count, "cuts by reason {reason}");
    assert_eq!(house.metric("portcullis_cut_seconds_bucket", &[("le", "0.05")]), count, "every cut is within 50 ms");
    assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0, "a cut is nobody's fault");
}

/// Everything until the end of a plain connection: the bytes, and the error that ended it if it was not a clean end.
pub(crate) async fn rest<Stream: AsyncRead + Unpin>(stream: &mut Stream) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it ends in time");
    (bytes, read.map(|_| ()).map_err(|error| error.kind()))
}

/// Exactly these bytes come next.
pub(crate) async fn hears<Stream: AsyncRead + Unpin>(stream: &mut Stream, wanted: &[u8]) {
    let mut bytes = vec![0; wanted.len()];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("they come in time");
    read.expect("the connection lives");
    assert_eq!(bytes, wanted);
}

/// What a plain connection that was reset says, whichever side noticed first.
pub(crate) const RESET: Result<(), ErrorKind> = Err(ErrorKind::ConnectionReset);
