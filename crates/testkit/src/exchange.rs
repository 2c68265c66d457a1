//! What both HTTP clients of the forge share: answers, bodies sent piece by piece, bodies read piece by piece.
//! Tests use these types the same way over HTTP/1.1 and HTTP/2.
//! It must never hide how a body ended: a clean end and a cut one are different values.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

/// Why an exchange failed: hyper's, h2's or the socket's own error. `alert_of` finds a TLS alert in it.
pub type ClientError = Box<dyn Error + Send + Sync>;

/// The body of an HTTP/1.1 request.
pub type Sending = UnsyncBoxBody<Bytes, io::Error>;

/// No single step of a client waits longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers; empty if there were none.
    pub trailers: HeaderMap,
    /// The 1xx answers that came before, but 100 and 101.
    pub informational: Vec<StatusCode>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of this name as text.
    pub fn header(&self, name: &str) -> Option<String> {
        text_of(&self.headers, name)
    }

    /// The first trailer of this name as text.
    pub fn trailer(&self, name: &str) -> Option<String> {
        text_of(&self.trailers, name)
    }
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// A body that is sent at once, with its length.
pub fn whole(bytes: impl Into<Bytes>) -> Sending {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that a test feeds as it goes.
pub fn upload() -> (Upload, Sending) {
    let (sender, receiver) = Channel::new(1);
    (Upload { sender }, receiver.boxed_unsync())
}

/// The feeding end of a body. Dropped or finished, the body ends cleanly; aborted, it breaks off.
#[derive(Debug)]
pub struct Upload {
    sender: Sender<Bytes, io::Error>,
}

impl Upload {
    /// Sends a piece; an error says that the exchange is over.
    pub async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        self.sender.send_data(bytes.into()).await.map_err(Into::into)
    }

    /// Ends the body with trailers.
    pub async fn finish_with(mut self, trailers: HeaderMap) -> Result<(), ClientError> {
        self.sender.send_trailers(trailers).await.map_err(Into::into)
    }

    /// Ends the body.
    pub fn finish(self) {}

    /// Breaks the body off.
    pub fn abort(self) {
        self.sender.abort(io::Error::other("the test broke its body off"));
    }
}

/// An answer whose body is read as it comes.
#[derive(Debug)]
pub struct Download {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: DownloadBody,
    trailers: HeaderMap,
}

#[derive(Debug)]
enum DownloadBody {
    Http1(Incoming),
    Http2(h2::RecvStream),
}

impl Download {
    pub(crate) fn http1(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = DownloadBody::Http1(body);
        Self { status: head.status, headers: head.headers, body, trailers: HeaderMap::new() }
    }

    pub(crate) fn http2(response: http::Response<h2::RecvStream>) -> Self {
        let (head, body) = response.into_parts();
        let body = DownloadBody::Http2(body);
        Self { status: head.status, headers: head.headers, body, trailers: HeaderMap::new() }
    }

    /// The next piece, `None` at a clean end, an error if the body was cut or nothing came for twenty seconds.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        within(self.piece()).await?
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        match &mut self.body {
            DownloadBody::Http1(body) => loop {
                let Some(frame) = body.frame().await else { return Ok(None) };
                match frame?.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
                }
            },
            DownloadBody::Http2(body) => {
                if let Some(bytes) = body.data().await {
                    let bytes = bytes?;
                    body.flow_control().release_capacity(bytes.len())?;
                    return Ok(Some(bytes));
                }
                self.trailers = body.trailers().await?.unwrap_or_default();
                Ok(None)
            }
        }
    }

    /// Reads on to the end: what still came, and how it ended.
    pub async fn rest(&mut self) -> (Vec<u8>, Result<(), ClientError>) {
        let mut bytes = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) => return (bytes, Ok(())),
                Err(error) => return (bytes, Err(error)),
            }
        }
    }

    /// The trailers, once the end was read.
    pub fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    pub(crate) async fn collect(mut self) -> Result<Answer, ClientError> {
        let (body, ended) = self.rest().await;
        ended?;
        let Self { status, headers, trailers, .. } = self;
        Ok(Answer { status, headers, body, trailers, informational: Vec::new() })
    }
}

pub(crate) async fn within<Output>(step: impl Future<Output = Output>) -> Result<Output, ClientError> {
    let patience = tokio::time::timeout(PATIENCE, step).await;
    patience.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nothing came for twenty seconds").into())
}
