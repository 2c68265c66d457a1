//! A tokio stream as hyper reads and writes it, and hyper's timer on tokio's.
//!
//! Used by the listeners here, by `portcullis` as a client of a control listener, and by its demo. It must never carry a session's
//! traffic: that goes through `proxy`, whose streams end at a cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{ReadBufCursor, Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once: a scrape's request is a few hundred, a piece of a demo's stream fewer.
const PIECE: usize = 4096;

/// A tokio stream for hyper.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    // hyper lends uninitialised memory, which safe code cannot hand to tokio; one copy of a few bytes is the price.
    piece: Box<[u8; PIECE]>,
}

impl<S> Wire<S> {
    /// Wraps `stream`.
    pub fn new(stream: S) -> Wire<S> {
        Wire { stream, piece: Box::new([0; PIECE]) }
    }

    /// The stream; nothing that was read from it is left here.
    #[must_use]
    pub fn into_stream(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Wire { stream, piece } = self.get_mut();
        let room = cursor.remaining().min(PIECE);
        let mut read = ReadBuf::new(piece.get_mut(..room).unwrap_or(&mut []));
        ready!(Pin::new(stream).poll_read(context, &mut read))?;
        cursor.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// hyper's timer on tokio's.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer;

struct TokioSleep(Pin<Box<tokio::time::Sleep>>);

impl Future for TokioSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for TokioSleep {}

impl Timer for TokioTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(TokioSleep(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(TokioSleep(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}
