//! A TCP inbound: the bytes of one session, between its client and a connection to the app of its own.
//!
//! Spawned by `worker.rs` for each session of such an inbound. The session is judged before the app is dialled, and at
//! every read and write; it counts as one open request for as long as it lives. It must never let one side take for an
//! end what was none: only when both sides said that they were done are both closed in peace, else both are reset.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use trust::{Certificate, Permit};

use crate::audit;
use crate::config::{Protocol, Tcp};
use crate::connection::{Connection, End};
use crate::fault::Fault;
use crate::gate::{GatedStream, Guarded};
use crate::metrics::RequestProtocol;
use crate::proxy_protocol::Introduction;
use crate::pump::{Broken, Pump};
use crate::wire::AppSocket;
use crate::worker::{Registration, Worker};

/// How long, and how much of, what a client still sends is thrown away once its app said goodbye and takes no more:
/// closing at once would reset the connection, and the app's last words with it.
const LAST_WORDS: Duration = Duration::from_secs(2);
const MAX_IGNORED: u64 = 1 << 20;

/// Serves until both sides are done, one breaks, or the session is cut.
pub(crate) async fn serve(registration: Registration, client: GatedStream) {
    let (worker, connection) = (registration.worker.clone(), registration.connection.clone());
    let mut ends = Ends { client, app: None, whole: false };
    let _open = OpenTunnel::begin(&worker, &connection);
    let Some(permit) = judged(&worker, &connection) else { return };
    let ended = tokio::select! {
        biased;
        _ = connection.until_cut() => return,
        ended = carry(permit, &mut ends, &registration) => ended,
    };
    if connection.cut_reason().is_some() {
        // What the gates refused is nobody's fault.
        return;
    }
    ends.whole = ended == Ended::Whole;
    match ended {
        Ended::Whole => {}
        Ended::ByClient(end) => connection.end(end),
        Ended::ByApp(fault) => {
            worker.metrics.app_fault(fault);
            connection.end(End::Error);
        }
    }
}

/// Both sides of a tunnel. Dropped before both were done, in whatever way, it leaves no clean end to either.
struct Ends {
    client: GatedStream,
    app: Option<AppSocket>,
    whole: bool,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.whole {
            self.client.shut();
            if let Some(app) = &self.app {
                app.wire.abandon();
            }
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
        // Not its being open keeps a tunnel from being idle, but its bytes.
        connection.carried(worker.live.now());
        OpenTunnel { worker, connection }
    }
}

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
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
    /// The client broke off, or left without saying that it was done.
    ByClient(End),
    ByApp(Fault),
}

/// Dials the app and carries bytes both ways; the permit is used up by it.
async fn carry(_: Permit, ends: &mut Ends, registration: &Registration) -> Ended {
    let Registration { worker, connection, .. } = registration;
    let Some(app) = worker.app(connection.inbound) else { return Ended::ByApp(Fault::Unreachable) };
    let wire = match app.connect().await {
        Ok(wire) => wire,
        Err(fault) => return Ended::ByApp(fault),
    };
    if wire.hold_little().is_err() {
        return Ended::ByApp(Fault::Broken);
    }
    let guarded = Guarded { worker: worker.clone(), connection: connection.clone() };
    let socket = AppSocket { wire, tenant: Rc::new(RefCell::new(Some(guarded))) };
    let Ends { client, app: place, .. } = ends;
    let socket = place.insert(socket);
    if let Protocol::Tcp(Tcp { proxy_protocol: true, .. }) = &app.protocol {
        let Some(header) = introduction(connection, client) else { return Ended::ByClient(End::Error) };
        match timeout(worker.limits.app_connect, socket.write_all(&header)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ended::ByApp(Fault::Broken),
            Err(_) => return Ended::ByApp(Fault::TimedOut),
        }
    }
    let mut carrying = Carrying::default();
    // The clock is asked for every piece as well: what one side sent after a `notAfter` reaches nobody.
    let may_pass = || worker.is_trusted(connection);
    let ended = poll_fn(|context| {
        if !may_pass() {
            // The cut signalled.
            return Poll::Pending;
        }
        let (before, now) = (connection.gate.received() + connection.gate.sent(), worker.live.now());
        let ended = carrying.poll(context, (client, socket), &may_pass);
        if connection.gate.received() + connection.gate.sent() > before {
            connection.carried(now);
        }
        ended
    })
    .await;
    if ended == Ended::Whole && carrying.refused.is_some() {
        let mut rest = client.take(MAX_IGNORED);
        let _ = timeout(LAST_WORDS, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
    ended
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

/// Both directions.
#[derive(Default)]
struct Carrying {
    up: Pump,
    down: Pump,
    up_done: bool,
    down_done: bool,
    /// The app takes no more; what it still says is passed on.
    refused: Option<ErrorKind>,
}

impl Carrying {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        (client, app): (&mut GatedStream, &mut AppSocket),
        may_pass: &impl Fn() -> bool,
    ) -> Poll<Ended> {
        if !self.up_done {
            match self.up.poll(context, (client, app), may_pass) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.up_done = true,
                Poll::Ready(Err(Broken::Reader(ErrorKind::UnexpectedEof))) => {
                    return Poll::Ready(Ended::ByClient(End::Client));
                }
                Poll::Ready(Err(Broken::Reader(_))) => return Poll::Ready(Ended::ByClient(End::Error)),
                Poll::Ready(Err(Broken::Writer(kind))) => {
                    self.up_done = true;
                    self.refused = Some(kind);
                }
            }
        }
        if !self.down_done {
            match self.down.poll(context, (app, client), may_pass) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.down_done = true,
                Poll::Ready(Err(Broken::Reader(_))) => return Poll::Ready(Ended::ByApp(Fault::Broken)),
                Poll::Ready(Err(Broken::Writer(_))) => return Poll::Ready(Ended::ByClient(End::Error)),
            }
        }
        match (self.up_done && self.down_done, self.refused) {
            (false, _) => Poll::Pending,
            // The kernel says so of an app that had said goodbye before, and of no other.
            (true, None | Some(ErrorKind::BrokenPipe)) => Poll::Ready(Ended::Whole),
            (true, Some(_)) => Poll::Ready(Ended::ByApp(Fault::Broken)),
        }
    }
}
