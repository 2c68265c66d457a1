//! A real client: TLS with its own certificate, HTTP/1.1, kept-alive connections and an endless stream.
//!
//! Used by the story. It must never know what the proxy does: it only notes what arrives, and when it ends.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control::Wire;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use trust::Time;

/// No single exchange on one host takes longer; a step that does has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a connection or a stream ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// On the monotonic clock.
    pub(super) at: Instant,
    /// On the wall clock.
    pub(super) moment: Time,
    /// The error, or `None` for a clean end.
    pub(super) why: Option<String>,
}

impl End {
    fn now(why: Option<String>) -> End {
        End { at: Instant::now(), moment: proxy::Clock::real().now(), why }
    }
}

/// What was seen of a stream so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Lines.
    pub(super) ticks: u64,
    /// Lines whose number is not the one after the last.
    pub(super) misplaced: u64,
    /// The longest time between two arrivals.
    pub(super) largest_gap: Duration,
    /// When it ended.
    pub(super) ended: Option<End>,
}

/// An endless stream, closed with its connection when this is dropped.
pub(super) struct Stream {
    /// What was seen of it.
    pub(super) seen: watch::Receiver<Seen>,
    follower: AbortHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// One client.
pub(super) struct Client {
    address: SocketAddr,
    tls: TlsConnector,
}

/// One of its connections.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Set when the connection is closed.
    pub(super) ended: watch::Receiver<Option<End>>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// The proxy's port does not answer: never a refusal.
    Unreachable(String),
    /// The TLS handshake failed.
    Refused(String),
}

impl Client {
    /// A client of the proxy at `address` that trusts `root`, with the chain and key of `credential` if there is one.
    pub(super) fn new(address: SocketAddr, root: &Path, credential: Option<(&Path, &Path)>) -> Result<Client, String> {
        let unusable = |error: &dyn std::fmt::Display| format!("the client's certificates cannot be used ({error})");
        let mut roots = RootCertStore::empty();
        let anchor = CertificateDer::from_pem_file(root).map_err(|error| unusable(&error))?;
        roots.add(anchor).map_err(|error| unusable(&error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots);
        let mut config = match credential {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(&error))?;
                builder
                    .with_client_auth_cert(chain.map_err(|error| unusable(&error))?, key)
                    .map_err(|error| unusable(&error))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Every handshake shows the certificate: the story is about what the proxy says to it.
        config.resumption = Resumption::disabled();
        Ok(Client { address, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// A new connection. With TLS 1.3 the client is done before the server has seen its certificate, so that a refusal
    /// may come only with the first answer.
    pub(super) async fn connect(&self) -> Result<Connection, NoConnection> {
        let unreachable = |why: String| NoConnection::Unreachable(why);
        let connected = timeout(PATIENCE, TcpStream::connect(self.address)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable("no answer in five seconds".to_owned())),
        };
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from("localhost").map_err(|error| unreachable(error.to_string()))?;
        let secured = match timeout(PATIENCE, self.tls.connect(name, stream)).await {
            Ok(Ok(secured)) => secured,
            Ok(Err(error)) => return Err(NoConnection::Refused(deepest(&error))),
            Err(_) => return Err(unreachable("no TLS handshake in five seconds".to_owned())),
        };
        let (sender, connection) =
            handshake(Wire::new(secured)).await.map_err(|error| NoConnection::Refused(deepest(&error)))?;
        let (ending, ended) = watch::channel(None);
        tokio::spawn(async move {
            let why = connection.await.err().map(|error| deepest(&error));
            ending.send_replace(Some(End::now(why)));
        });
        Ok(Connection { sender, ended })
    }

    /// Whether a new connection, or its first request, is refused: by what words, or an error if it is not.
    pub(super) async fn is_refused(&self) -> Result<String, String> {
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(NoConnection::Refused(why)) => return Ok(why),
            Err(NoConnection::Unreachable(why)) => return Err(format!("the proxy could not be reached ({why})")),
        };
        match connection.request("/").await {
            Ok((StatusCode::UNAUTHORIZED, _)) => Ok("status 401".to_owned()),
            Ok((status, _)) => Err(format!("the request was answered with {status}")),
            Err(why) => Ok(why),
        }
    }
}

impl Connection {
    async fn send(&mut self, path: &str) -> Result<http::Response<Incoming>, String> {
        let request = Request::get(path).header("host", "localhost").body(Empty::new());
        let request = request.map_err(|error| error.to_string())?;
        let wait = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answered = timeout(PATIENCE, wait).await.map_err(|_| "no answer in five seconds".to_owned())?;
        answered.map_err(|error| deepest(&error))
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn request(&mut self, path: &str) -> Result<(StatusCode, String), String> {
        let response = self.send(path).await?;
        let status = response.status();
        let body = timeout(PATIENCE, response.into_body().collect()).await;
        let body = body.map_err(|_| "the answer did not end in five seconds".to_owned())?;
        let bytes = body.map_err(|error| deepest(&error))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Opens the endless stream and follows it on a task of its own.
    pub(super) async fn stream(mut self) -> Result<Stream, String> {
        let response = self.send("/stream").await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the stream was answered with {}", response.status()));
        }
        let (news, seen) = watch::channel(Seen::default());
        let follower = tokio::spawn(async move {
            // The sender lives as long as the stream: dropping it would tell hyper to close after this answer.
            let _connection = self;
            follow(response.into_body(), &news).await;
        });
        Ok(Stream { seen, follower: follower.abort_handle() })
    }
}

async fn follow(mut body: Incoming, news: &watch::Sender<Seen>) {
    let (mut lines, mut last_arrival, mut last_number) = (String::new(), None, 0_u64);
    let why = loop {
        let bytes = match body.frame().await {
            None => break None,
            Some(Err(error)) => break Some(deepest(&error)),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let now = Instant::now();
        let gap = last_arrival.map_or(Duration::ZERO, |last| now.duration_since(last));
        last_arrival = Some(now);
        // One arrival may hold several lines, or a part of one.
        lines.push_str(&String::from_utf8_lossy(&bytes));
        news.send_modify(|seen| {
            seen.largest_gap = seen.largest_gap.max(gap);
            while let Some((line, rest)) = lines.split_once('\n') {
                let number = line.strip_prefix("tick ").and_then(|number| number.parse().ok());
                seen.ticks = seen.ticks.saturating_add(1);
                seen.misplaced += u64::from(number != last_number.checked_add(1));
                last_number = number.unwrap_or(0);
                lines = rest.to_owned();
            }
        });
    };
    news.send_modify(|seen| seen.ended = Some(End::now(why)));
}

/// A plaintext GET, for the proxy's own endpoint.
pub(super) async fn plain_get(address: SocketAddr, path: &str) -> Result<(StatusCode, String), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (sender, connection) = handshake(Wire::new(stream)).await.map_err(|error| deepest(&error))?;
    tokio::spawn(connection);
    let (_, ended) = watch::channel(None);
    Connection { sender, ended }.request(path).await
}

/// The innermost cause: libraries wrap "received fatal alert" in words about themselves.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
