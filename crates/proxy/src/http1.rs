//! HTTP/1.1 with one client, by hyper; parked while idle.
//!
//! Spawned by `worker.rs` for each session that did not choose h2. A cut ends it in one of three ways: an idle
//! connection is closed, a request that waits for its answer gets 401, an answer under way is broken off.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::body::{AppBody, ClientBody};
use crate::bounds::Bound;
use crate::connection::{Connection, End};
use crate::drain::Leaving;
use crate::gate::GatedStream;
use crate::linger;
use crate::metrics::RequestProtocol;
use crate::request::{Arrival, answer};
use crate::tunnel::Tunnel;
use crate::tunnel_client;
use crate::worker::{Registration, Worker};

type Served = http1::Connection<TokioIo<GatedStream>, Answering>;

/// What hyper asks for each request.
struct Answering {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    progress: Rc<Progress>,
}

/// Where the connection stands.
#[derive(Default)]
struct Progress {
    /// The answer that is under way is the app's, and its head is out.
    responding: Cell<bool>,
    /// The client sent part of a request's head and no more.
    partial: Cell<bool>,
    /// The answer that is under way opens it.
    tunnel: RefCell<Option<Box<Tunnel>>>,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<AppBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AppBody>, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (worker, connection, progress) = (self.worker.clone(), self.connection.clone(), self.progress.clone());
        progress.responding.set(false);
        progress.partial.set(false);
        Box::pin(async move {
            let arrival = Arrival::over_http1(&request);
            let interims = arrival.interims.clone();
            let answering = answer((&worker, &connection), request.map(ClientBody::http1), &arrival);
            let mut answering = std::pin::pin!(answering);
            // An interim response signals the connection, which polls this again.
            let mut response = poll_fn(|context| {
                let answered = answering.as_mut().poll(context);
                write_interims((&worker, &connection), interims.take());
                answered
            })
            .await;
            progress.responding.set(!response.body().is_notice());
            progress.tunnel.replace(response.body_mut().take_tunnel());
            Ok(response)
        })
    }
}

/// Interim responses go around hyper's server, which cannot write them: its buffer is empty while it waits.
fn write_interims((worker, connection): (&Worker, &Rc<Connection>), interims: Vec<Response<()>>) {
    for interim in interims {
        if !worker.is_trusted(connection) {
            // A notice goes alone.
            return;
        }
        let mut head = format!("HTTP/1.1 {}\r\n", interim.status()).into_bytes();
        for (name, value) in interim.headers() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        connection.gate.queue_interim(&head);
    }
}

/// Why hyper is not polled any further.
enum Pause {
    Done(hyper::Result<()>),
    Cut,
    Leave,
    Park,
    Timeout,
}

/// Serves until the session ends or rests.
pub(crate) async fn serve(registration: Registration, stream: GatedStream) {
    let progress = Rc::new(Progress::default());
    let (worker, connection) = (registration.worker.clone(), registration.connection.clone());
    let mut stream = stream;
    loop {
        let answering =
            Answering { worker: worker.clone(), connection: connection.clone(), progress: progress.clone() };
        let mut served = builder(&worker).serve_connection(TokioIo::new(stream), answering);
        match until_pause(&mut served, &registration, &progress).await {
            Pause::Done(result) => {
                if result.is_ok()
                    && let Some(tunnel) = progress.tunnel.take()
                {
                    let parts = served.into_parts();
                    let left = (parts.io.into_inner(), parts.read_buf);
                    // A task of its own: it may live for days, and need not hold the room that hyper took.
                    tokio::task::spawn_local(tunnel_client::over_http1(tunnel, left, registration));
                    return;
                }
                return finish(served, result, &registration, &progress).await;
            }
            Pause::Cut => return cut(served, &registration, &progress).await,
            Pause::Timeout => {
                connection.end(End::Timeout);
                if connection.gate.is_blocked() {
                    // hyper holds the rest of an answer that its client does not read: no clean end may follow.
                    worker.limited_session(Bound::BodyTimeout, &connection);
                    connection.gate.shut();
                    return;
                }
                worker.limited_session(Bound::RequestHeadTimeout, &connection);
                return farewell(take(served), &registration, false).await;
            }
            pause @ (Pause::Leave | Pause::Park) => {
                let parts = served.into_parts();
                stream = parts.io.into_inner();
                if !parts.read_buf.is_empty() {
                    progress.partial.set(true);
                    stream.rewind(parts.read_buf);
                } else if matches!(pause, Pause::Leave) {
                    // A request may be on its way: a reset would hide the close from it.
                    return farewell(stream, &registration, true).await;
                } else {
                    tokio::task::spawn_local(park(registration, Box::new(stream)));
                    return;
                }
            }
        }
    }
}

fn builder(worker: &Worker) -> http1::Builder {
    let (mut builder, limits) = (http1::Builder::new(), &worker.limits);
    // The buffer's size alone lets a head of nearly twice that size through: it grows in powers of two.
    builder.half_close(false).max_buf_size(limits.header_bytes).max_header_size(limits.header_bytes);
    builder.max_headers(limits.header_count);
    builder
}

async fn until_pause(served: &mut Served, registration: &Registration, progress: &Progress) -> Pause {
    let connection = &registration.connection;
    loop {
        let signal = connection.signal.notified();
        if connection.cut_reason().is_some() {
            return Pause::Cut;
        }
        if let Some(since) = connection.quiet_since() {
            let (limits, quiet) = (&registration.worker.limits, connection.gate.is_quiet());
            if connection.leaving() >= Leaving::Closing && quiet && !progress.partial.get() {
                return Pause::Leave;
            }
            if since.elapsed() >= limits.request_head {
                return Pause::Timeout;
            }
            if quiet && !progress.partial.get() && since.elapsed() >= limits.park_after {
                return Pause::Park;
            }
        }
        let poll_served = |context: &mut Context<'_>| match registration.worker.is_trusted(connection) {
            // One more turn of hyper's could pass on megabytes. The cut signalled.
            false => Poll::Pending,
            true => served.poll_without_shutdown(context),
        };
        tokio::select! {
            biased;
            done = poll_fn(poll_served) => return Pause::Done(done),
            () = signal => {}
        }
    }
}

fn take(served: Served) -> GatedStream {
    served.into_parts().io.into_inner()
}

/// hyper is done: the client closed, an answer said `Connection: close`, or something broke.
async fn finish(served: Served, result: hyper::Result<()>, registration: &Registration, progress: &Progress) {
    // hyper answered a head that it could not read by 400, 414 or 431, behind whatever was answered before.
    let unreadable = result.as_ref().is_err_and(hyper::Error::is_parse);
    let broken = result.is_err() && progress.responding.get() && !unreadable;
    let too_large = result.as_ref().is_err_and(hyper::Error::is_parse_too_large);
    let parts = served.into_parts();
    if unreadable && registration.connection.cut_reason().is_none() {
        note_unreadable(registration, too_large.then_some(parts.read_buf.len()));
    }
    if result.is_err() {
        registration.connection.end(End::Error);
    }
    let stream = parts.io.into_inner();
    if broken {
        // An answer broke off: no clean end may follow.
        registration.connection.gate.shut();
        return;
    }
    // The client may still be sending what nobody will read.
    farewell(stream, registration, true).await;
}

/// hyper refused a head; `held` bytes of it if it was for its size, and then for its bytes or else for its fields.
fn note_unreadable(registration: &Registration, held: Option<usize>) {
    let (worker, connection) = (&registration.worker, &registration.connection);
    worker.metrics.refused(RequestProtocol::Http1, if held.is_some() { "head_too_large" } else { "bad_request" });
    if let Some(held) = held {
        let bytes = held >= worker.limits.header_bytes;
        worker.limited_session(if bytes { Bound::HeaderBytes } else { Bound::HeaderCount }, connection);
    }
}

/// Trust ended.
async fn cut(mut served: Served, registration: &Registration, progress: &Progress) {
    let connection = &registration.connection;
    let under_way = connection.open_requests() > 0;
    if connection.gate.is_shut() || (under_way && progress.responding.get()) {
        connection.gate.shut();
        return;
    }
    let mut told = true;
    if under_way {
        // The request's own future sees the cut and answers 401.
        let notice = poll_fn(|context| served.poll_without_shutdown(context));
        told = matches!(timeout(registration.worker.limits.notice / 2, notice).await, Ok(Ok(())));
    }
    if told {
        // A request may be on its way: a reset would hide the close from it.
        farewell(take(served), registration, true).await;
    } else {
        connection.gate.shut();
    }
}

/// Closes: close_notify, the end of our side, and if `linger` a short wait for the client to have read it all, since
/// a socket closed with unread bytes resets and may take the last answer with it (RFC 9112 §9.6).
pub(crate) async fn farewell(mut stream: GatedStream, registration: &Registration, linger: bool) {
    let limit = registration.worker.limits.notice;
    if !matches!(timeout(limit / 2, stream.shutdown()).await, Ok(Ok(()))) {
        registration.connection.gate.shut();
        return;
    }
    registration.sealed();
    if linger {
        let _ = timeout(limit / 2, linger::until_end(stream.socket())).await;
    }
}

/// The long wait of an idle session, in a task that holds a TLS stream and little else: 8 kB instead of the 28 kB
/// of a waiting hyper connection (nginx and HAProxy: 24 kB).
async fn park(registration: Registration, mut stream: Box<GatedStream>) {
    registration.connection.slim();
    registration.connection.parked(true);
    let awake = loop {
        let signal = registration.connection.signal.notified();
        if registration.connection.cut_reason().is_some() {
            break false;
        }
        let closing = registration.connection.leaving() >= Leaving::Closing;
        tokio::select! {
            biased;
            // A request that is here already is answered before the connection closes.
            _ = poll_fn(|context| stream.socket().poll_readable(context)) => break true,
            () = std::future::ready(()), if closing => break false,
            () = signal => {}
        }
    };
    registration.connection.parked(false);
    if awake {
        registration.connection.stirred();
        tokio::task::spawn_local(serve(registration, *stream));
    } else {
        // A cut waits for nobody who rests; whoever is asked to leave may have a request on its way.
        let linger = registration.connection.cut_reason().is_none();
        // Its room is made only now: thousands park.
        Box::pin(farewell(*stream, &registration, linger)).await;
    }
}
