//! The two ways in which tests of this folder speak: one type for both HTTP versions, and raw bytes over TLS.
//! Used by every module beside it. It must never retry or repair: what came is what is shown.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use testkit::{
    Answer, ClientError, ClientStream, Download, Ending, Http1Client, Http2Client, TlsClient, read_to_end, whole,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{House, PATIENCE};

/// One connection of a client by either version.
pub(crate) enum Caller {
    One(Http1Client),
    Two(Http2Client),
}

impl Caller {
    /// One connection of each version.
    pub(crate) async fn both(house: &House, name: &str) -> [Caller; 2] {
        let client = house.client(name);
        [
            Caller::One(client.http1(house.address()).await.unwrap()),
            Caller::Two(client.http2(house.address()).await.unwrap()),
        ]
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Caller::One(_) => "HTTP/1.1",
            Caller::Two(_) => "HTTP/2",
        }
    }

    pub(crate) fn label(&self) -> &'static str {
        match self {
            Caller::One(_) => "http1",
            Caller::Two(_) => "http2",
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.send(Request::get(path).body(Bytes::new()).unwrap()).await
    }

    pub(crate) async fn send(&mut self, request: Request<Bytes>) -> Result<Answer, ClientError> {
        match self {
            Caller::One(client) => client.send(request).await,
            Caller::Two(client) => client.send(request).await,
        }
    }

    /// `GET path`; returns when the answer's head came.
    pub(crate) async fn download(&mut self, path: &str) -> Result<Download, ClientError> {
        match self {
            Caller::One(client) => client.open(Request::get(path).body(whole(Bytes::new())).unwrap()).await,
            Caller::Two(client) => client.download(path).await,
        }
    }

    pub(crate) async fn closed(&mut self) -> Option<Result<(), ClientError>> {
        match self {
            Caller::One(client) => client.closed(PATIENCE).await,
            Caller::Two(client) => client.closed(PATIENCE).await,
        }
    }
}

/// A TLS connection spoken to in bytes.
pub(crate) struct Raw {
    stream: ClientStream,
    unread: Vec<u8>,
}

/// One answer as it came over the wire.
pub(crate) struct WireAnswer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl WireAnswer {
    pub(crate) fn status(&self) -> u16 {
        status_of(&self.head)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(':'));
        pairs.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The status in a head, 0 if there is none.
pub(crate) fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The statuses of all answers in these bytes, found by their status lines.
pub(crate) fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    text.match_indices("HTTP/1.").map(|(at, _)| status_of(&text[at..])).collect()
}

impl Raw {
    pub(crate) async fn connect(house: &House, client: &TlsClient) -> Raw {
        Self::connect_to(house.address(), client).await
    }

    /// To somewhere between the client and the house.
    pub(crate) async fn connect_to(address: SocketAddr, client: &TlsClient) -> Raw {
        let stream = client.connect(address, &["http/1.1"]).await.unwrap();
        Raw { stream, unread: Vec::new() }
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // A side that has closed is found out by what is read.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Reads up to and with the blank line that ends a head; what came before an early end otherwise.
    pub(crate) async fn head(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                break self.unread.len();
            }
        };
        String::from_utf8(self.unread.drain(..end).collect()).unwrap()
    }

    /// Reads one answer whose body has a Content-Length or none at all.
    pub(crate) async fn answer(&mut self) -> WireAnswer {
        let mut answer = WireAnswer { head: self.head().await, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        answer.body = self.exactly(length).await;
        answer
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length && self.more().await {}
        self.unread.drain(..length.min(self.unread.len())).collect()
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        read.expect("the proxy says something in time").unwrap_or(0) > 0
    }

    /// Everything until the end, and how it ended.
    pub(crate) async fn rest(mut self) -> (Vec<u8>, Ending) {
        let answer = read_to_end(&mut self.stream, PATIENCE).await;
        let mut bytes = self.unread;
        bytes.extend_from_slice(&answer.bytes);
        (bytes, answer.ending)
    }

    /// Whether the connection is still open and silent after this long.
    pub(crate) async fn stays_open(&mut self, for_so_long: Duration) -> bool {
        let mut byte = [0; 1];
        tokio::time::timeout(for_so_long, self.stream.read(&mut byte)).await.is_err()
    }
}
