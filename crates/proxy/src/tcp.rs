//! A TCP inbound: the bytes of one session, between its client and a connection to the app of its own.
//!
//! Spawned by `worker.rs` for each session of such an inbound. The session is judged before the app is dialled, and at
//! every read and write; it counts as one open request for as long as it lives. It must never let one side take for an
//! end what was none: only when both sides said that they were done are both closed in peace, else both are reset.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};
use trust::{Certificate, Permit};

use crate::audit;
use crate::config::{Protocol, Tcp};
use crate::connection::{Connection, End};
use crate::fault::Fault;
use crate::gate::{GatedStream, Guarded};
use crate::metrics::RequestProtocol;
use crate::proxy_protocol::Introduction;
use crate::tunnel::{ByteEnd, Cargo, Ferry, Side, Step};
use crate::tunnel_client::last_words;
use crate::wire::AppSocket;
use crate::worker::{Registration, Worker};

/// Serves until both sides are done, one breaks, or the session is cut.
pub(crate) async fn serve(registration: Registration, client: GatedStream) {
    let (worker, connection) = (registration.worker.clone(), registration.connection.clone());
    let _open = OpenTunnel::begin(&worker, &connection);
    // Whatever ends this from now on, a panic or the end of the runtime included, ends it by a reset.
    connection.gate.resets_at_close(true);
    let Some(permit) = judged(&worker, &connection) else { return };
    let ended = tokio::select! {
        biased;
        _ = connection.until_cut() => return,
        ended = dial_and_carry(permit, client, &registration) => ended,
    };
    if connection.cut_reason().is_some() {
        // What the gates refused is nobody's fault.
        return;
    }
    match ended {
        Ended::Whole => {}
        Ended::ByClient(end) => connection.end(end),
        Ended::ByApp(fault) => {
            worker.metrics.app_fault(fault);
            if let Some(bound) = fault.bound() {
                worker.limited_session(bound, &connection);
            }
            connection.end(End::Error);
        }
    }
}

/// A tunnel is one open request of its session.
struct OpenTunnel<'a> {
    worker: &'a Worker,
    connection: &'a Connection,
}

impl OpenTunnel<'_> {
    fn begin<'a>(worker: &'a Worker, connection: &'a Connection) -> OpenTunnel<'a> {
        connection.request_began();
        connection.patient_request(true);
        // Not its being open keeps a tunnel from being idle, but its bytes.
        connection.carried(worker.live.now());
        OpenTunnel { worker, connection }
    }
}

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        self.connection.patient_request(false);
        self.connection.request_ended(&self.worker.live);
    }
}

/// The permit for the whole session's bytes; each of them is asked about again.
fn judged(worker: &Rc<Worker>, connection: &Rc<Connection>) -> Option<Permit> {
    let now = worker.live.now();
    match connection.permit(&worker.live, now) {
        Ok(permit) => {
            let session = connection.session();
            let remaining = session.chain.leaf.not_after.since(now);
            worker.metrics.permitted(RequestProtocol::Tcp, now.since(session.opened_at), remaining);
            Some(permit)
        }
        Err(denial) => {
            worker.metrics.denied(RequestProtocol::Tcp, &denial);
            worker.cut(connection, denial.clone());
            audit::denied(connection, &denial, &worker.live);
            None
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Both sides said that they were done, and all was passed on.
    Whole,
    /// The client broke off, left without saying that it was done, or says nothing to an app that was.
    ByClient(End),
    ByApp(Fault),
}

/// Dials the app and carries bytes both ways; the permit is used up by it.
async fn dial_and_carry(_: Permit, mut client: GatedStream, registration: &Registration) -> Ended {
    let Registration { worker, connection, .. } = registration;
    let Some(app) = worker.app(connection.door) else { return Ended::ByApp(Fault::Unreachable) };
    let guarded = Guarded { worker: worker.clone(), connection: connection.clone() };
    let mut socket = match app.dial(guarded).await {
        Ok(socket) => socket,
        Err(fault) => return Ended::ByApp(fault),
    };
    socket.wire.resets_at_close(true);
    if let Protocol::Tcp(Tcp { proxy_protocol: true, .. }) = &app.protocol {
        let Some(header) = introduction(connection, &mut client) else { return Ended::ByClient(End::Error) };
        match timeout(worker.limits.app_connect, socket.write_all(&header)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ended::ByApp(Fault::Broken),
            Err(_) => return Ended::ByApp(Fault::TimedOut),
        }
    }
    let ends = (ByteEnd::new(client, Bytes::new()), ByteEnd::new(socket, Bytes::new()));
    let mut ferry = Ferry::new(ends, Cargo::Bytes);
    let ended = carry(&mut ferry, registration).await;
    if ended == Ended::Whole && connection.cut_reason().is_none() {
        connection.gate.resets_at_close(false);
        ferry.app.stream.wire.resets_at_close(false);
        if !ferry.is_over() {
            drop(ferry.app);
            last_words(&mut ferry.client.stream, registration).await;
        }
    }
    ended
}

async fn carry(
    ferry: &mut Ferry<ByteEnd<GatedStream>, ByteEnd<AppSocket>>,
    Registration { worker, connection, .. }: &Registration,
) -> Ended {
    // How far it had come when it was looked at last, since the app was done.
    let mut seen = None;
    // The clock is asked for every piece as well: what one side sent after a `notAfter` reaches nobody.
    let may_pass = || worker.is_trusted(connection);
    loop {
        let lingers = ferry.only_lingers();
        let turn = poll_fn(|context| {
            if !may_pass() {
                // The cut signalled.
                return Poll::Pending;
            }
            let (before, now) = (ferry.moved(), worker.live.now());
            let step = ferry.poll(context, &may_pass);
            if ferry.moved() != before {
                connection.carried(now);
            }
            step
        });
        let step = tokio::select! {
            biased;
            step = turn => step,
            () = sleep(worker.limits.tunnel_half_closed), if lingers => {
                let moved = ferry.moved();
                if seen.replace(moved) == Some(moved) {
                    return Ended::ByClient(End::Timeout);
                }
                continue;
            }
        };
        match step {
            Ok(Step::HalfClosed) => {}
            Ok(Step::Ended) => return Ended::Whole,
            Err(Side::Client(ErrorKind::UnexpectedEof)) => return Ended::ByClient(End::Client),
            Err(Side::Client(_)) => return Ended::ByClient(End::Error),
            Err(Side::App) => return Ended::ByApp(Fault::Broken),
        }
    }
}

fn introduction(connection: &Connection, client: &mut GatedStream) -> Option<Vec<u8>> {
    // A socket without an address is one whose client is gone.
    let destination = client.socket().local_address().ok()?;
    let session = connection.session();
    let leaf = session.presented.first().and_then(|leaf| Certificate::parse(leaf).ok());
    let tls = client.tls();
    let introduction = Introduction {
        source: connection.peer,
        destination,
        session: connection.id,
        alpn: tls.alpn_protocol(),
        version: tls.protocol_version(),
        cipher: tls.negotiated_cipher_suite().map(|suite| suite.suite()),
        common_name: leaf.as_ref().and_then(|leaf| leaf.common_name.as_deref()),
        spiffe_id: session.chain.identity.spiffe().map(|id| id.uri()),
    };
    Some(introduction.header())
}
