//! The gate: the place where application bytes of one session pass, or stop.
//!
//! Wrapped around a session's TLS stream by `worker.rs`; closed by a cut. At every read and write it asks whether the
//! session is trusted now, so that from a publish on no byte passes, however far the worker's sweep has come. What the
//! gate refuses reaches nobody, whatever hyper or h2 hold above it. It must never decide anything itself.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::connection::Connection;
use crate::socket::ClientSocket;
use crate::worker::Worker;

const OPEN: u8 = 0;
const NOTICE: u8 = 1;
const SHUT: u8 = 2;
/// Interim responses waiting to be written; an app that sends more at once than fits a head is dropped.
const MAX_INTERIM: usize = 16 * 1024;

/// The gate's state. Its owner and its session are on one thread; it is `Sync` because hyper asks for it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicU8,
    /// Bytes are on their way that the kernel has not taken.
    blocked: AtomicBool,
    /// The last read found nothing.
    drained: AtomicBool,
    /// The socket is to be closed without another byte.
    abort: AtomicBool,
    /// Our side was closed in order: the client can read everything that it will be told.
    said_all: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    /// Interim responses (1xx), which hyper's server cannot write.
    interim: Mutex<Vec<u8>>,
}

impl Gate {
    /// Trust ended. Nothing more is read; a notice may be written if nothing is in its way.
    pub(crate) fn cut(&self) {
        if self.blocked.load(Relaxed) {
            self.shut();
        } else {
            self.state.fetch_max(NOTICE, Relaxed);
        }
    }

    /// Not one more byte, and an abortive close: no clean end may follow a response cut short.
    pub(crate) fn shut(&self) {
        self.state.store(SHUT, Relaxed);
        self.abort.store(true, Relaxed);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.state.load(Relaxed) == SHUT
    }

    fn is_open(&self) -> bool {
        self.state.load(Relaxed) == OPEN
    }

    /// Whether the socket's close is a reset, however it comes to it.
    pub(crate) fn resets_at_close(&self, resets: bool) {
        self.abort.store(resets, Relaxed);
    }

    pub(crate) fn has_said_all(&self) -> bool {
        self.said_all.load(Relaxed)
    }

    pub(crate) fn aborts(&self) -> bool {
        self.abort.load(Relaxed)
    }

    /// Everything written was taken by the kernel, and nothing is waiting to be read.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.blocked.load(Relaxed) && self.drained.load(Relaxed)
    }

    /// Something is waiting to be read.
    pub(crate) fn stirred(&self) {
        self.drained.store(false, Relaxed);
    }

    /// Bytes are on their way that the kernel has not taken.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Application bytes from the client.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Application bytes to the client.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Queues an interim response for the next flush.
    pub(crate) fn queue_interim(&self, head: &[u8]) {
        let mut interim = self.interim.lock().unwrap_or_else(PoisonError::into_inner);
        if interim.len() + head.len() <= MAX_INTERIM {
            interim.extend_from_slice(head);
        }
    }

    /// Whether any waits; what waited when trust ended is gone.
    fn has_interim(&self) -> bool {
        let mut interim = self.interim.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_open() {
            interim.clear();
        }
        !interim.is_empty()
    }
}

/// Whose bytes pass: a session and the worker that judges it.
#[derive(Clone)]
pub(crate) struct Guarded {
    pub(crate) worker: Rc<Worker>,
    pub(crate) connection: Rc<Connection>,
}

impl Guarded {
    /// Whether the session is still trusted; one that is not is cut here, if its worker's sweep has not come by.
    pub(crate) fn is_trusted(&self) -> bool {
        self.worker.is_current(&self.connection)
    }
}

/// A session's TLS stream behind its gate.
pub(crate) struct GatedStream {
    /// Boxed, since it is moved whenever its session goes from one task to another.
    stream: Box<TlsStream<ClientSocket>>,
    guarded: Guarded,
    gate: Arc<Gate>,
    /// Bytes read before and given back by hyper.
    rewind: Bytes,
}

impl GatedStream {
    pub(crate) fn new(stream: TlsStream<ClientSocket>, guarded: Guarded) -> GatedStream {
        let gate = guarded.connection.gate.clone();
        GatedStream { stream: Box::new(stream), guarded, gate, rewind: Bytes::new() }
    }

    /// Whether bytes of the app may go on to the kernel. Where trust ended since they were let in above, no notice
    /// can be told from them any more: nothing passes at all.
    fn lets_out(&self) -> bool {
        if self.gate.is_open() && !self.guarded.is_trusted() {
            self.gate.shut();
        }
        !self.gate.is_shut()
    }

    /// Gives bytes back, to be read again.
    pub(crate) fn rewind(&mut self, bytes: Bytes) {
        self.rewind = bytes;
    }

    /// The socket below TLS.
    pub(crate) fn socket(&mut self) -> &mut ClientSocket {
        self.stream.get_mut().0
    }

    /// What the handshake chose.
    pub(crate) fn tls(&self) -> &rustls::ServerConnection {
        self.stream.get_ref().1
    }

    fn note_written(&mut self, pending: bool) {
        let blocked = pending || self.stream.get_ref().1.wants_write();
        self.gate.blocked.store(blocked, Relaxed);
    }

    /// Writes queued interim responses before anything else. They are the app's: none goes in front of a notice.
    fn poll_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gate.has_interim() {
            return Poll::Ready(Ok(()));
        }
        if !self.lets_out() {
            return Poll::Ready(Err(closed()));
        }
        loop {
            let mut interim = self.gate.interim.lock().unwrap_or_else(PoisonError::into_inner);
            if interim.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, &interim) else {
                // Half a head may have gone: nothing can be told behind it.
                self.gate.blocked.store(true, Relaxed);
                return Poll::Pending;
            };
            interim.drain(..written?);
        }
    }
}

fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::BrokenPipe)
}

impl AsyncRead for GatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gate.is_shut() {
            return Poll::Ready(Err(closed()));
        }
        if !self.gate.is_open() || !self.guarded.is_trusted() {
            // An end of file would make hyper forget the notice that it still has to write.
            return Poll::Pending;
        }
        if !self.rewind.is_empty() {
            let length = self.rewind.len().min(buffer.remaining());
            buffer.put_slice(self.rewind.get(..length).unwrap_or(&[]));
            self.rewind.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let answer = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.gate.drained.store(answer.is_pending(), Relaxed);
        let read = buffer.filled().len().saturating_sub(before);
        self.gate.received.store(self.gate.received() + u64::try_from(read).unwrap_or(0), Relaxed);
        answer
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.as_mut().poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.lets_out() {
            return Poll::Ready(Err(closed()));
        }
        ready!(self.poll_interim(context))?;
        let answer = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_written(answer.is_pending());
        if let Poll::Ready(Ok(written)) = &answer {
            self.gate.sent.store(self.gate.sent() + u64::try_from(*written).unwrap_or(0), Relaxed);
        }
        answer
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What rustls holds went through `poll_write` while the session was trusted, but may not go out any more.
        if self.gate.is_shut() || self.gate.is_blocked() && !self.lets_out() {
            return Poll::Ready(Err(closed()));
        }
        ready!(self.poll_interim(context))?;
        let answer = Pin::new(&mut self.stream).poll_flush(context);
        self.note_written(answer.is_pending());
        answer
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gate.is_shut() || self.gate.is_blocked() && !self.lets_out() {
            // No close_notify: it would make a response cut short look whole.
            return Poll::Ready(Ok(()));
        }
        let answer = Pin::new(&mut self.stream).poll_shutdown(context);
        if matches!(answer, Poll::Ready(Ok(()))) {
            self.gate.said_all.store(true, Relaxed);
        }
        answer
    }
}
