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
use crate::bounds::Bound;
use crate::clock::monotonic;
use crate::config::Limits;
use crate::connection::{Connection, Cut, End};
use crate::drain::Leaving;
use crate::forward::{Sent, send_data_within};
use crate::framed::FramedStream;
use crate::frames::Frames;
use crate::gate::{GatedStream, Guarded};
use crate::metrics::RequestProtocol;
use crate::refuse;
use crate::request::{Arrival, answer};
use crate::sieve::Ours;
use crate::tunnel_client;
use crate::worker::{Registration, Worker};

/// Boxed, and so is its handshake: a task keeps room for every place that its future moves a value to.
type Http2 = Box<server::Connection<FramedStream, Bytes>>;

/// What a client may have in flight to us on one stream: h2's default, RFC 9113's initial window.
const STREAM_WINDOW: u32 = 65_535;
/// And on all its streams: sixteen of them at full speed.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes that one stream may queue toward the client: one frame's worth beyond the one being written.
const SEND_BUFFER: usize = 64 * 1024;
/// Turns that a cut gives its streams, however late it is: one ends a stream, some more let it be woken.
const TURNS: u32 = 16;

/// HPACK's table for a client's heads, RFC 9113's default: what one byte of a head can repeat at most.
const HEADER_TABLE: u32 = 4096;
/// h2's default. A client that keeps to the protocol makes none; one that opened a few hundred streams before it read
/// how many it may is refused them, and goes on.
const MISTAKES: usize = 1024;
/// What frames with little in them may cost in memory until they are read, 256 bytes each less their payload: one
/// stream's window full of the smallest gRPC messages, 8 bytes each, is 2 MB. h2's own number, half of the connection's
/// window, ends clients whose app pauses for a moment.
const FRAME_BUDGET: usize = 2 << 20;

/// Serves until the session ends.
pub(crate) async fn serve(registration: Registration, stream: GatedStream) {
    let connection = registration.connection.clone();
    let worker = registration.worker.clone();
    let frames = Frames::new();
    connection.speaks_in(&frames);
    let guarded = Guarded { worker: worker.clone(), connection: connection.clone() };
    let stream = FramedStream::new(stream, guarded, frames.clone());
    let builder = builder(&worker.limits);
    let shaking = Box::pin(builder.handshake(stream));
    let preface = tokio::select! {
        biased;
        () = connection.until_closing() => return,
        preface = timeout(worker.limits.request_head, shaking) => preface,
    };
    match preface {
        Ok(Ok(http2)) => run(Box::new(http2), &registration, &frames).await,
        Ok(Err(_)) => connection.end(End::Error),
        Err(_) => {
            worker.limited_session(Bound::RequestHeadTimeout, &connection);
            connection.end(End::Timeout);
        }
    }
}

/// What a client may do. Where h2 has a number of its own, it stands here with the reason: none is left to chance.
fn builder(limits: &Limits) -> server::Builder {
    let streams = usize::try_from(limits.streams).unwrap_or(usize::MAX);
    let mut builder = server::Builder::new();
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(limits.streams)
        // CONTINUATION flood: from this h2 derives how many frames one head may take (5), and ends the connection at
        // four times this size, however well the head was compressed.
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .header_table_size(HEADER_TABLE)
        // CVE-2023-44487, rapid reset: streams that were reset before they were handed on. A client may give up, at
        // once, everything that it may have open.
        .max_pending_accept_reset_streams(streams)
        // CVE-2025-8671, MadeYouReset: streams that h2 itself reset for the client's mistakes, in a connection's life.
        .max_local_error_reset_streams(Some(MISTAKES))
        // Frames may be on their way on streams that we reset; forgotten ones would count as mistakes.
        .max_concurrent_reset_streams(streams)
        .data_frame_budget(FRAME_BUDGET)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

async fn run(mut http2: Http2, registration: &Registration, frames: &Frames) {
    let (worker, connection) = (&registration.worker, &registration.connection);
    let mut going = false;
    // Held once more by each stream's task.
    let streams = Rc::new(());
    loop {
        let signal = connection.signal.notified();
        if connection.cut_reason().is_some() {
            return cut(http2, registration).await;
        }
        if connection.leaving() == Leaving::Gone {
            return;
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
                let polled = http2.poll_accept(context);
                if polled.is_pending() && !connection.gate.is_blocked() {
                    connection.turned();
                }
                let flood = polled.is_pending() && frames.is_flood();
                if flood { Poll::Ready(Some(Err(Reason::ENHANCE_YOUR_CALM.into()))) } else { polled }
            }
        };
        let accepted = tokio::select! {
            biased;
            () = signal => continue,
            accepted = poll_fn(poll_accept) => accepted,
        };
        match accepted {
            Some(Ok((request, mut respond))) => {
                frames.accepted(respond.stream_id().into());
                if is_full(registration, &streams).await {
                    worker.limited_session(Bound::RequestsPerSession, connection);
                    // RFC 9113 §8.7: its request was not processed, and may be sent again.
                    respond.send_reset(Reason::REFUSED_STREAM);
                    continue;
                }
                let serving = serve_stream(worker.clone(), connection.clone(), request, respond);
                let held = streams.clone();
                // Boxed, since a task's future is moved with it, and moved again each time its stage changes.
                spawn_local(Box::pin(async move {
                    serving.await;
                    drop(held);
                }));
            }
            Some(Err(error)) => return broken(http2, registration, &error).await,
            None => return,
        }
    }
}

/// Whether one more request would be one too many. A stream's end is no request's end: its task may not have noticed
/// yet, and the app may still be working on it.
async fn is_full(registration: &Registration, streams: &Rc<()>) -> bool {
    let most = usize::try_from(registration.worker.limits.requests_per_session).unwrap_or(usize::MAX);
    let open = || {
        let requests = usize::try_from(registration.connection.open_requests()).unwrap_or(usize::MAX);
        requests.max(Rc::strong_count(streams).saturating_sub(1))
    };
    if open() < most {
        return false;
    }
    // Those that were given up get their turn.
    yield_now().await;
    open() >= most
}

/// h2 gave the connection up, or we do for its frames.
async fn broken(mut http2: Http2, registration: &Registration, error: &h2::Error) {
    let connection = &registration.connection;
    if error.reason() != Some(Reason::ENHANCE_YOUR_CALM) || error.is_remote() {
        return connection.end(End::Error);
    }
    registration.worker.limited_session(Bound::Flood, connection);
    connection.end(End::Limit);
    if !connection.frames().is_some_and(|frames| frames.is_flood()) {
        // h2 has said so and closed.
        return;
    }
    // Said if it can be said now; nothing more is read, or sent on any stream.
    http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let said = poll_fn(|context| http2.poll_closed(context));
    if timeout(registration.worker.limits.notice / 2, said).await.is_err() {
        connection.gate.shut();
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
        let closed = poll_fn(|context| {
            let closed = http2.poll_closed(context);
            if connection.gate.has_said_all() {
                registration.sealed();
            }
            closed
        });
        // What is left of the time is for the client to read what it was told (`linger.rs`).
        if timeout(limit, closed).await.is_err() && !connection.gate.has_said_all() {
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
    if body.is_notice() {
        connection.says(respond.stream_id().into(), Ours::All);
    }
    if let Some(tunnel) = body.take_tunnel() {
        drop(body);
        let Ok(stream) = respond.send_response(Response::from_parts(head, ()), false) else { return };
        return Box::pin(tunnel_client::over_http2(tunnel, stream)).await;
    }
    let whole = body.is_end_stream();
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), whole) else { return };
    if !whole {
        send_down((&worker, &connection), body, stream, arrival.protocol).await;
    }
}

/// The answer; `None` if the client gave the stream up first: what was given up before its turn costs no work.
async fn answer_unless_reset(
    (worker, connection): (&Rc<Worker>, &Rc<Connection>),
    request: Request<RecvStream>,
    arrival: &Arrival,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<AppBody>> {
    if poll_fn(|context| Poll::Ready(respond.poll_reset(context))).await.is_ready() {
        return None;
    }
    let answering = answer((worker, connection), request.map(ClientBody::http2), arrival);
    let mut answering = std::pin::pin!(answering);
    // An interim response signals the connection, and so the wait for its cut that is part of the answer.
    poll_fn(|context| {
        let answered = answering.as_mut().poll(context);
        send_interims((worker, connection), arrival, respond);
        match (answered, respond.poll_reset(context)) {
            (Poll::Ready(response), _) => Poll::Ready(Some(response)),
            (Poll::Pending, Poll::Ready(_)) => Poll::Ready(None),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    })
    .await
}

fn send_interims(
    (worker, connection): (&Worker, &Rc<Connection>),
    arrival: &Arrival,
    respond: &mut SendResponse<Bytes>,
) {
    for interim in arrival.interims.take() {
        if !worker.is_trusted(connection) {
            // A notice goes alone.
            return;
        }
        // A client that reset its stream misses nothing.
        let _ = respond.send_informational(interim);
    }
}

/// Sends a response's body down, until it ends, the client resets it or the session is cut.
async fn send_down(
    (worker, connection): (&Worker, &Connection),
    mut body: AppBody,
    mut stream: SendStream<Bytes>,
    protocol: RequestProtocol,
) {
    let ours = body.is_notice();
    let patience = (!body.is_patient()).then_some(worker.limits.body);
    let sent = tokio::select! {
        biased;
        cut = connection.until_cut(), if !ours => return end_stream(&mut stream, (connection, cut), protocol),
        sent = send_frames(&mut body, &mut stream, patience) => sent,
    };
    match sent {
        Sending::Whole | Sending::Reset => {}
        Sending::Broken => stream.send_reset(Reason::INTERNAL_ERROR),
        Sending::Untaken => {
            worker.limited_session(Bound::BodyTimeout, connection);
            stream.send_reset(Reason::CANCEL);
        }
    }
}

fn end_stream(stream: &mut SendStream<Bytes>, (connection, cut): (&Connection, &Cut), protocol: RequestProtocol) {
    connection.says(stream.stream_id().into(), Ours::Trailers);
    if protocol != RequestProtocol::Grpc || stream.send_trailers(refuse::grpc_trailers(&cut.denial)).is_err() {
        stream.send_reset(Reason::CANCEL);
    }
}

enum Sending {
    Whole,
    /// The client does not want it any more.
    Reset,
    /// The app broke off.
    Broken,
    /// The client takes none of it.
    Untaken,
}

async fn send_frames(body: &mut AppBody, stream: &mut SendStream<Bytes>, patience: Option<Duration>) -> Sending {
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            _ = poll_fn(|context| stream.poll_reset(context)) => return Sending::Reset,
        };
        let sent = match frame {
            None => return if stream.send_data(Bytes::new(), true).is_ok() { Sending::Whole } else { Sending::Reset },
            Some(Err(_)) => return Sending::Broken,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => send_data_within(stream, bytes, body.is_end_stream(), patience).await,
                Err(frame) => {
                    let sent = frame.into_trailers().is_ok_and(|trailers| stream.send_trailers(trailers).is_ok());
                    return if sent { Sending::Whole } else { Sending::Reset };
                }
            },
        };
        match sent {
            Sent::All if body.is_end_stream() => return Sending::Whole,
            Sent::All => {}
            Sent::Unwanted => return Sending::Reset,
            Sent::Untaken => return Sending::Untaken,
        }
    }
}
