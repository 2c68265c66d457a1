//! Connections from one worker to one app: kept, lent, given back.
//!
//! Called by `forward.rs`. A worker shares its connections among its sessions but with no other worker. The app
//! is on this host: a connection costs little, so one that is in doubt is dropped.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::body::ClientBody;
use crate::clock::monotonic;
use crate::config::{AppAddress, Limits, Protocol};
use crate::descriptors::leaves_enough;
use crate::fault::Fault;
use crate::gate::Guarded;
use crate::wire::{AppSocket, Tenant, Wire};

/// What the app may have in flight to us on all streams of one HTTP/2 connection: the most there is. Each stream has
/// a window of its own; a smaller one for all would let one client that does not read stop everybody's answers.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// How long a connection that was given back may need to be ready again. hyper's task for it has one turn to take,
/// unless the app does not read what it was sent; then nobody else is to wait for that.
const SETTLE: Duration = Duration::from_millis(10);

/// One app as one worker sees it.
pub(crate) struct App {
    address: AppAddress,
    pub(crate) protocol: Protocol,
    pub(crate) limits: Limits,
    /// Of the connections to all apps over all workers.
    shares: Arc<Semaphore>,
    idle: RefCell<Vec<Idle>>,
    lines: RefCell<Vec<Line>>,
}

struct Idle {
    sender: SendRequest<ClientBody>,
    tenant: Tenant,
    since: Instant,
}

/// An HTTP/2 connection, which many requests share.
struct Line {
    sender: h2::client::SendRequest<Bytes>,
    /// Held once more by each stream on it.
    streams: Rc<()>,
}

impl Line {
    fn streams(&self) -> usize {
        Rc::strong_count(&self.streams).saturating_sub(1)
    }
}

/// A place for one stream on an HTTP/2 connection, held until the response's end.
pub(crate) struct Seat {
    pub(crate) sender: h2::client::SendRequest<Bytes>,
    _stream: Rc<()>,
    upload: Option<oneshot::Sender<()>>,
}

impl Seat {
    /// Returns when nobody waits for the response any more: the request's body need not go on.
    pub(crate) fn given_up(&mut self) -> oneshot::Receiver<()> {
        let (held, given_up) = oneshot::channel();
        self.upload = Some(held);
        given_up
    }
}

/// A connection lent to one request.
pub(crate) struct Lease {
    app: Rc<App>,
    pub(crate) sender: SendRequest<ClientBody>,
    tenant: Tenant,
    /// It served another request before: the app may have closed it meanwhile.
    pub(crate) reused: bool,
}

impl Lease {
    /// The response was read to its end: others may use the connection.
    pub(crate) fn give_back(self) {
        let Lease { app, sender, tenant, .. } = self;
        let mut idle = app.idle.borrow_mut();
        if idle.len() < app.limits.app_idle_connections && !sender.is_closed() {
            tenant.replace(None);
            idle.push(Idle { sender, tenant, since: monotonic() });
        }
    }
}

impl App {
    pub(crate) fn new(
        (address, protocol): (AppAddress, &Protocol),
        limits: &Limits,
        shares: &Arc<Semaphore>,
    ) -> Rc<App> {
        Rc::new(App {
            address,
            protocol: protocol.clone(),
            limits: limits.clone(),
            shares: shares.clone(),
            idle: RefCell::default(),
            lines: RefCell::default(),
        })
    }

    /// A connection that is ready for a request of this session: the one used last, or a new one.
    pub(crate) async fn lend(self: &Rc<App>, guarded: Guarded, only_new: bool) -> Result<Lease, Fault> {
        while !only_new && let Some((mut sender, tenant)) = self.take_idle() {
            if sender.is_ready() || matches!(timeout(SETTLE, sender.ready()).await, Ok(Ok(()))) {
                tenant.replace(Some(guarded));
                return Ok(Lease { app: self.clone(), sender, tenant, reused: true });
            }
        }
        let tenant: Tenant = Rc::new(RefCell::new(Some(guarded)));
        let socket = AppSocket { wire: self.connect().await?, tenant: tenant.clone() };
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|_| Fault::Unreachable)?;
        tokio::task::spawn_local(async move {
            // Its requests learn of its end by themselves.
            let _ = connection.await;
        });
        Ok(Lease { app: self.clone(), sender, tenant, reused: false })
    }

    /// A connection for one session, which nobody uses before or after it.
    pub(crate) async fn dial(&self, guarded: Guarded) -> Result<AppSocket, Fault> {
        let tenant = Rc::new(RefCell::new(Some(guarded)));
        Ok(AppSocket { wire: self.connect().await?, tenant })
    }

    fn take_idle(&self) -> Option<(SendRequest<ClientBody>, Tenant)> {
        let Idle { sender, tenant, since } = self.idle.borrow_mut().pop()?;
        if since.elapsed() >= self.limits.app_idle {
            // Those below it on the pile are older still.
            self.idle.borrow_mut().clear();
            return None;
        }
        Some((sender, tenant))
    }

    /// Drops connections that nobody has used for long; called by the sweep.
    pub(crate) fn tidy(&self) {
        let limit = self.limits.app_idle;
        self.idle.borrow_mut().retain(|idle| idle.since.elapsed() < limit && !idle.sender.is_closed());
        let mut first = true;
        // One HTTP/2 connection is kept whether used or not; others were made for streams that it had no room for.
        self.lines.borrow_mut().retain(|line| std::mem::take(&mut first) || line.streams() > 0);
    }

    /// A place for one more stream: on an HTTP/2 connection that has one, or on a new connection.
    pub(crate) async fn http2(&self) -> Result<Seat, Fault> {
        if let Some(seat) = poll_fn(|context| Poll::Ready(self.take_seat(context))).await {
            return Ok(seat);
        }
        let socket = self.connect().await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(CONNECTION_WINDOW).enable_push(false);
        let (sender, connection) = builder.handshake(socket).await.map_err(|_| Fault::Broken)?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let line = Line { sender, streams: Rc::default() };
        let seat = Seat { sender: line.sender.clone(), _stream: line.streams.clone(), upload: None };
        self.lines.borrow_mut().push(line);
        Ok(seat)
    }

    /// h2 would queue a stream beyond what the app takes at once until another one of that connection ends, which may
    /// be somebody's stream without end.
    fn take_seat(&self, context: &mut Context<'_>) -> Option<Seat> {
        let mut lines = self.lines.borrow_mut();
        lines.retain_mut(|line| !matches!(line.sender.poll_ready(context), Poll::Ready(Err(_))));
        let free = lines.iter().find(|line| line.streams() < line.sender.current_max_send_streams())?;
        Some(Seat { sender: free.sender.clone(), _stream: free.streams.clone(), upload: None })
    }

    /// A socket to the app, for nobody yet.
    pub(crate) async fn connect(&self) -> Result<Wire, Fault> {
        let share = self.shares.clone().try_acquire_owned().map_err(|_| Fault::Busy)?;
        let connecting = async {
            match &self.address {
                AppAddress::Socket(address) => Wire::tcp(TcpStream::connect(address).await?, share),
                AppAddress::Name(host, port) => Wire::tcp(TcpStream::connect((host.as_str(), *port)).await?, share),
                AppAddress::Unix(path) => Ok(Wire::unix(UnixStream::connect(path).await?, share)),
                // Doors are made of sockets alone.
                AppAddress::Redirected { .. } => Err(io::ErrorKind::AddrNotAvailable.into()),
            }
        };
        let wire: io::Result<Wire> = timeout(self.limits.app_connect, connecting).await.map_err(|_| Fault::TimedOut)?;
        match wire {
            Ok(wire) if leaves_enough(&wire, self.limits.descriptors) => Ok(wire),
            Ok(_) | Err(_) => Err(Fault::Unreachable),
        }
    }
}
