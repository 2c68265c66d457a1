//! HTTP/2 with one client, by the h2 crate directly: hyper's server would neither end a stalled stream nor choose
//! the code of its GOAWAY (DESIGN.md §3, "The gate is at the IO").
//!
//! Spawned by `worker.rs` for each session that chose h2; one small task for each stream. A cut ends every stream
//! (gRPC by trailers, others by a reset or 401), then the connection by GOAWAY, then the socket.

use std::future::{Future as _, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

use crate::body::{AppBody, ClientBody};
use crate::clock::monotonic;
use crate::connection::{Connection, Cut, End};
use crate::forward::send_data;
use crate::gate::GatedStream;
use crate::metrics::RequestProtocol;
use crate::refuse;
use crate::request::{Arrival, answer};
use crate::tunnel_client;
use crate::worker::{Registration, Worker};

type Http2 = server::Connection<GatedStream, Bytes>;

/// What a client may have in flight to us on one stream: h2's default, RFC 9113's initial window.
const STREAM_WINDOW: u32 = 65_535;
/// And on all its streams: sixteen of them at full speed.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes that one stream may queue toward the client: one frame's worth beyond the one being written.
const SEND_BUFFER: usize = 64 * 1024;
/// Turns that a cut gives its streams, however late it is: one ends a stream, some more let it be woken.
const TURNS: u32 = 16;

/// Serves until the session ends.
pub(crate) async fn serve(registration: Registration, stream: GatedStream) {
    let connection = registration.connection.clone();
    let limits = &registration.worker.limits;
    let mut builder = server::Builder::new();
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    let preface = tokio::select! {
        biased;
        _ = connection.until_cut() => return,
        preface = timeout(limits.request_head, builder.handshake(stream)) => preface,
    };
    match preface {
        Ok(Ok(http2)) => run(http2, &registration).await,
        Ok(Err(_)) => connection.end(End::Error),
        Err(_) => connection.end(End::Timeout),
    }
}

async fn run(mut http2: Http2, registration: &Registration) {
    let (worker, connection) = (&registration.worker, &registration.connection);
    let mut going = false;
    loop {
        let signal = connection.signal.notified();
        if connection.cut_reason().is_some() {
            return cut(http2, registration).await;
        }
        if connection.is_leaving() && !going {
            // GOAWAY twice (RFC 9113 §6.8): streams that the client opens before it reads the first are served.
            http2.graceful_shutdown();
            going = true;
        }
        let poll_accept = |context: &mut Context<'_>| match worker.is_trusted(connection) {
            // The cut signalled.
            false => Poll::Pending,
            true => {
                let accepted = http2.poll_accept(context);
                if accepted.is_pending() && !connection.gate.is_blocked() {
                    connection.turned();
                }
                accepted
            }
        };
        let accepted = tokio::select! {
            biased;
            () = signal => continue,
            accepted = poll_fn(poll_accept) => accepted,
        };
        match accepted {
            Some(Ok((request, respond))) => {
                // Boxed, since a task's future is moved with it, and moved again each time its stage changes.
                spawn_local(Box::pin(serve_stream(worker.clone(), connection.clone(), request, respond)));
            }
            Some(Err(_)) => return connection.end(End::Error),
            None => return,
        }
    }
}

/// Trust ended: the streams end themselves, then the connection goes.
async fn cut(mut http2: Http2, registration: &Registration) {
    let connection = &registration.connection;
    if connection.gate.is_shut() {
        return;
    }
    let limit = registration.worker.limits.notice / 2;
    if streams_ended(&mut http2, connection, limit).await {
        http2.abrupt_shutdown(Reason::NO_ERROR);
        let closed = poll_fn(|context| http2.poll_closed(context));
        if timeout(limit, closed).await.is_err() {
            connection.gate.shut();
        }
    } else {
        connection.gate.shut();
    }
    registration.sealed();
}

/// Lets every stream queue its ending, and the connection write it. A thread that the machine let wait has not used up
/// the client's time: the limit counts only once every stream had its turns.
async fn streams_ended(http2: &mut Http2, connection: &Connection, limit: Duration) -> bool {
    let (began, mut turns) = (monotonic(), 0);
    while connection.open_requests() > 0 {
        let closed = poll_fn(|context| Poll::Ready(http2.poll_closed(context).is_ready())).await;
        if closed {
            return true;
        }
        turns += 1;
        if turns > TURNS && began.elapsed() >= limit {
            return false;
        }
        yield_now().await;
    }
    // What the streams queued goes out before GOAWAY overtakes it.
    for _ in 0..4 {
        poll_fn(|context| Poll::Ready(http2.poll_closed(context).is_ready())).await;
        yield_now().await;
    }
    true
}

/// One request and its answer.
async fn serve_stream(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let arrival = Arrival::over_http2(&request);
    let Some(response) = answer_unless_reset((&worker, &connection), request, &arrival, &mut respond).await else {
        return;
    };
    let (mut head, mut body) = response.into_parts();
    head.version = http::Version::HTTP_2;
    if let Some(tunnel) = body.take_tunnel() {
        drop(body);
        let Ok(stream) = respond.send_response(Response::from_parts(head, ()), false) else { return };
        return Box::pin(tunnel_client::over_http2(tunnel, stream)).await;
    }
    let whole = body.is_end_stream();
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), whole) else { return };
    if !whole {
        send_down(&connection, body, stream, arrival.protocol).await;
    }
}

/// The answer; `None` if the client gave the stream up first.
async fn answer_unless_reset(
    (worker, connection): (&Rc<Worker>, &Rc<Connection>),
    request: Request<RecvStream>,
    arrival: &Arrival,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<AppBody>> {
    let answering = answer((worker, connection), request.map(ClientBody::http2), arrival);
    let mut answering = std::pin::pin!(answering);
    // An interim response signals the connection, and so the wait for its cut that is part of the answer.
    poll_fn(|context| {
        let answered = answering.as_mut().poll(context);
        send_interims(arrival, respond);
        match (answered, respond.poll_reset(context)) {
            (Poll::Ready(response), _) => Poll::Ready(Some(response)),
            (Poll::Pending, Poll::Ready(_)) => Poll::Ready(None),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    })
    .await
}

fn send_interims(arrival: &Arrival, respond: &mut SendResponse<Bytes>) {
    for interim in arrival.interims.take() {
        // A client that reset its stream misses nothing.
        let _ = respond.send_informational(interim);
    }
}

/// Sends a response's body down, until it ends, the client resets it or the session is cut.
async fn send_down(
    connection: &Connection,
    mut body: AppBody,
    mut stream: SendStream<Bytes>,
    protocol: RequestProtocol,
) {
    let ours = body.is_notice();
    let sent = tokio::select! {
        biased;
        cut = connection.until_cut(), if !ours => return end_stream(&mut stream, cut, protocol),
        sent = send_frames(&mut body, &mut stream) => sent,
    };
    match sent {
        Sent::Whole | Sent::Reset => {}
        Sent::Broken => stream.send_reset(Reason::INTERNAL_ERROR),
    }
}

fn end_stream(stream: &mut SendStream<Bytes>, cut: &Cut, protocol: RequestProtocol) {
    if protocol != RequestProtocol::Grpc || stream.send_trailers(refuse::grpc_trailers(&cut.denial)).is_err() {
        stream.send_reset(Reason::CANCEL);
    }
}

enum Sent {
    Whole,
    /// The client does not want it any more.
    Reset,
    /// The app broke off.
    Broken,
}

async fn send_frames(body: &mut AppBody, stream: &mut SendStream<Bytes>) -> Sent {
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            _ = poll_fn(|context| stream.poll_reset(context)) => return Sent::Reset,
        };
        let delivered = match frame {
            None => return if stream.send_data(Bytes::new(), true).is_ok() { Sent::Whole } else { Sent::Reset },
            Some(Err(_)) => return Sent::Broken,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => send_data(stream, bytes, body.is_end_stream()).await,
                Err(frame) => {
                    let sent = frame.into_trailers().is_ok_and(|trailers| stream.send_trailers(trailers).is_ok());
                    return if sent { Sent::Whole } else { Sent::Reset };
                }
            },
        };
        if !delivered {
            return Sent::Reset;
        }
        if body.is_end_stream() {
            return Sent::Whole;
        }
    }
}
