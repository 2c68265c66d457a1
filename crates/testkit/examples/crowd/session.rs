//! One held session: opened, brought to its rest, and watched until its end.
//!
//! Spawned by `hold.rs` for each client. It reads whatever comes and notes when; the moment of the end is taken before
//! anything else is done about it. It must never write after its first request: it would not be at rest.

use std::future::{Future as _, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use h2::RecvStream;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use testkit::ClientStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::credentials::Credentials;
use crate::stamp::{Stamps, now};

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP/1.1, one request made, kept alive.
    Idle,
    /// HTTP/2, one request made.
    Quiet,
    /// HTTP/2 with a stream of blocks.
    Stream,
    /// HTTP/1.1 with server-sent events.
    Events,
    /// A WebSocket with messages.
    Socket,
}

impl Kind {
    /// From the word that the bench uses.
    pub(crate) fn parse(word: &str) -> Option<Kind> {
        let kinds = [Kind::Idle, Kind::Quiet, Kind::Stream, Kind::Events, Kind::Socket];
        kinds.into_iter().find(|kind| kind.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Idle => "idle",
            Kind::Quiet => "quiet",
            Kind::Stream => "stream",
            Kind::Events => "events",
            Kind::Socket => "socket",
        }
    }
}

/// What became of a session.
pub(crate) struct End {
    client: usize,
    kind: Kind,
    blocks: u64,
    /// When the app sent the last block that came, and when it came; 0 if none did.
    last_sent: u64,
    last_came: u64,
    closed: u64,
    how: &'static str,
}

impl End {
    /// For the bench.
    pub(crate) fn told(&self) -> Value {
        json!([self.client, self.kind.word(), self.blocks, self.last_sent, self.last_came, self.closed, self.how])
    }

    fn note(&mut self, (newest, count): (Option<u64>, u64)) {
        if let Some(sent) = newest {
            (self.last_sent, self.last_came) = (sent, now());
        }
        self.blocks += count;
    }

    fn ends<T>(&mut self, how: &io::Result<T>) {
        self.closed = now();
        self.how = match how {
            Ok(_) => "closed",
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => "reset",
            Err(_) => "broken",
        };
    }
}

/// An open session, to be watched until it ends.
pub(crate) struct Session {
    end: End,
    wire: Wire,
    stamps: Stamps,
}

enum Wire {
    /// HTTP/1.1 and what it became.
    Bytes(Box<ClientStream>),
    Http2(Box<Http2>),
}

struct Http2 {
    connection: h2::client::Connection<ClientStream, bytes::Bytes>,
    _sender: h2::client::SendRequest<bytes::Bytes>,
    body: Option<RecvStream>,
}

/// Opens a session: returns when its answer, or the answer's beginning, has come.
pub(crate) async fn open(
    credentials: Rc<Credentials>,
    client: usize,
    (kind, every): (Kind, u64),
) -> io::Result<Session> {
    let end = End { client, kind, blocks: 0, last_sent: 0, last_came: 0, closed: 0, how: "" };
    let mut session = match kind {
        Kind::Quiet | Kind::Stream => {
            let stream = credentials.connect(client, "h2").await?;
            let http2 = open_http2(stream, kind, every).await?;
            Session { end, wire: Wire::Http2(Box::new(http2)), stamps: Stamps::default() }
        }
        Kind::Idle | Kind::Events | Kind::Socket => {
            let stream = Box::new(credentials.connect(client, "http/1.1").await?);
            Session { end, wire: Wire::Bytes(stream), stamps: Stamps::default() }
        }
    };
    if let Wire::Bytes(stream) = &mut session.wire {
        let after = open_bytes(stream, kind, every).await?;
        session.end.note(session.stamps.read(&after));
    }
    Ok(session)
}

/// The bytes that came behind the head.
async fn open_bytes(stream: &mut ClientStream, kind: Kind, every: u64) -> io::Result<Vec<u8>> {
    let (path, more, status) = match kind {
        Kind::Events => (format!("/events?every={every}"), "", "HTTP/1.1 200"),
        Kind::Socket => (format!("/socket?every={every}"), UPGRADE, "HTTP/1.1 101"),
        Kind::Idle | Kind::Quiet | Kind::Stream => ("/".to_owned(), "", "HTTP/1.1 200"),
    };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n").as_bytes()).await?;
    let (mut read, body) = (Vec::new(), if kind == Kind::Idle { 3 } else { 0 });
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::Error::other("the connection ended before an answer"));
        }
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        if !read.starts_with(status.as_bytes()) {
            let line = read.split(|byte| *byte == b'\r').next().unwrap_or_default();
            return Err(io::Error::other(format!("the answer was {}", String::from_utf8_lossy(line))));
        }
        if read.len() >= end + 4 + body {
            return Ok(read.split_off(end + 4));
        }
    }
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: Y3Jvd2Qgb2YgY2xpZW50cw==\r\n";

async fn open_http2(stream: ClientStream, kind: Kind, every: u64) -> io::Result<Http2> {
    let mut builder = h2::client::Builder::new();
    let shaken = builder.enable_push(false).handshake(stream).await;
    let (mut sender, mut connection) = shaken.map_err(of_h2)?;
    let path = if kind == Kind::Stream {
        format!("https://localhost/events?every={every}")
    } else {
        "https://localhost/".to_owned()
    };
    let request = Request::get(path).body(()).expect("the target is valid");
    let (mut response, _) = sender.send_request(request, true).map_err(of_h2)?;
    let answering = async {
        let answer = (&mut response).await.map_err(of_h2)?;
        if answer.status() != StatusCode::OK {
            return Err(io::Error::other(format!("the answer was {}", answer.status())));
        }
        let mut body = answer.into_body();
        if kind == Kind::Quiet {
            while body.data().await.transpose().map_err(of_h2)?.is_some() {}
            return Ok(None);
        }
        Ok(Some(body))
    };
    let body = tokio::select! {
        body = answering => body?,
        ended = &mut connection => {
            ended.map_err(of_h2)?;
            return Err(io::Error::other("the connection ended before an answer"));
        }
    };
    Ok(Http2 { connection, _sender: sender, body })
}

impl Session {
    /// Returns when it has ended.
    pub(crate) async fn ended(mut self) -> End {
        match self.wire {
            Wire::Bytes(mut stream) => {
                let mut piece = [0; 256];
                loop {
                    let read = stream.read(&mut piece).await;
                    match read {
                        Ok(count) if count > 0 => self.end.note(self.stamps.read(&piece[..count])),
                        last => {
                            self.end.ends(&last);
                            return self.end;
                        }
                    }
                }
            }
            Wire::Http2(mut http2) => {
                let (end, stamps) = (&mut self.end, &mut self.stamps);
                poll_fn(|context| {
                    // The connection first: it brings what the stream then hands out.
                    let ended = std::pin::Pin::new(&mut http2.connection).poll(context);
                    read_blocks(&mut http2.body, context, |piece| end.note(stamps.read(piece)));
                    ended.map(|ended| end.ends(&ended.map_err(of_h2)))
                })
                .await;
                self.end
            }
        }
    }
}

/// Takes what has come on a stream, and gives its window back.
fn read_blocks(body: &mut Option<RecvStream>, context: &mut Context<'_>, mut note: impl FnMut(&[u8])) {
    while let Some(stream) = body {
        match stream.poll_data(context) {
            Poll::Pending => return,
            Poll::Ready(Some(Ok(piece))) => {
                note(&piece);
                // A stream that was reset meanwhile has no window.
                let _ = stream.flow_control().release_capacity(piece.len());
            }
            Poll::Ready(_) => *body = None,
        }
    }
}

fn of_h2(error: h2::Error) -> io::Error {
    if error.is_io() { error.into_io().unwrap_or_else(|| io::Error::other("HTTP/2")) } else { io::Error::other(error) }
}
