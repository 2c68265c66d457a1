//! One direction of a tunnel: bytes from a reader to a writer, then the reader's end.
//!
//! Driven by `tcp.rs`, two for each tunnel. What the writer does not take, the reader is not asked for, and memory is
//! held only for what was read and not yet taken. It must never make an end of an error.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once: the most that one TLS record carries, and all that a direction ever holds.
const PIECE: usize = 16 * 1024;
/// Pieces carried before the worker's other tasks get their turn: 256 kB are some 100 µs of encryption.
const PIECES: usize = 16;

/// Which side broke, and how.
#[derive(Debug)]
pub(crate) enum Broken {
    Reader(ErrorKind),
    Writer(ErrorKind),
}

impl Broken {
    fn reader(error: io::Error) -> Broken {
        Broken::Reader(error.kind())
    }

    fn writer(error: io::Error) -> Broken {
        Broken::Writer(error.kind())
    }
}

#[derive(Default)]
pub(crate) struct Pump {
    /// Read, and not yet taken by the writer.
    held: Bytes,
    /// The writer may hold bytes that a flush would send.
    unflushed: bool,
    /// The reader came to its end.
    ended: bool,
}

impl Pump {
    /// Carries what can be carried now; ready when the reader's end was passed on, or a side broke. Asked between
    /// reading and writing, `may_pass` says whether a piece goes on; one that may not is gone, and nothing wakes.
    pub(crate) fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        (reader, writer): (&mut R, &mut W),
        may_pass: impl Fn() -> bool,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..PIECES {
            ready!(self.poll_take(context, writer)).map_err(Broken::writer)?;
            if self.ended {
                return Pin::new(writer).poll_shutdown(context).map_err(Broken::writer);
            }
            let mut space = [const { MaybeUninit::uninit() }; PIECE];
            let mut piece = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *reader).poll_read(context, &mut piece) {
                Poll::Ready(read) => read.map_err(Broken::reader)?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(context)).map_err(Broken::writer)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            if !may_pass() {
                return Poll::Pending;
            }
            let piece = piece.filled();
            self.ended = piece.is_empty();
            if !self.ended {
                let written = self.write(context, writer, piece).map_err(Broken::writer)?;
                self.held = Bytes::copy_from_slice(piece.get(written..).unwrap_or(&[]));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Has the writer take what is held.
    fn poll_take<W: AsyncWrite + Unpin>(&mut self, context: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let written = self.write(context, writer, &held);
            self.held = held;
            match written? {
                0 => return Poll::Pending,
                written => self.held.advance(written),
            }
        }
        // Without what it was cut from: an idle tunnel holds nothing.
        self.held = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Writes once; 0 if the writer takes nothing now, and wakes when it does.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        bytes: &[u8],
    ) -> io::Result<usize> {
        match Pin::new(writer).poll_write(context, bytes) {
            Poll::Pending => Ok(0),
            Poll::Ready(Ok(0)) => Err(ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(written)) => {
                self.unflushed = true;
                Ok(written)
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }
}
