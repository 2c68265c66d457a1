//! An HTTP/2 connection of a test, by the h2 crate.
//! Tests get it from `TlsClient::http2`, or put it over any stream (h2c with prior knowledge).
//! It must never reconnect or retry, and never release flow control for a body that the test does not read.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::exchange::{Answer, ClientError, Download, within};

/// One HTTP/2 connection. Dropping it closes the connection.
#[derive(Debug)]
pub struct Http2Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// One request under way.
#[derive(Debug)]
pub struct Http2Exchange {
    /// The request's body.
    pub upload: SendStream<Bytes>,
    response: ResponseFuture,
}

impl Http2Client {
    /// Speaks HTTP/2 over this stream.
    pub async fn over<Stream>(stream: Stream) -> Result<Self, ClientError>
    where
        Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::with_window(stream, 65_535).await
    }

    /// The same with this initial window for each stream, for example a small one to stall a stream early.
    pub async fn with_window<Stream>(stream: Stream, window: u32) -> Result<Self, ClientError>
    where
        Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = h2::client::Builder::new();
        // The connection's window is far larger, so that a stream which a test stalls does not stall its neighbours.
        builder.initial_window_size(window).initial_connection_window_size(8 << 20).enable_push(false);
        let (sender, connection) = within(builder.handshake(stream)).await??;
        Ok(Self { sender, connection: tokio::spawn(connection) })
    }

    /// `GET path`, the whole answer.
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.send(Request::get(path).body(Bytes::new())?).await
    }

    /// Sends the request with its whole body and returns the whole answer.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, ClientError> {
        let (head, body) = request.into_parts();
        let Http2Exchange { mut upload, response } = self.start(Request::from_parts(head, ()), body.is_empty()).await?;
        let uploading = async {
            // A server may answer without reading on; its answer counts then, not the failed upload.
            if !body.is_empty() && send_bytes(&mut upload, body).await.is_ok() {
                let _ = upload.send_data(Bytes::new(), true);
            }
            std::future::pending::<()>().await;
        };
        // Both at once: an echo of more than a window would otherwise wait for a reader that waits for it.
        tokio::select! {
            answer = async { Download::http2(within(response).await??).collect().await } => answer,
            () = uploading => unreachable!("the upload waits for the answer"),
        }
    }

    /// `GET path`, the answer to be read as it comes.
    pub async fn download(&self, path: &str) -> Result<Download, ClientError> {
        self.start(Request::get(path).body(())?, true).await?.response().await
    }

    /// Sends a request's head. A target without authority becomes `https://localhost`; `ended` means no body follows.
    pub async fn start(&self, mut request: Request<()>, ended: bool) -> Result<Http2Exchange, ClientError> {
        if request.uri().authority().is_none() && request.method() != http::Method::CONNECT {
            *request.uri_mut() = format!("https://localhost{}", request.uri()).parse::<Uri>()?;
        }
        let mut sender = within(self.sender.clone().ready()).await??;
        if request.extensions().get::<h2::ext::Protocol>().is_some() {
            // RFC 8441 §3: only a server whose settings allow it may be asked.
            let allowed = async {
                while !sender.is_extended_connect_protocol_enabled() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            within(allowed).await?;
        }
        let (response, upload) = sender.send_request(request, ended)?;
        Ok(Http2Exchange { upload, response })
    }

    /// Waits for the connection's end: the error holds the GOAWAY, `None` if it is still open at the deadline.
    pub async fn closed(&mut self, deadline: Duration) -> Option<Result<(), ClientError>> {
        let ended = tokio::time::timeout(deadline, &mut self.connection).await.ok()?;
        Some(match ended {
            Ok(result) => result.map_err(Into::into),
            Err(error) => Err(error.into()),
        })
    }

    /// Whether the connection is known to have ended.
    pub fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }
}

impl Drop for Http2Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Http2Exchange {
    /// Sends a piece of the body as flow control allows.
    pub async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        within(send_bytes(&mut self.upload, bytes.into())).await?
    }

    /// Ends the body.
    pub fn finish(&mut self) -> Result<(), ClientError> {
        self.upload.send_data(Bytes::new(), true).map_err(Into::into)
    }

    /// Ends the body with trailers.
    pub fn finish_with(&mut self, trailers: HeaderMap) -> Result<(), ClientError> {
        self.upload.send_trailers(trailers).map_err(Into::into)
    }

    /// Resets the stream.
    pub fn reset(&mut self) {
        self.upload.send_reset(Reason::CANCEL);
    }

    /// Waits for the answer's head and gives the upload up.
    pub async fn response(self) -> Result<Download, ClientError> {
        Ok(self.split().await?.1)
    }

    /// Waits for the answer's head and keeps the upload, for traffic in both directions.
    pub async fn split(self) -> Result<(SendStream<Bytes>, Download), ClientError> {
        let response = within(self.response).await??;
        Ok((self.upload, Download::http2(response)))
    }
}

/// Sends bytes piece by piece as the windows open; h2 itself would buffer without limit.
pub async fn send_bytes(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), ClientError> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let capacity = poll_fn(|context| stream.poll_capacity(context)).await;
        let capacity = capacity.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))??;
        let piece = bytes.split_to(capacity.min(bytes.len()));
        if !piece.is_empty() {
            stream.send_data(piece, false)?;
        }
    }
    Ok(())
}
