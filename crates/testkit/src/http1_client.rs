//! An HTTP/1.1 connection of a test, by hyper.
//! Tests get it from `TlsClient::http1`, or put it over any stream.
//! It must never reconnect or retry: what happens to its one connection is what the test wants to see.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::exchange::{Answer, ClientError, Download, Sending, whole, within};

/// One HTTP/1.1 connection. Dropping it closes the connection.
#[derive(Debug)]
pub struct Http1Client {
    sender: http1::SendRequest<Sending>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Http1Client {
    /// Speaks HTTP/1.1 over this stream.
    pub async fn over<Stream>(stream: Stream) -> Result<Self, ClientError>
    where
        Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: tokio::spawn(connection) })
    }

    /// `GET path`, the whole answer.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.send(Request::get(path).body(Bytes::new())?).await
    }

    /// Sends the request with its whole body and returns the whole answer. `Host: localhost` unless it has one.
    pub async fn send(&mut self, request: Request<Bytes>) -> Result<Answer, ClientError> {
        let informational = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&informational);
        let mut request = request.map(whole);
        hyper::ext::on_informational(&mut request, move |response| {
            noted.lock().expect("no writer of the list panics").push(response.status());
        });
        let mut answer = self.open(request).await?.collect().await?;
        answer.informational.clone_from(&informational.lock().expect("no writer of the list panics"));
        Ok(answer)
    }

    /// Sends the request, whose body may be fed as it goes (`upload`), and returns when the answer's head came.
    pub async fn open(&mut self, mut request: Request<Sending>) -> Result<Download, ClientError> {
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("localhost"));
        within(self.sender.ready()).await??;
        Ok(Download::http1(within(self.sender.send_request(request)).await??))
    }

    /// `GET path`, the answer to be read as it comes.
    pub async fn download(&mut self, path: &str) -> Result<Download, ClientError> {
        self.open(Request::get(path).body(whole(Bytes::new()))?).await
    }

    /// Waits for the connection's end: `Ok` if it ended in order, `None` if it is still open at the deadline.
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

impl Drop for Http1Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
