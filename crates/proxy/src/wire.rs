//! Sockets to the app, of either kind, and the second gate on the way of a session's bytes.
//!
//! Made by `app.rs`. What hyper took from a client while it was trusted may wait here for an app that does not read;
//! an [`AppSocket`] passes nothing for a session that is not trusted any more. It must never decide anything itself.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::gate::Guarded;
use crate::shares::AppShare;
use crate::socket::NOT_SENT;

/// For whom a connection to the app carries bytes now.
pub(crate) type Tenant = Rc<RefCell<Option<Guarded>>>;

/// A connection that serves one session at a time.
pub(crate) struct AppSocket {
    pub(crate) wire: Wire,
    pub(crate) tenant: Tenant,
}

impl AppSocket {
    fn passes(&self) -> io::Result<()> {
        match self.tenant.borrow().as_ref().is_none_or(Guarded::is_trusted) {
            true => Ok(()),
            false => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        }
    }
}

impl Drop for AppSocket {
    fn drop(&mut self) {
        let tenant = self.tenant.borrow();
        if tenant.as_ref().is_some_and(|tenant| tenant.connection.cut_reason().is_some()) {
            // What the kernel still holds of the session's bytes goes with it, as it does on the client's side.
            self.wire.resets_at_close(true);
        }
    }
}

impl AsyncRead for AppSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.passes()?;
        Pin::new(&mut self.get_mut().wire).poll_read(context, buffer)
    }
}

impl AsyncWrite for AppSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.passes()?;
        Pin::new(&mut self.get_mut().wire).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.passes()?;
        Pin::new(&mut self.get_mut().wire).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(context)
    }
}

/// A socket to the app, and its share of all there may be.
pub(crate) struct Wire {
    socket: Socket,
    _share: AppShare,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    pub(crate) fn tcp(stream: TcpStream, share: AppShare) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        // Bounds what the kernel holds unsent for the app, as for clients: a cut cannot recall more than that where it
        // resets nothing, on a connection that other sessions share, and what the app's own receive buffer took. A Unix
        // socket's send buffer is its peer's receive buffer: 208 kB unless net.core.wmem_default says otherwise.
        socket2::SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT)?;
        Ok(Wire { socket: Socket::Tcp(stream), _share: share })
    }

    pub(crate) fn unix(stream: UnixStream, share: AppShare) -> Wire {
        Wire { socket: Socket::Unix(stream), _share: share }
    }

    /// Whether its close is a reset, so that the app takes what it has for broken off and not for whole. A Unix socket
    /// knows none: its app reads an end like any other.
    pub(crate) fn resets_at_close(&self, resets: bool) {
        if let Socket::Tcp(stream) = &self.socket {
            // A failure leaves the ordinary close: nothing better can be done at the end.
            let _ = socket2::SockRef::from(stream).set_linger(resets.then_some(Duration::ZERO));
        }
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
