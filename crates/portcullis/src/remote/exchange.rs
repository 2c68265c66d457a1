//! One request and its answer on a connection of its own.
//!
//! Called by `remote.rs`. Everything that can keep it waiting has a deadline, and an answer has a limit. It must never
//! take a broken connection for an answer.

use std::error::Error as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use control::Wire;
use http::header::{CONTENT_TYPE, HOST, IF_MATCH};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Content, Place, Question, Remote, Reply};
use crate::Failure;
use crate::revocations::progress::Progress;

/// To connect and shake hands.
const CONNECT: Duration = Duration::from_secs(15);
/// From then to the whole answer: what the sidecar gives an upload and its work.
const ANSWER: Duration = Duration::from_secs(240);
/// Bytes of an answer: a thousand identities with their sentences take a few hundred thousand.
const ANSWER_BYTES: usize = 32 << 20;
/// Bytes of an upload between two looks at the progress.
const PIECE: usize = 64 * 1024;

/// Asks and waits.
pub(super) fn exchange(remote: &Remote, question: Question) -> Result<Reply, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::WhileRunning(format!("the connection cannot start ({error}); try again")))?;
    let shown = &remote.shown;
    let late = || Failure::Unreachable(format!("{shown}: no answer in time; look at the sidecar, then try again"));
    runtime.block_on(async {
        match &remote.place {
            Place::Unix(path) => {
                let stream = timeout(CONNECT, UnixStream::connect(path)).await.map_err(|_| late())?;
                let stream = stream.map_err(|error| away(shown, &error))?;
                timeout(ANSWER, speak(stream, question)).await.map_err(|_| late())?
            }
            Place::Tls { host, port, config, name } => {
                let shaking = async {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    TlsConnector::from(config.clone()).connect(name.clone(), stream).await
                };
                let stream = timeout(CONNECT, shaking).await.map_err(|_| late())?;
                let stream = stream.map_err(|error| away(shown, &error))?;
                timeout(ANSWER, speak(stream, question)).await.map_err(|_| late())?
            }
        }
        .map_err(|error| away(shown, &error))
    })
}

/// Not reached, or not let in.
fn away(shown: &str, error: &io::Error) -> Failure {
    use rustls::AlertDescription as Alert;
    let refused = [
        Alert::AccessDenied,
        Alert::BadCertificate,
        Alert::CertificateExpired,
        Alert::CertificateRevoked,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::CertificateRequired,
        Alert::UnsupportedCertificate,
    ];
    let told = error.get_ref().and_then(|inside| inside.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::AlertReceived(alert)) = told
        && refused.contains(alert)
    {
        return Failure::NotAllowed(format!(
            "{shown}: the sidecar does not let this certificate in ({alert:?}); its log says why"
        ));
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Failure::NotAllowed(format!(
            "{shown}: this user may not open the socket ({error}); run as the sidecar's user"
        ));
    }
    Failure::Unreachable(format!("{shown} cannot be reached ({error}); look whether it runs and listens there"))
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, question: Question) -> io::Result<Reply> {
    let request = request(question).map_err(io::Error::other)?;
    let (mut sender, connection) = http1::handshake(Wire::new(stream)).await.map_err(cause)?;
    let asking = async move {
        let response = sender.send_request(request).await.map_err(cause)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| io::Error::other(format!("the answer broke off ({error})")))?;
        let bytes = body.to_bytes();
        let value = serde_json::from_slice(&bytes)
            .map_err(|_| io::Error::other(format!("the answer, of status {status}, is no JSON")))?;
        Ok(Reply { status, value })
    };
    let mut asking = pin!(asking);
    let ended = tokio::select! {
        biased;
        answer = &mut asking => return answer,
        ended = connection => ended,
    };
    // What came before the end counts; if nothing did, the connection knows better why than the request.
    match (asking.await, ended) {
        (Err(_), Err(error)) => Err(cause(error)),
        (answer, _) => answer,
    }
}

/// The error of the stream, if there is one behind hyper's.
fn cause(error: hyper::Error) -> io::Error {
    let mut source = error.source();
    while let Some(inside) = source {
        if let Some(found) = inside.downcast_ref::<io::Error>() {
            let told = found.get_ref().and_then(|inside| inside.downcast_ref::<rustls::Error>());
            return match told {
                Some(told) => io::Error::new(found.kind(), told.clone()),
                None => io::Error::new(found.kind(), found.to_string()),
            };
        }
        source = inside.source();
    }
    io::Error::other(error)
}

fn request(question: Question) -> Result<Request<Upload>, http::Error> {
    let Question { method, path, body, if_match } = question;
    let mut request = Request::builder().method(method).uri(path).header(HOST, "sidecar");
    if let Some(sequence) = if_match {
        request = request.header(IF_MATCH, format!("\"{sequence}\""));
    }
    let upload = match body {
        Content::Nothing => Upload { left: Bytes::new(), done: 0, progress: None },
        Content::Json(value) => {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Upload { left: Bytes::from(value.to_string()), done: 0, progress: None }
        }
        Content::File(bytes, name) => {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            let progress = Progress::new(format!("sending {name}"));
            progress.out_of(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            Upload { left: Bytes::from(bytes), done: 0, progress: Some(progress) }
        }
    };
    request.body(upload)
}

/// A body that tells how far it is.
struct Upload {
    left: Bytes,
    done: usize,
    progress: Option<Progress>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let upload = self.get_mut();
        if upload.left.is_empty() {
            return Poll::Ready(None);
        }
        let piece = upload.left.split_to(upload.left.len().min(PIECE));
        upload.done += piece.len();
        if let Some(progress) = &upload.progress {
            progress.reached(upload.done);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left.len()).unwrap_or(u64::MAX))
    }
}
