//! An HTTP/2 session's stream below h2: its frames are looked at as they pass, and sifted once the session is cut.
//!
//! Put around a session's stream by `http2.rs`. What a look comes to is kept in `frames.rs`; what still goes out behind a
//! cut is decided in `sieve.rs`. While a session is trusted it must never change a byte.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::Frames;
use crate::gate::{GatedStream, Guarded};
use crate::linger;
use crate::sieve::Sieve;

/// A session's stream, looked at.
pub(crate) struct FramedStream {
    stream: GatedStream,
    guarded: Guarded,
    frames: Rc<Frames>,
    /// Once the session is cut, with what it let through and the kernel has not taken yet.
    sieve: Option<(Sieve, BytesMut)>,
}

impl FramedStream {
    pub(crate) fn new(stream: GatedStream, guarded: Guarded, frames: Rc<Frames>) -> FramedStream {
        FramedStream { stream, guarded, frames, sieve: None }
    }

    fn went(&self, bytes: &[u8]) {
        self.frames.went(bytes, |bound| self.guarded.worker.limited_session(bound, &self.guarded.connection));
    }

    /// Takes everything, and keeps what may go out of it.
    fn sift(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        let whole = self.sieve.is_some() || self.frames.is_between_sent();
        let (sieve, out) = self.sieve.get_or_insert_with(|| (Sieve::new(), BytesMut::new()));
        for slice in slices {
            let sifted = sieve.sift(slice, out, |stream| self.frames.ours(stream));
            if !whole || sifted.is_err() {
                // The app's words cannot be told from ours any more.
                self.guarded.connection.gate.shut();
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            taken += slice.len();
        }
        Ok(taken)
    }

    /// Hands on what the sieve let through.
    fn poll_sifted(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((_, out)) = &mut self.sieve else { return Poll::Ready(Ok(())) };
        while !out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, out))?;
            out.advance(written.min(out.len()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for FramedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frames.is_flood() {
            // Whoever polls h2 looks next, and ends the connection.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let answer = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.frames.came(buffer.filled().get(before..).unwrap_or(&[]));
        answer
    }
}

impl AsyncWrite for FramedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A publish may come between two writes of one turn: the gate could not tell our notices from what is behind it.
        if !self.guarded.is_trusted() {
            ready!(self.poll_sifted(context))?;
            return Poll::Ready(self.sift(slices));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let (taken, _) = slice.split_at_checked(left).unwrap_or((slice, &[]));
            self.went(taken);
            left -= taken.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sifted(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sifted(context))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        // A client that sends, were it only for more of what the kernel holds for it, would have the rest reset.
        if self.guarded.connection.lingers() {
            linger::poll_end(self.stream.socket(), context).map(Ok)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}
