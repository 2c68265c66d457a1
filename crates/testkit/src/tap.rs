//! A connection of a recording app with an ear and a hand on the wire: it notes what comes in,
//! slips raw bytes in before the next answer (hyper's server cannot send 103), and can vanish after an answer.
//! The HTTP/1.1 app wraps every accepted socket in it. It must never change the bytes that pass by.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::journal::Journal;

/// A socket of either family.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Stream: AsyncRead + AsyncWrite + Send + Unpin> Socket for Stream {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Staying,
    AfterAnswer,
    AfterFlush,
    Gone,
}

/// What the service of a connection may ask of its wire.
pub(crate) struct Wire {
    prefix: Mutex<Vec<u8>>,
    leaving: Mutex<Leaving>,
}

impl Wire {
    pub(crate) fn send_first(&self, bytes: &[u8]) {
        self.prefix.lock().expect("no user of the wire panics").extend_from_slice(bytes);
    }

    pub(crate) fn vanish_after_answer(&self) {
        *self.leaving.lock().expect("no user of the wire panics") = Leaving::AfterAnswer;
    }

    fn step(&self, from: Leaving, to: Leaving) -> bool {
        let mut leaving = self.leaving.lock().expect("no user of the wire panics");
        let moved = *leaving == from;
        if moved {
            *leaving = to;
        }
        moved
    }
}

pub(crate) struct Tap {
    stream: Box<dyn Socket>,
    wire: Arc<Wire>,
    journal: Arc<Journal>,
    connection: usize,
}

impl Tap {
    pub(crate) fn new(stream: Box<dyn Socket>, journal: Arc<Journal>) -> Self {
        let wire = Arc::new(Wire { prefix: Mutex::default(), leaving: Mutex::new(Leaving::Staying) });
        let connection = journal.connection_opened();
        Self { stream, wire, journal, connection }
    }

    pub(crate) fn wire(&self) -> Arc<Wire> {
        Arc::clone(&self.wire)
    }

    pub(crate) fn connection(&self) -> usize {
        self.connection
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.journal.connection_closed();
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if *self.wire.leaving.lock().expect("no user of the wire panics") == Leaving::Gone {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.journal.wire(self.connection, &buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut prefix = this.wire.prefix.lock().expect("no user of the wire panics");
        while !prefix.is_empty() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(context, &prefix))?;
            prefix.drain(..written);
        }
        drop(prefix);
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.wire.step(Leaving::AfterAnswer, Leaving::AfterFlush);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.wire.step(Leaving::AfterFlush, Leaving::Gone) {
            // hyper may have found nothing to read before the answer went out; it has to look again to see the end.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
