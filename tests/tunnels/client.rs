//! A client's end of a tunnel by either version, bytes or frames on it, and apps at its other end.
//! Used by every module of this folder. It must never read ahead of what a test asks for, or make a reset look like an end.

use bytes::Bytes;
use http::{Method, Request};
use testkit::websocket::{Frame, field};
use testkit::{ClientError, ClientStream, Download, Ending, Http2Client, TlsClient, read_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{House, PATIENCE};

/// The example of RFC 6455 §1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// By which version a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

pub(crate) const BOTH: [Version; 2] = [Version::One, Version::Two];

/// What was answered to a request for a tunnel.
pub(crate) struct Answered {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) tunnel: Tunnel,
}

impl Answered {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// The client's end.
pub(crate) struct Tunnel {
    line: Line,
    unread: Vec<u8>,
}

#[allow(clippy::large_enum_variant)] // a test has a handful of them
enum Line {
    One(Box<ClientStream>),
    Two { upload: h2::SendStream<Bytes>, download: Download, client: Http2Client },
}

/// How a tunnel ended for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// close_notify, or END_STREAM.
    Clean,
    /// The connection or the stream was reset, or ended without a word.
    Broken(String),
}

impl Tunnel {
    pub(crate) fn over_http1(stream: ClientStream) -> Tunnel {
        Tunnel { line: Line::One(Box::new(stream)), unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), ClientError> {
        match &mut self.line {
            Line::One(stream) => {
                stream.write_all(bytes.as_ref()).await?;
                Ok(stream.flush().await?)
            }
            Line::Two { upload, .. } => {
                testkit::http2_client::send_bytes(upload, Bytes::copy_from_slice(bytes.as_ref())).await
            }
        }
    }

    pub(crate) async fn say(&mut self, frame: Frame) {
        self.send(frame.bytes()).await.unwrap();
    }

    /// Ends the client's direction.
    pub(crate) async fn finish(&mut self) {
        match &mut self.line {
            Line::One(stream) => stream.shutdown().await.unwrap(),
            Line::Two { upload, .. } => upload.send_data(Bytes::new(), true).unwrap(),
        }
    }

    /// Gives the tunnel up without a word.
    pub(crate) fn vanish(self) {
        match self.line {
            Line::One(stream) => {
                stream.get_ref().0.set_zero_linger().unwrap();
            }
            Line::Two { mut upload, .. } => upload.send_reset(h2::Reason::CANCEL),
        }
    }

    /// Some more bytes; `None` at the clean end.
    async fn more(&mut self) -> Result<Option<()>, String> {
        let read = match &mut self.line {
            Line::One(stream) => {
                let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut self.unread)).await;
                read.expect("something comes in time").map_err(|error| error.to_string())?
            }
            Line::Two { download, .. } => match download.next().await {
                Ok(piece) => {
                    let piece = piece.unwrap_or_default();
                    self.unread.extend_from_slice(&piece);
                    piece.len()
                }
                Err(error) => return Err(error.to_string()),
            },
        };
        Ok((read > 0).then_some(()))
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = Frame::parse(&mut self.unread) {
                return frame;
            }
            let more = self.more().await;
            assert_eq!(more, Ok(Some(())), "the tunnel ended within a frame: {:?}", self.unread);
        }
    }

    /// Exactly so many bytes.
    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            let more = self.more().await;
            assert_eq!(more, Ok(Some(())), "the tunnel ended early: {:?}", String::from_utf8_lossy(&self.unread));
        }
        self.unread.drain(..length).collect()
    }

    /// All that still comes, and the end.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, Over) {
        loop {
            match self.more().await {
                Ok(Some(())) => {}
                Ok(None) => return (std::mem::take(&mut self.unread), Over::Clean),
                Err(error) => return (std::mem::take(&mut self.unread), Over::Broken(error)),
            }
        }
    }

    /// All frames that still come, what is left of one that is not whole, and the end.
    pub(crate) async fn frames(&mut self) -> (Vec<Frame>, Vec<u8>, Over) {
        let (mut bytes, over) = self.rest().await;
        let frames = std::iter::from_fn(|| Frame::parse(&mut bytes)).collect();
        (frames, bytes, over)
    }

    /// Waits until the whole connection is gone.
    pub(crate) async fn closed(self) {
        match self.line {
            Line::One(mut stream) => {
                let ending = read_to_end(&mut stream, PATIENCE).await.ending;
                assert_ne!(ending, Ending::StillOpen, "the connection is open");
            }
            Line::Two { mut client, .. } => {
                client.closed(PATIENCE).await.expect("the connection is closed in time").ok();
            }
        }
    }

    /// The client's own socket, for a look at what waits in it.
    pub(crate) fn socket(&self) -> Option<&tokio::net::TcpStream> {
        match &self.line {
            Line::One(stream) => Some(stream.get_ref().0),
            Line::Two { .. } => None,
        }
    }

    /// Another request on the connection, while the tunnel lives.
    pub(crate) fn neighbour(&self) -> Option<&Http2Client> {
        match &self.line {
            Line::One(_) => None,
            Line::Two { client, .. } => Some(client),
        }
    }
}

/// Reads the head of an HTTP/1.1 answer, byte by byte so that nothing behind it is taken.
pub(crate) async fn read_head(stream: &mut ClientStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer comes in time");
        head.push(byte.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head))));
    }
    String::from_utf8(head).unwrap()
}

async fn ask_by_http1(house: &House, client: &TlsClient, request: &str) -> Answered {
    let mut stream = client.connect(house.address(), &["http/1.1"]).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answered { status, fields, tunnel: Tunnel::over_http1(stream) }
}

pub(crate) async fn ask_by_http2(house: &House, client: &TlsClient, request: Request<()>) -> Answered {
    let client = client.http2(house.address()).await.unwrap();
    let (upload, download) = client.start(request, false).await.unwrap().split().await.unwrap();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let fields = download.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let line = Line::Two { upload, download, client };
    let Line::Two { download, .. } = &line else { unreachable!() };
    Answered { status: download.status.as_u16(), fields, tunnel: Tunnel { line, unread: Vec::new() } }
}

/// An HTTP/2 request for a tunnel of this protocol (RFC 8441 §5).
pub(crate) fn extended_connect(protocol: &'static str) -> Request<()> {
    let request = Request::builder().method(Method::CONNECT).uri("https://localhost/chat");
    let request = request.header("sec-websocket-version", "13").header("sec-websocket-protocol", "chat");
    request.extension(h2::ext::Protocol::from_static(protocol)).body(()).unwrap()
}

/// An HTTP/1.1 request for a WebSocket, with these further fields.
pub(crate) fn upgrade(fields: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n{fields}\r\n"
    )
}

/// Asks for a WebSocket.
pub(crate) async fn ask(house: &House, client: &TlsClient, version: Version) -> Answered {
    match version {
        Version::One => ask_by_http1(house, client, &upgrade("")).await,
        Version::Two => ask_by_http2(house, client, extended_connect("websocket")).await,
    }
}

/// Opens one.
pub(crate) async fn open(house: &House, client: &TlsClient, version: Version) -> Tunnel {
    let answered = ask(house, client, version).await;
    assert_eq!(answered.status, if version == Version::One { 101 } else { 200 });
    answered.tunnel
}

/// Asks for a CONNECT to this target.
pub(crate) async fn ask_connect(house: &House, client: &TlsClient, version: Version, target: &str) -> Answered {
    match version {
        Version::One => {
            let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
            ask_by_http1(house, client, &request).await
        }
        Version::Two => ask_by_http2(house, client, Request::connect(target).body(()).unwrap()).await,
    }
}

/// Opens one to a target that nobody could resolve: whoever reaches an app by it was not dialled.
pub(crate) async fn open_connect(house: &House, client: &TlsClient, version: Version) -> Tunnel {
    let answered = ask_connect(house, client, version, "db.invalid:5432").await;
    assert_eq!(answered.status, 200);
    answered.tunnel
}

/// The value of a field in a head that an app saw.
pub(crate) fn seen<'a>(head: &'a str, name: &str) -> &'a str {
    field(head, name).unwrap_or_else(|| panic!("no {name} in {head}"))
}
