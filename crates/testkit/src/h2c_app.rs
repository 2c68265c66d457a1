//! The recording HTTP/2 app without TLS (prior knowledge), in the manner of a gRPC server.
//! Tests start it behind the proxy's h2c side; dropping it ends everything it serves.
//! It must never hold back flow control: a stalled stream in a test is stalled by the test.
//!
//! `/stream` messages `chunk N` every 2 ms without end · `/stamps` stamps (`stamp.rs`) as fast as they are taken ·
//! `/refuse` trailers-only with `grpc-status: 7` · `/reset` answers a head, then resets the stream with CANCEL ·
//! `/goaway` answers, then ends the connection gracefully · anything else echoes DATA as it comes and ends with `grpc-status: 0`.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::exchange::ClientError;
use crate::http2_client::send_bytes;
use crate::journal::{BodyState, Journal};
use crate::stamp::stamp;

const PACE: Duration = Duration::from_millis(2);
/// Room for a whole window of the smallest frames: h2 counts up to 256 for each.
const SMALL_FRAMES: usize = 65_535 * 256;

/// An h2c app that records. What it saw is in its `Journal`, whose methods can be called on the app itself.
#[derive(Debug)]
pub struct H2cApp {
    address: SocketAddr,
    journal: Arc<Journal>,
    listening: JoinHandle<()>,
}

impl H2cApp {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let journal = Arc::new(Journal::new());
        let listening = tokio::spawn(accept_all(listener, Arc::clone(&journal)));
        Self { address, journal, listening }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The record, to keep after the app is gone.
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }
}

impl Deref for H2cApp {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        &self.journal
    }
}

impl Drop for H2cApp {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn accept_all(listener: TcpListener, journal: Arc<Journal>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, Arc::clone(&journal)))),
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection as closed however its task ends.
struct Counted(Arc<Journal>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

async fn serve(stream: TcpStream, journal: Arc<Journal>) {
    let number = journal.connection_opened();
    let _counted = Counted(Arc::clone(&journal));
    let mut builder = h2::server::Builder::new();
    // h2 would end a connection on which a hundred small frames wait for this task's turn.
    builder.data_frame_budget(SMALL_FRAMES);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { break };
                let (head, body) = request.into_parts();
                let recorded = Recorded { journal: Arc::clone(&journal), request: journal.request(number, &head) };
                if body.is_end_stream() {
                    journal.finished(recorded.request, BodyState::Complete);
                }
                if head.uri.path() == "/goaway" {
                    connection.graceful_shutdown();
                }
                streams.spawn(answer(Request::from_parts(head, body), respond, recorded));
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

/// One request's place in the journal; dropped before the body's end, it notes a broken body.
struct Recorded {
    journal: Arc<Journal>,
    request: usize,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.journal.finished(self.request, BodyState::Broken);
    }
}

/// How a stream ends is seen by the client; an error here says the same once more.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, recorded: Recorded) {
    let (head, body) = request.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).cloned();
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/grpc"));
    let mut reply = Response::new(());
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    if head.uri.path() == "/refuse" {
        reply.headers_mut().insert("grpc-status", HeaderValue::from_static("7"));
        let _ = respond.send_response(reply, true);
        return;
    }
    let Ok(sender) = respond.send_response(reply, false) else { return };
    let _ = match head.uri.path() {
        "/stream" => stream(body, sender, recorded).await,
        "/stamps" => stamped(sender).await,
        "/reset" => reset(sender),
        _ => echo(body, sender, recorded).await,
    };
}

fn reset(mut sender: SendStream<Bytes>) -> Result<(), ClientError> {
    sender.send_reset(Reason::CANCEL);
    Ok(())
}

async fn stream(body: RecvStream, mut sender: SendStream<Bytes>, recorded: Recorded) -> Result<(), ClientError> {
    let upload = tokio::spawn(async move {
        let mut body = body;
        while let Ok(Some(_)) = next_bytes(&mut body, &recorded).await {}
    });
    let mut pace = tokio::time::interval(PACE);
    for number in 0_u64.. {
        tokio::select! {
            _ = pace.tick() => send_bytes(&mut sender, Bytes::from(format!("chunk {number}\n"))).await?,
            // A stream that the other side ended has nobody left to write to.
            _ = poll_fn(|context| sender.poll_reset(context)) => break,
        }
    }
    upload.abort();
    Ok(())
}

async fn stamped(mut sender: SendStream<Bytes>) -> Result<(), ClientError> {
    loop {
        send_bytes(&mut sender, Bytes::copy_from_slice(&stamp().to_be_bytes())).await?;
        tokio::task::yield_now().await;
    }
}

async fn echo(mut body: RecvStream, mut sender: SendStream<Bytes>, recorded: Recorded) -> Result<(), ClientError> {
    while let Some(bytes) = next_bytes(&mut body, &recorded).await? {
        send_bytes(&mut sender, bytes).await?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    sender.send_trailers(trailers)?;
    Ok(())
}

/// The next piece of a request body, noted and given back to flow control; at the end its trailers are noted.
async fn next_bytes(body: &mut RecvStream, recorded: &Recorded) -> Result<Option<Bytes>, ClientError> {
    if let Some(bytes) = body.data().await {
        let bytes = bytes?;
        recorded.journal.body(recorded.request, &bytes);
        body.flow_control().release_capacity(bytes.len())?;
        return Ok(Some(bytes));
    }
    if let Some(trailers) = body.trailers().await? {
        recorded.journal.trailers(recorded.request, &trailers);
    }
    recorded.journal.finished(recorded.request, BodyState::Complete);
    Ok(None)
}
