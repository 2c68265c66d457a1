//! Connections from one worker to one app: kept, lent, given back.
//!
//! Called by `forward.rs`. A worker shares its connections among its sessions but with no other worker. The app
//! is on this host: a connection costs little, so one that is in doubt is dropped.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::body::ClientBody;
use crate::clock::monotonic;
use crate::config::{AppAddress, Inbound, Limits, Protocol};
use crate::fault::Fault;

/// One app as one worker sees it.
pub(crate) struct App {
    address: AppAddress,
    pub(crate) protocol: Protocol,
    pub(crate) limits: Limits,
    idle: RefCell<Vec<Idle>>,
    http2: RefCell<Option<h2::client::SendRequest<Bytes>>>,
}

struct Idle {
    sender: SendRequest<ClientBody>,
    since: Instant,
}

/// A connection lent to one request.
pub(crate) struct Lease {
    app: Rc<App>,
    pub(crate) sender: SendRequest<ClientBody>,
    /// It served another request before: the app may have closed it meanwhile.
    pub(crate) reused: bool,
}

impl Lease {
    /// The response was read to its end: others may use the connection.
    pub(crate) fn give_back(self) {
        let Lease { app, sender, .. } = self;
        let mut idle = app.idle.borrow_mut();
        if idle.len() < app.limits.app_idle_connections && !sender.is_closed() {
            idle.push(Idle { sender, since: monotonic() });
        }
    }
}

impl App {
    pub(crate) fn new(inbound: &Inbound, limits: &Limits) -> Rc<App> {
        Rc::new(App {
            address: inbound.app.clone(),
            protocol: inbound.protocol,
            limits: limits.clone(),
            idle: RefCell::default(),
            http2: RefCell::default(),
        })
    }

    /// A connection that is ready for a request: the one used last, or a new one.
    pub(crate) async fn lend(self: &Rc<App>, only_new: bool) -> Result<Lease, Fault> {
        while !only_new && let Some(mut sender) = self.take_idle() {
            if sender.is_ready() || sender.ready().await.is_ok() {
                return Ok(Lease { app: self.clone(), sender, reused: true });
            }
        }
        let socket = self.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|_| Fault::Unreachable)?;
        tokio::task::spawn_local(async move {
            // Its requests learn of its end by themselves.
            let _ = connection.await;
        });
        Ok(Lease { app: self.clone(), sender, reused: false })
    }

    fn take_idle(&self) -> Option<SendRequest<ClientBody>> {
        let Idle { sender, since } = self.idle.borrow_mut().pop()?;
        if since.elapsed() >= self.limits.app_idle {
            // Those below it on the pile are older still.
            self.idle.borrow_mut().clear();
            return None;
        }
        Some(sender)
    }

    /// Drops connections that nobody has used for long; called by the sweep.
    pub(crate) fn tidy(&self) {
        let limit = self.limits.app_idle;
        self.idle.borrow_mut().retain(|idle| idle.since.elapsed() < limit && !idle.sender.is_closed());
    }

    /// A handle for one more stream on the HTTP/2 connection to the app.
    pub(crate) async fn http2(&self) -> Result<h2::client::SendRequest<Bytes>, Fault> {
        let known = self.http2.borrow().clone();
        if let Some(sender) = known
            && let Ok(ready) = timeout(self.limits.app_connect, sender.ready()).await.map_err(|_| Fault::TimedOut)?
        {
            return Ok(ready);
        }
        let socket = self.connect().await?;
        let (sender, connection) = h2::client::handshake(socket).await.map_err(|_| Fault::Broken)?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let ready = timeout(self.limits.app_connect, sender.ready()).await.map_err(|_| Fault::TimedOut)?;
        let ready = ready.map_err(|_| Fault::Broken)?;
        self.http2.replace(Some(ready.clone()));
        Ok(ready)
    }

    async fn connect(&self) -> Result<AppSocket, Fault> {
        let connecting = async {
            match &self.address {
                AppAddress::Socket(address) => TcpStream::connect(address).await.map(AppSocket::Tcp),
                AppAddress::Name(host, port) => TcpStream::connect((host.as_str(), *port)).await.map(AppSocket::Tcp),
                AppAddress::Unix(path) => UnixStream::connect(path).await.map(AppSocket::Unix),
            }
        };
        let socket = timeout(self.limits.app_connect, connecting).await.map_err(|_| Fault::TimedOut)?;
        let socket = socket.map_err(|_| Fault::Unreachable)?;
        if let AppSocket::Tcp(stream) = &socket {
            stream.set_nodelay(true).map_err(|_| Fault::Unreachable)?;
        }
        Ok(socket)
    }
}

/// A socket to the app.
enum AppSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for AppSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            AppSocket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            AppSocket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for AppSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            AppSocket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            AppSocket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            AppSocket::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            AppSocket::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            AppSocket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            AppSocket::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            AppSocket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            AppSocket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
