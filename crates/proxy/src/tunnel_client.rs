//! The client's end of a tunnel: the whole connection over HTTP/1.1, one stream over HTTP/2; and how a cut ends each.
//!
//! Called by `http1.rs` and `http2.rs` when the answer that opens a tunnel has gone out. A cut WebSocket is told by Close
//! 1008 if that is possible at once: nothing of the app's may be in front of it. Any other tunnel breaks off, since its
//! two ends would take a clean end for the end of what was said.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use crate::body::OpenRequest;
use crate::connection::{Connection, Cut, End as SessionEnd};
use crate::fault::Fault;
use crate::gate::GatedStream;
use crate::http1::farewell;
use crate::linger;
use crate::sieve::Ours;
use crate::tunnel::{ByteEnd, Cargo, End, Ferry, Side, Step, Tunnel};
use crate::websocket::close_frame;
use crate::worker::Registration;

/// How long what a client still sends is thrown away once its app said goodbye: closing at once would reset the
/// connection, and the app's last words with it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a tunnel ended.
enum Ended {
    /// As its two ends wanted.
    Whole,
    Broken(Side),
    /// One side ended long ago, and the other said nothing since.
    TimedOut,
    Cut(Cut),
}

/// What a cut WebSocket may still be told.
enum Notice {
    /// Close, with this frame.
    Close(Bytes),
    /// Nothing: the app said Close before.
    Said,
    /// Nothing can be told any more.
    Impossible,
}

fn notice<Client: End, App: End>(ferry: &Ferry<Client, App>, cut: &Cut) -> Notice {
    match ferry.between_frames() {
        Some(tracker) if tracker.is_closed() => Notice::Said,
        Some(_) => Notice::Close(close_frame(&cut.denial)),
        None => Notice::Impossible,
    }
}

/// Carries until the tunnel ends or its session does.
async fn carry<Client: End, App: End>(ferry: &mut Ferry<Client, App>, open: &OpenRequest) -> Ended {
    let (worker, connection) = (&open.worker, &open.connection);
    // How far it had come when it was looked at last, since it only lingers.
    let mut seen = None;
    loop {
        let lingers = ferry.only_lingers();
        // The clock is asked for every piece as well: what one side sent after a `notAfter` reaches nobody.
        let may_pass = || worker.is_trusted(connection);
        let turn = poll_fn(|context| match may_pass() {
            // The cut signalled.
            false => Poll::Pending,
            true => ferry.poll(context, &may_pass),
        });
        let step = tokio::select! {
            biased;
            cut = connection.until_cut() => return Ended::Cut(cut.clone()),
            step = turn => step,
            () = sleep(worker.limits.tunnel_half_closed), if lingers => {
                let moved = ferry.moved();
                if seen.replace(moved) == Some(moved) {
                    return Ended::TimedOut;
                }
                continue;
            }
        };
        match (step, connection.cut_reason()) {
            (Ok(Step::Ended), _) => return Ended::Whole,
            (Ok(Step::HalfClosed), _) => {}
            // The gates below see it first, and what they refuse looks like a break.
            (Err(_), Some(cut)) => return Ended::Cut(cut.clone()),
            (Err(side), None) => {
                if side == Side::App {
                    worker.metrics.app_fault(Fault::Broken);
                }
                return Ended::Broken(side);
            }
        }
    }
}

/// Over HTTP/1.1: `stream` is what is left of the connection, `read` what came behind the request's head.
pub(crate) async fn over_http1(tunnel: Box<Tunnel>, (stream, read): (GatedStream, Bytes), registration: Registration) {
    let Tunnel { cargo, app, open, .. } = *tunnel;
    let (gate, limits) = (&registration.connection.gate, &registration.worker.limits);
    // Whatever ends bytes of an unknown kind, a panic or the end of the runtime included, ends them by a reset.
    gate.resets_at_close(cargo == Cargo::Bytes);
    let mut ferry = Ferry::new((ByteEnd::new(stream, read), app), cargo);
    let ended = carry(&mut ferry, &open).await;
    let told = match &ended {
        Ended::Cut(cut) => notice(&ferry, cut),
        Ended::Whole | Ended::Broken(_) | Ended::TimedOut => Notice::Impossible,
    };
    if matches!(ended, Ended::Whole) {
        gate.resets_at_close(false);
        ferry.app.stream.wire.resets_at_close(false);
    }
    let over = ferry.is_over();
    // The app's connection ends here: it is not to wait for the client's.
    let mut stream = ferry.client.stream;
    drop((ferry.app, open));
    match (ended, told) {
        (Ended::Whole, _) if over => registration.sealed(),
        (Ended::Whole, _) => last_words(&mut stream, &registration).await,
        (_, Notice::Said) => farewell(stream, &registration, true).await,
        (_, Notice::Close(frame)) => {
            let told = async {
                stream.write_all(&frame).await?;
                stream.flush().await
            };
            match timeout(limits.notice / 2, told).await {
                Ok(Ok(())) => farewell(stream, &registration, true).await,
                Ok(Err(_)) | Err(_) => gate.shut(),
            }
        }
        (ended, Notice::Impossible) => {
            gate.shut();
            registration.connection.end(match ended {
                Ended::TimedOut => SessionEnd::Timeout,
                // Without close_notify, as many clients go when all is said.
                Ended::Broken(Side::Client(ErrorKind::UnexpectedEof)) => SessionEnd::Client,
                Ended::Whole | Ended::Broken(_) | Ended::Cut(_) => SessionEnd::Error,
            });
        }
    }
}

/// The app said goodbye, and so did we. What its client still sends is thrown away for a while.
pub(crate) async fn last_words(stream: &mut GatedStream, registration: &Registration) {
    tokio::select! {
        biased;
        _ = registration.connection.until_cut() => registration.connection.gate.shut(),
        _ = timeout(LAST_WORDS, linger::until_end(stream.socket())) => {}
    }
}

/// Over HTTP/2: `send` is the stream's way to the client.
pub(crate) async fn over_http2(tunnel: Box<Tunnel>, send: SendStream<Bytes>) {
    let Tunnel { cargo, app, mut upload, open } = *tunnel;
    let (connection, receive) = (open.connection.clone(), upload.take_stream());
    let client = StreamEnd { send, receive, connection: connection.clone(), last_turn: connection.turns() };
    let mut ferry = Ferry::new((client, app), cargo);
    let ended = carry(&mut ferry, &open).await;
    match ended {
        Ended::Whole => ferry.app.stream.wire.resets_at_close(false),
        Ended::Broken(Side::Client(_)) => {}
        Ended::Cut(cut) => {
            let told = match notice(&ferry, &cut) {
                Notice::Close(frame) => ferry.client.end_with(frame),
                Notice::Said => ferry.client.end_with(Bytes::new()),
                Notice::Impossible => false,
            };
            if !told {
                ferry.client.send.send_reset(Reason::CANCEL);
            }
        }
        // RFC 8441 §5 and RFC 9113 §8.5: what stands for a TCP connection that was reset.
        Ended::Broken(Side::App) | Ended::TimedOut => ferry.client.send.send_reset(match cargo {
            Cargo::Frames => Reason::CANCEL,
            Cargo::Bytes => Reason::CONNECT_ERROR,
        }),
    }
}

/// A client's HTTP/2 stream.
struct StreamEnd {
    send: SendStream<Bytes>,
    /// `None` if there was none to take.
    receive: Option<RecvStream>,
    connection: Rc<Connection>,
    /// The connection's turn in which the stream's last bytes were given to h2.
    last_turn: u64,
}

impl StreamEnd {
    /// Ends the stream with these bytes, if they can go out before anything that the app said: when h2 has nothing of
    /// this stream, and room for them.
    fn end_with(&mut self, bytes: Bytes) -> bool {
        if self.connection.turns() == self.last_turn || self.connection.gate.is_blocked() {
            return false;
        }
        if !bytes.is_empty() {
            self.send.reserve_capacity(bytes.len());
            if self.send.capacity() < bytes.len() {
                return false;
            }
        }
        self.connection.says(self.send.stream_id().into(), Ours::All);
        self.send.send_data(bytes, true).is_ok()
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

impl End for StreamEnd {
    fn poll_take(&mut self, context: &mut Context<'_>, _: usize) -> Poll<io::Result<Option<Bytes>>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(None)) };
        // A piece is what came in one frame, which is no larger than `PIECE`: we never allowed more.
        let Some(piece) = ready!(receive.poll_data(context)) else { return Poll::Ready(Ok(None)) };
        let piece = piece.map_err(broken)?;
        receive.flow_control().release_capacity(piece.len()).map_err(broken)?;
        Poll::Ready(Ok(Some(piece)))
    }

    fn poll_give(&mut self, context: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        self.send.reserve_capacity(bytes.len());
        let mut room = self.send.capacity();
        if room == 0 {
            match ready!(self.send.poll_capacity(context)) {
                Some(there) => room = there.map_err(broken)?,
                None => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            }
        }
        self.last_turn = self.connection.turns();
        let piece = bytes.split_to(room.min(bytes.len()));
        Poll::Ready(self.send.send_data(piece, false).map_err(broken))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task does.
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken))
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.send.poll_reset(context).map(|_| ())
    }
}
