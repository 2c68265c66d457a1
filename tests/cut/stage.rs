//! What the tests beside it share: a set stage, streams under way, and the bound within which a cut must be over.
//! Used by every module of this folder. It must never publish: when trust ends is each test's own line.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::AlertDescription;
use testkit::{
    ClientError, ClientStream, Download, Ending, Http1Client, Http2Client, RecordingApp, TlsClient, alert_of,
    read_to_end,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{House, PATIENCE, eventually};

/// From a publish to the end of the connection: the promise.
pub(crate) const BOUND: Duration = Duration::from_millis(50);

/// The recording app and a house before it.
pub(crate) async fn stage() -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    (app, house)
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
    assert_cut_within(house, (reason, count), "0.05").await;
}

/// The same with another bound, in seconds, where the machine is kept busy by the test itself.
pub(crate) async fn assert_cut_within(house: &House, (reason, count): (&str, f64), seconds: &str) {
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", reason)], count).await;
    assert_eq!(house.metric("portcullis_cuts_total", &[("reason", reason)]), count, "cuts by reason {reason}");
    let all = house.metric("portcullis_cuts_total", &[]);
    assert_eq!(house.metric("portcullis_cut_seconds_count", &[]), all, "every cut is timed once");
    let within = house.metric("portcullis_cut_seconds_bucket", &[("le", seconds)]);
    assert_eq!(within, all, "every cut is within {seconds} s");
}

/// Fails unless the next connection of this client is refused in the handshake with this alert, by TLS 1.3 and 1.2.
pub(crate) async fn assert_refused(house: &House, leaf: &testkit::Leaf, alert: AlertDescription) {
    let root = house.pki.server_root.der();
    for client in [TlsClient::tls13(root, Some(leaf)), TlsClient::tls12(root, Some(leaf))] {
        let heard = match client.connect(house.address(), &["http/1.1"]).await {
            Ok(mut stream) => read_to_end(&mut stream, PATIENCE).await.ending,
            Err(error) => alert_of(&error).map_or_else(|| Ending::Failed(error.to_string()), Ending::Alert),
        };
        assert_eq!(heard, Ending::Alert(alert));
    }
}

/// A connection by one of both versions.
pub(crate) enum Line {
    One(Http1Client),
    Two(Http2Client),
}

impl Line {
    pub(crate) async fn both(house: &House, client: &TlsClient) -> [Line; 2] {
        [
            Line::One(client.http1(house.address()).await.unwrap()),
            Line::Two(client.http2(house.address()).await.unwrap()),
        ]
    }

    pub(crate) async fn status(&mut self, path: &str) -> Result<u16, ClientError> {
        let answer = match self {
            Line::One(client) => client.get(path).await?,
            Line::Two(client) => client.get(path).await?,
        };
        Ok(answer.status.as_u16())
    }

    pub(crate) async fn download(&mut self, path: &str) -> Download {
        match self {
            Line::One(client) => client.download(path).await.unwrap(),
            Line::Two(client) => client.download(path).await.unwrap(),
        }
    }

    pub(crate) async fn closed(&mut self) {
        let closed = match self {
            Line::One(client) => client.closed(PATIENCE).await,
            Line::Two(client) => client.closed(PATIENCE).await,
        };
        closed.expect("the connection is closed in time").ok();
    }
}

/// An endless stream under way, checked piece by piece for gaps.
pub(crate) struct Stream {
    line: Line,
    download: Download,
    unread: Vec<u8>,
    next: u64,
}

impl Stream {
    /// Both versions of it, each on a connection of its own, with their first lines read.
    pub(crate) async fn both(house: &House, client: &TlsClient) -> [Stream; 2] {
        let [one, two] = Line::both(house, client).await;
        [Self::over(one).await, Self::over(two).await]
    }

    pub(crate) async fn over(mut line: Line) -> Stream {
        let download = line.download("/stream").await;
        assert_eq!(download.status, 200);
        let mut stream = Stream { line, download, unread: Vec::new(), next: 0 };
        stream.flows().await;
        stream
    }

    /// Takes in one piece of bytes; every line in it has to follow the one before.
    fn take(&mut self, piece: &Bytes) {
        self.unread.extend_from_slice(piece);
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            assert_eq!(String::from_utf8_lossy(&line), format!("chunk {}\n", self.next), "a gap in the stream");
            self.next += 1;
        }
    }

    /// Reads so many more lines as need a while to be made: the stream lives.
    pub(crate) async fn flows(&mut self) {
        let target = self.next + 15;
        while self.next < target {
            let piece = self.download.next().await.unwrap_or_else(|error| panic!("a stream that lives broke: {error}"));
            self.take(&piece.expect("a stream without end does not end"));
        }
    }

    /// The number of the next line.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// Reads on to the end, which has to be an error and prompt; then the connection has to be closed.
    pub(crate) async fn must_be_cut(mut self, since: Instant) {
        loop {
            match self.download.next().await {
                Ok(Some(piece)) => {
                    self.take(&piece);
                    assert_prompt(since, "the last byte of a stream");
                }
                Ok(None) => panic!("a cut stream ended as if it were whole"),
                Err(_) => break,
            }
        }
        assert_prompt(since, "the end of a stream");
        self.line.closed().await;
        assert_prompt(since, "the close of its connection");
    }

    /// One more step of the stream while the test does other things; `Err` is its end.
    pub(crate) async fn step(&mut self) -> Result<(), ClientError> {
        let piece = self.download.next().await?;
        self.take(&piece.expect("a stream without end does not end"));
        Ok(())
    }
}

/// A TLS connection spoken to in bytes.
pub(crate) struct Wire {
    pub(crate) stream: ClientStream,
}

impl Wire {
    pub(crate) async fn connect(house: &House, client: &TlsClient) -> Wire {
        Wire { stream: client.connect(house.address(), &["http/1.1"]).await.unwrap() }
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads until these bytes came; returns all until then and what came with them.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.windows(end.len()).any(|window| window == end) {
            self.more(&mut bytes).await;
        }
        bytes
    }

    /// Reads some more bytes; panics if the connection ends instead.
    pub(crate) async fn more(&mut self, bytes: &mut Vec<u8>) {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(bytes)).await;
        let count = read.expect("the proxy says something in time").expect("the connection lives");
        assert!(count > 0, "the connection ended too early: {:?}", String::from_utf8_lossy(bytes));
    }

    /// Everything until the end, and how it ended.
    pub(crate) async fn rest(&mut self) -> (String, Ending) {
        let answer = read_to_end(&mut self.stream, PATIENCE).await;
        (answer.text(), answer.ending)
    }

    /// The whole of one 401 for this reason, then a clean end.
    pub(crate) async fn is_told(&mut self, word: &str, since: Instant) {
        let (text, ending) = self.rest().await;
        assert_prompt(since, "the refusal");
        assert!(text.starts_with("HTTP/1.1 401 "), "{text:?}");
        assert!(text.to_lowercase().contains("\r\nconnection: close\r\n"), "{text:?}");
        assert!(text.ends_with(&format!("\r\n\r\n{word}\n")), "{text:?}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "one refusal and nothing else: {text:?}");
        assert_eq!(ending, Ending::Clean);
    }

    /// The response under way breaks off: an error, and nothing that could pass for its end.
    pub(crate) async fn is_broken_off(&mut self, since: Instant) -> String {
        let (text, ending) = self.rest().await;
        assert_prompt(since, "the end of the response");
        assert!(matches!(ending, Ending::Reset | Ending::Unannounced), "{ending:?} could pass for a whole response");
        text
    }
}
