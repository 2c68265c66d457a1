//! A client's TCP socket, below TLS.
//!
//! Made by the acceptor's worker; its only own act is at its end: an abortive close if the session was cut with
//! bytes still on their way, so that the kernel drops what it holds instead of delivering it for minutes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::gate::Gate;
use crate::shares::IdentityShare;

/// Bytes that the kernel may hold unsent for one client before it asks us to wait: what a cut cannot recall
/// (Linux tcp(7), TCP_NOTSENT_LOWAT). 128 kB cost no throughput on loopback; the default is no limit but the
/// send buffer's, 4 MB.
pub(crate) const NOT_SENT: u32 = 128 * 1024;

/// A peer that vanished without a word, as a node that lost its power does, is found out by probes after two minutes
/// of silence; without them its session would keep its slot until its certificate ends. Linux tcp(7) waits 2 hours.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

pub(crate) struct ClientSocket {
    stream: TcpStream,
    gate: Arc<Gate>,
    /// Given back when the socket is closed: whoever is refused counts until then.
    _slot: OwnedSemaphorePermit,
    identity: Option<IdentityShare>,
}

impl ClientSocket {
    /// Takes an accepted socket and sets its options.
    pub(crate) fn new(stream: TcpStream, gate: Arc<Gate>, slot: OwnedSemaphorePermit) -> io::Result<ClientSocket> {
        stream.set_nodelay(true)?;
        let options = socket2::SockRef::from(&stream);
        options.set_tcp_notsent_lowat(NOT_SENT)?;
        let probes = socket2::TcpKeepalive::new().with_time(PROBE_AFTER);
        options.set_tcp_keepalive(&probes.with_interval(PROBE_INTERVAL).with_retries(PROBES))?;
        Ok(ClientSocket { stream, gate, _slot: slot, identity: None })
    }

    /// Counts as a connection of that identity from now on, until it is closed.
    pub(crate) fn holds(&mut self, share: IdentityShare) {
        self.identity = Some(share);
    }

    /// Where the client reached us.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_client_that_vanishes_is_probed_and_its_slot_is_free_when_the_socket_is_closed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let slots = Arc::new(tokio::sync::Semaphore::new(1));
        let slot = slots.clone().acquire_owned().await.unwrap();
        let socket = ClientSocket::new(stream, Arc::default(), slot).unwrap();
        let options = socket2::SockRef::from(&socket.stream);
        assert!(options.keepalive().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap(), PROBE_AFTER);
        assert_eq!(slots.available_permits(), 0);
        drop(socket);
        assert_eq!(slots.available_permits(), 1);
    }
}
