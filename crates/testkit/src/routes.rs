//! What the recording HTTP/1.1 app answers, by path. Its connections call `answer` once for each request.
//!
//! `/echo` the body back as it comes, content type kept · `/stream` lines `chunk N` every 2 ms without end ·
//! `/stream/MS` the same every MS · `/events/MS` server-sent events `data: N` every MS without end ·
//! `/bytes/N` exactly N bytes with their length · `/slow/MS` waits before its answer · `/status/N` answers without
//! reading the body · `/hints` 103 Early Hints first · `/trailers` ends with `x-checksum: 42` (hyper writes trailers
//! only to requests with `te: trailers`) · `/close` announces its close · `/vanish` closes without announcing it ·
//! `/upload` reads all and answers the number of bytes · `/chunks/N` N lines 2 ms apart, then a clean end ·
//! `/deaf` neither reads nor answers · `/stamps` stamps (`stamp.rs`) as fast as they are taken, without end ·
//! anything else reads all and answers `hello`.
//!
//! It must never read more of a body than its client has sent, nor collect one before it is recorded.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::journal::{BodyState, Journal};
use crate::stamp::stamp;
use crate::tap::Wire;

const PACE: Duration = Duration::from_millis(2);
const PIECE: &[u8] = &[b'.'; 16 << 10];

type Reply = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

/// One request's place: the record, the wire it came on, the number of its connection.
pub(crate) struct Visit {
    pub(crate) journal: Arc<Journal>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) connection: usize,
}

pub(crate) async fn answer(visit: Visit, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    let number = visit.journal.request(visit.connection, &head);
    let mut body = RecordedBody::new(body, Arc::clone(&visit.journal), number);
    let path = head.uri.path().to_owned();
    let (route, argument) = split(&path);
    if !matches!(route, "echo" | "stream" | "events" | "stamps" | "chunks" | "status" | "upload" | "deaf") {
        // The answer waits for the whole body, as most applications do.
        read_all(&mut body).await;
    }
    Ok(match route {
        "echo" => echo(&head, body),
        "stream" if argument == 0 => lines(body, (u64::MAX, PACE), |number| format!("chunk {number}\n")),
        "stream" => lines(body, (u64::MAX, Duration::from_millis(argument)), |number| format!("chunk {number}\n")),
        "chunks" => lines(body, (argument, PACE), |number| format!("chunk {number}\n")),
        "events" => events(body, Duration::from_millis(argument)),
        "stamps" => stamped(body),
        // The body is held, so that nobody reads it.
        "deaf" => std::future::pending().await,
        "bytes" => Response::new(Pattern { left: argument }.boxed_unsync()),
        "status" => status(argument),
        "upload" => text(&read_all(&mut body).await.to_string()),
        "trailers" => with_trailers(),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(argument)).await;
            text("slow")
        }
        "hints" => {
            visit.wire.send_first(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
            text("after hints")
        }
        "close" => {
            let mut reply = text("closing");
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            reply
        }
        "vanish" => {
            visit.wire.vanish_after_answer();
            text("vanishing")
        }
        _ => text("hello"),
    })
}

fn split(path: &str) -> (&str, u64) {
    let path = path.trim_start_matches('/');
    let (route, argument) = path.split_once('/').unwrap_or((path, ""));
    (route, argument.parse().unwrap_or(0))
}

fn text(text: &str) -> Reply {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {});
    Response::new(body.boxed_unsync())
}

fn status(code: u64) -> Reply {
    let code = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let mut reply = text("");
    *reply.status_mut() = code.unwrap_or(StatusCode::BAD_REQUEST);
    reply
}

fn echo(head: &http::request::Parts, body: RecordedBody) -> Reply {
    let mut reply = Response::new(body.boxed_unsync());
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        reply.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    reply
}

fn events(body: RecordedBody, pace: Duration) -> Reply {
    let mut reply = lines(body, (u64::MAX, pace), |number| format!("data: {number}\n\n"));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply
}

fn lines(mut body: RecordedBody, (count, pace): (u64, Duration), line: fn(u64) -> String) -> Reply {
    let (mut sender, receiver) = Channel::<Bytes, hyper::Error>::new(1);
    tokio::spawn(async move { read_all(&mut body).await });
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(pace);
        for number in 0..count {
            pace.tick().await;
            // Nobody reads any more: the connection is gone.
            if sender.send_data(Bytes::from(line(number))).await.is_err() {
                return;
            }
        }
    });
    Response::new(receiver.boxed_unsync())
}

fn stamped(mut body: RecordedBody) -> Reply {
    let (mut sender, receiver) = Channel::<Bytes, hyper::Error>::new(1);
    tokio::spawn(async move { read_all(&mut body).await });
    tokio::spawn(async move {
        while sender.send_data(Bytes::copy_from_slice(&stamp().to_be_bytes())).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    Response::new(receiver.boxed_unsync())
}

fn with_trailers() -> Reply {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("42"));
    let body = Full::new(Bytes::from_static(b"body before trailers"))
        .map_err(|never| match never {})
        .with_trailers(async move { Some(Ok(trailers)) });
    let mut reply = Response::new(body.boxed_unsync());
    reply.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-checksum"));
    reply.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    reply
}

/// Reads to the end, or to the error that the journal then shows; returns the number of bytes.
async fn read_all(body: &mut RecordedBody) -> u64 {
    let mut length = 0;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
    }
    length
}

/// A request body that notes everything it passes on.
struct RecordedBody {
    body: Incoming,
    journal: Arc<Journal>,
    request: usize,
}

impl RecordedBody {
    fn new(body: Incoming, journal: Arc<Journal>, request: usize) -> Self {
        if body.is_end_stream() {
            journal.finished(request, BodyState::Complete);
        }
        Self { body, journal, request }
    }
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    self.journal.body(self.request, bytes);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.journal.trailers(self.request, trailers);
                }
                // Trailers are the end: whoever echoes them asks for nothing more.
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.journal.finished(self.request, BodyState::Complete);
                }
            }
            Some(Err(_)) => self.journal.finished(self.request, BodyState::Broken),
            None => self.journal.finished(self.request, BodyState::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        self.journal.finished(self.request, BodyState::Broken);
    }
}

/// A body of known length that is made as it is read.
struct Pattern {
    left: u64,
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).map_or(PIECE.len(), |left| left.min(PIECE.len()));
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
