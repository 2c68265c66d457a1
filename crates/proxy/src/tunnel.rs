//! A tunnel: bytes between a client and the app after a handshake of theirs, in both directions, until they end or the
//! session does.
//!
//! Made by `upgrade.rs`; carried over HTTP/1.1 and HTTP/2 by `tunnel_client.rs`. At most [`PIECE`] bytes wait for either
//! side: what one does not take, the other is not asked for. It must never pass a byte on when it was not asked whether
//! the session is trusted: whoever polls it asks before each turn, and the gates below ask again at each read and write.

use std::future::Future as _;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::body::{ClientBody, OpenRequest};
use crate::websocket::Tracker;
use crate::wire::AppSocket;

/// What waits for one side at most: one TLS record.
pub(crate) const PIECE: usize = 16 * 1024;
/// Pieces in one direction before other tasks of the worker get their turn.
const TURN: usize = 8;
/// A smaller piece does not keep the buffer that it was read into.
const SMALL: usize = PIECE / 4;

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cargo {
    /// WebSocket frames: the end of either side is the end of both, and a cut can be told.
    Frames,
    /// Bytes of a kind that only the two ends know: each may end its own direction, and only a break is no end.
    Bytes,
}

/// A tunnel whose handshake the app accepted.
pub(crate) struct Tunnel {
    pub(crate) cargo: Cargo,
    pub(crate) app: ByteEnd<AppSocket>,
    /// What the client sends by HTTP/2; empty over HTTP/1.1, where the connection itself is the tunnel.
    pub(crate) upload: ClientBody,
    pub(crate) open: Rc<OpenRequest>,
}

/// One end of a tunnel.
pub(crate) trait End {
    /// The next bytes from there, no more than `most`; `None` at their end.
    fn poll_take(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<Option<Bytes>>>;
    /// Hands over as many bytes as go now; the others stay. Ready when some did.
    fn poll_give(&mut self, context: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>>;
    /// Sees to it that what was handed over goes out.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Tells that no more will come.
    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ready when this side wants no more of the tunnel although nothing is read from it or handed to it.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// An end that is a stream of bytes.
pub(crate) struct ByteEnd<Stream> {
    pub(crate) stream: Stream,
    /// What was read with the handshake and belongs to what follows it.
    before: Bytes,
}

impl<Stream> ByteEnd<Stream> {
    pub(crate) fn new(stream: Stream, before: Bytes) -> ByteEnd<Stream> {
        ByteEnd { stream, before }
    }
}

impl<Stream: AsyncRead + AsyncWrite + Unpin> End for ByteEnd<Stream> {
    fn poll_take(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<Option<Bytes>>> {
        if !self.before.is_empty() {
            let length = self.before.len().min(most);
            return Poll::Ready(Ok(Some(self.before.split_to(length))));
        }
        // Made for each look and not kept: thousands of tunnels wait, and few have something to say.
        let mut piece = BytesMut::with_capacity(most);
        let read = ready!(pin!((&mut self.stream).take(as_length(most)).read_buf(&mut piece)).poll(context))?;
        let small = || Bytes::copy_from_slice(&piece);
        Poll::Ready(Ok(match read {
            0 => None,
            1..SMALL => Some(small()),
            _ => Some(piece.freeze()),
        }))
    }

    fn poll_give(&mut self, context: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(ErrorKind::WriteZero.into()));
        }
        bytes.advance(written.min(bytes.len()));
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // A socket says so at the next read or write, and by its probes.
        Poll::Pending
    }
}

fn as_length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Which side broke the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client(ErrorKind),
    App,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One direction ended; the other goes on.
    HalfClosed,
    /// Both ended, or the one that ends both.
    Ended,
}

/// The two directions of a tunnel.
pub(crate) struct Ferry<Client, App> {
    pub(crate) client: Client,
    pub(crate) app: App,
    cargo: Cargo,
    up: Lane,
    down: Lane,
    told_half_closed: bool,
}

impl<Client: End, App: End> Ferry<Client, App> {
    pub(crate) fn new((client, app): (Client, App), cargo: Cargo) -> Ferry<Client, App> {
        let frames = (cargo == Cargo::Frames).then(Tracker::default);
        Ferry { client, app, cargo, up: Lane::new(None), down: Lane::new(frames), told_half_closed: false }
    }

    /// One turn: passes on what there is, up to a bound. [`Step::HalfClosed`] is told once. Asked between reading and
    /// writing, `may_pass` says whether a piece goes on; one that may not is gone, and nothing wakes.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, may_pass: &impl Fn() -> bool) -> Poll<Result<Step, Side>> {
        let up = match self.up.poll((&mut self.client, &mut self.app), context, may_pass) {
            Poll::Ready(Err(Broken::Source(kind))) => return Poll::Ready(Err(Side::Client(kind))),
            // It may still have something to say.
            Poll::Ready(Err(Broken::Sink(kind))) => self.up.refuse(kind),
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        };
        let down = match self.down.poll((&mut self.app, &mut self.client), context, may_pass) {
            Poll::Ready(Err(Broken::Source(_))) => return Poll::Ready(Err(Side::App)),
            Poll::Ready(Err(Broken::Sink(kind))) => return Poll::Ready(Err(Side::Client(kind))),
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        };
        if self.client.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Side::Client(ErrorKind::ConnectionReset)));
        }
        // An app that ended a WebSocket has said all, and hears nothing more.
        let enough = up.is_ready() || self.cargo == Cargo::Frames;
        if down.is_ready() && enough {
            return Poll::Ready(match self.up.stage {
                // The kernel says BrokenPipe of an app that had said goodbye before, and of no other.
                Stage::Refused(kind) if kind != ErrorKind::BrokenPipe => Err(Side::App),
                Stage::Refused(_) | Stage::Open | Stage::Ending | Stage::Ended => Ok(Step::Ended),
            });
        }
        if (down.is_ready() || up.is_ready()) && !std::mem::replace(&mut self.told_half_closed, true) {
            return Poll::Ready(Ok(Step::HalfClosed));
        }
        Poll::Pending
    }

    /// Grows with each piece that is passed on.
    pub(crate) fn moved(&self) -> u64 {
        self.up.moved.wrapping_add(self.down.moved)
    }

    /// All that is left is to hear from a side that may be gone: an app that closed altogether looks like one that still
    /// listens, until something is sent to it, and whoever ended a WebSocket has nothing more to hear.
    pub(crate) fn only_lingers(&self) -> bool {
        self.down.stage == Stage::Ended || self.cargo == Cargo::Frames && self.up.stage == Stage::Ended
    }

    /// Both directions ended, each by its own side.
    pub(crate) fn is_over(&self) -> bool {
        self.up.stage == Stage::Ended && self.down.stage == Stage::Ended
    }

    /// Where the client's stream stands, if it is one of frames and everything that left us ended one.
    pub(crate) fn between_frames(&self) -> Option<&Tracker> {
        let settled = self.down.waiting.is_empty() && self.down.stage == Stage::Open;
        self.down.frames.as_ref().filter(|tracker| settled && tracker.is_between_frames())
    }
}

/// Where a lane broke.
enum Broken {
    Source(ErrorKind),
    Sink(ErrorKind),
}

impl Broken {
    fn sink(error: io::Error) -> Broken {
        Broken::Sink(error.kind())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The source has ended; the sink does not know yet.
    Ending,
    Ended,
    /// The sink takes no more.
    Refused(ErrorKind),
}

/// One direction.
struct Lane {
    /// On its way to the sink.
    waiting: Bytes,
    /// The beginning of a frame that goes on when it is whole.
    held: BytesMut,
    frames: Option<Tracker>,
    stage: Stage,
    unflushed: bool,
    moved: u64,
}

impl Lane {
    fn new(frames: Option<Tracker>) -> Lane {
        let (waiting, held) = (Bytes::new(), BytesMut::new());
        Lane { waiting, held, frames, stage: Stage::Open, unflushed: false, moved: 0 }
    }

    fn refuse(&mut self, kind: ErrorKind) -> Poll<()> {
        (self.waiting, self.held) = (Bytes::new(), BytesMut::new());
        self.stage = Stage::Refused(kind);
        Poll::Ready(())
    }

    /// Ready when this direction has ended.
    fn poll(
        &mut self,
        (source, sink): (&mut impl End, &mut impl End),
        context: &mut Context<'_>,
        may_pass: &impl Fn() -> bool,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURN {
            if !self.waiting.is_empty() {
                ready!(sink.poll_give(context, &mut self.waiting)).map_err(Broken::sink)?;
                self.unflushed = true;
                self.moved = self.moved.wrapping_add(1);
                continue;
            }
            match self.stage {
                Stage::Open => {}
                Stage::Ending => {
                    ready!(sink.poll_finish(context)).map_err(Broken::sink)?;
                    self.stage = Stage::Ended;
                    return Poll::Ready(Ok(()));
                }
                Stage::Ended | Stage::Refused(_) => return Poll::Ready(Ok(())),
            }
            match source.poll_take(context, PIECE.saturating_sub(self.held.len())) {
                Poll::Ready(Ok(Some(_))) if !may_pass() => return Poll::Pending,
                Poll::Ready(Ok(Some(bytes))) => self.accept(bytes),
                Poll::Ready(Ok(None)) => {
                    // A frame cut short by its own sender goes on as it is.
                    self.waiting = self.held.split().freeze();
                    self.stage = Stage::Ending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Source(error.kind()))),
                Poll::Pending => {
                    if self.unflushed {
                        ready!(sink.poll_flush(context)).map_err(Broken::sink)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn accept(&mut self, mut bytes: Bytes) {
        let Some(tracker) = &mut self.frames else {
            self.waiting = bytes;
            return;
        };
        if self.held.is_empty() {
            let whole = tracker.release(&bytes);
            self.waiting = bytes.split_to(whole.min(bytes.len()));
            self.held.extend_from_slice(&bytes);
        } else {
            self.held.extend_from_slice(&bytes);
            let whole = tracker.release(&self.held);
            self.waiting = self.held.split_to(whole.min(self.held.len())).freeze();
        }
        if self.held.is_empty() {
            // Not kept for the next frame that comes in pieces, which may never come.
            self.held = BytesMut::new();
        }
    }
}
