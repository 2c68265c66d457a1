//! A client's TCP socket, below TLS.
//!
//! Made by the acceptor's worker; its only own act is at its end: an abortive close if the session was cut with
//! bytes still on their way, so that the kernel drops what it holds instead of delivering it for minutes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::gate::Gate;

/// Bytes that the kernel may hold unsent for one client before it asks us to wait: what a cut cannot recall
/// (Linux tcp(7), TCP_NOTSENT_LOWAT). 128 kB cost no throughput on loopback; the default is no limit but the
/// send buffer's, 4 MB.
const NOT_SENT: u32 = 128 * 1024;

pub(crate) struct ClientSocket {
    stream: TcpStream,
    gate: Arc<Gate>,
}

impl ClientSocket {
    /// Takes an accepted socket and sets its options.
    pub(crate) fn new(stream: TcpStream, gate: Arc<Gate>) -> io::Result<ClientSocket> {
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT)?;
        Ok(ClientSocket { stream, gate })
    }

    /// Waits until there is something to read, without reading it: the small wait of a parked session.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(context)
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if self.gate.aborts() {
            // A failure leaves the ordinary close: nothing better can be done at the end.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
