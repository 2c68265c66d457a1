//! Bodies on their way: from the client to the app, and back.
//!
//! Made by `http1.rs`, `http2.rs` and `app.rs`; both kinds hold the open request they belong to, so that it ends
//! when the last of them does. Nothing is buffered here: what one side does not take, the other is not asked for.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::app::{Lease, Seat};
use crate::clock::monotonic;
use crate::connection::Connection;
use crate::fault::Fault;
use crate::gate::Guarded;
use crate::headers::{prepare_response, prepare_trailers};
use crate::remainder::{self, Deadline, Remainder};
use crate::tunnel::Tunnel;
use crate::worker::Worker;

/// Why a body ended before its end; the other side is closed or reset for it.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request that was begun and has not ended: it ends, and is counted, exactly once, when it is dropped.
pub(crate) struct OpenRequest {
    pub(crate) worker: Rc<Worker>,
    pub(crate) connection: Rc<Connection>,
    started: Instant,
    /// Grows with each piece of the request's body: an upload under way is no app that hangs.
    progress: Cell<u64>,
    /// The request's body broke off: what the app does then is no fault of its own.
    client_broke: Cell<bool>,
    /// The request's body has not ended: the app's connection is not free even if the response was read to its end.
    uploading: Cell<bool>,
    /// Its time was taken before its end: it became a tunnel.
    timed: Cell<bool>,
    /// The app waits for the request's body, and since when nothing of it has come.
    owed_since: Cell<Option<Instant>>,
    /// Its bodies may be silent for as long as they like.
    patient: Cell<bool>,
    pub(crate) remainder: Remainder,
}

impl OpenRequest {
    pub(crate) fn begin(worker: &Rc<Worker>, connection: &Rc<Connection>) -> Rc<OpenRequest> {
        connection.request_began();
        Rc::new(OpenRequest {
            worker: worker.clone(),
            connection: connection.clone(),
            started: monotonic(),
            progress: Cell::new(0),
            client_broke: Cell::new(false),
            uploading: Cell::new(false),
            timed: Cell::new(false),
            owed_since: Cell::new(None),
            patient: Cell::new(false),
            remainder: Remainder::default(),
        })
    }

    /// Its bodies may be silent for as long as they like: a call or a tunnel, whose ends have deadlines of their own.
    pub(crate) fn be_patient(&self) {
        if !self.patient.replace(true) {
            self.connection.patient_request(true);
        }
    }

    /// The app says that it is no call: its bodies are as any other's from now on.
    pub(crate) fn be_impatient(&self) {
        if self.patient.replace(false) {
            self.connection.patient_request(false);
        }
    }

    pub(crate) fn is_patient(&self) -> bool {
        self.patient.get()
    }

    /// Since when the app has waited for the next piece of the request's body, if it does.
    pub(crate) fn owed_since(&self) -> Option<Instant> {
        self.owed_since.get()
    }

    fn body_polled(&self, pending: bool) {
        if !pending {
            self.progress.set(self.progress.get() + 1);
            self.owed_since.set(None);
        } else if self.owed_since.get().is_none() {
            self.owed_since.set(Some(monotonic()));
        }
    }

    pub(crate) fn progress(&self) -> u64 {
        self.progress.get()
    }

    /// It becomes a tunnel: the answer's head was its end, and what follows takes as long as it takes.
    pub(crate) fn becomes_a_tunnel(&self) {
        self.worker.metrics.request_ended(self.started.elapsed());
        self.timed.set(true);
    }

    /// Whether its session is still trusted. Asked with a look at the clock: over HTTP/2, and on the app's side, bodies
    /// move between the turns of the session's own connection.
    fn is_trusted(&self) -> bool {
        self.worker.is_trusted(&self.connection)
    }

    pub(crate) fn guarded(&self) -> Guarded {
        Guarded { worker: self.worker.clone(), connection: self.connection.clone() }
    }

    /// The request's body broke off.
    pub(crate) fn client_broke(&self) -> bool {
        self.client_broke.get()
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.be_impatient();
        if !self.timed.get() {
            self.worker.metrics.request_ended(self.started.elapsed());
        }
        self.connection.request_ended(&self.worker.live);
    }
}

/// A request's body.
pub(crate) struct ClientBody {
    source: ClientSource,
    open: Option<Rc<OpenRequest>>,
    deadline: Deadline,
}

enum ClientSource {
    Http1(Incoming),
    Http2(h2::RecvStream),
    Empty,
}

impl ClientBody {
    fn of(source: ClientSource) -> ClientBody {
        ClientBody { source, open: None, deadline: None }
    }

    pub(crate) fn http1(body: Incoming) -> ClientBody {
        ClientBody::of(ClientSource::Http1(body))
    }

    pub(crate) fn http2(body: h2::RecvStream) -> ClientBody {
        ClientBody::of(ClientSource::Http2(body))
    }

    pub(crate) fn empty() -> ClientBody {
        ClientBody::of(ClientSource::Empty)
    }

    /// The HTTP/2 stream that it would have been read from; the body is empty then.
    pub(crate) fn take_stream(&mut self) -> Option<h2::RecvStream> {
        match std::mem::replace(&mut self.source, ClientSource::Empty) {
            ClientSource::Http2(stream) => Some(stream),
            ClientSource::Http1(_) | ClientSource::Empty => None,
        }
    }

    /// Ties it to its request.
    pub(crate) fn belongs_to(&mut self, open: Rc<OpenRequest>) {
        open.uploading.set(true);
        self.open = Some(open);
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            ClientSource::Http1(body) => {
                Poll::Ready(ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into)))
            }
            ClientSource::Http2(body) => poll_stream(body, context),
            ClientSource::Empty => Poll::Ready(None),
        }
    }
}

/// The next piece of an HTTP/2 body; its window opens again as soon as the piece is taken.
fn poll_stream(body: &mut h2::RecvStream, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    match ready!(body.poll_data(context)) {
        Some(Ok(bytes)) => {
            let released = body.flow_control().release_capacity(bytes.len());
            Poll::Ready(Some(released.map(|()| Frame::data(bytes)).map_err(Into::into)))
        }
        Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
        None => match ready!(body.poll_trailers(context)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        },
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_source(context);
        let ClientBody { open, deadline, .. } = &mut *self;
        if let Some(open) = open {
            open.body_polled(polled.is_pending());
        }
        let Poll::Ready(frame) = polled else { return remainder::poll_silence(open.as_deref(), deadline, context) };
        *deadline = None;
        if let Some(open) = open {
            open.client_broke.set(matches!(frame, Some(Err(_))));
            if !open.is_trusted() {
                return Poll::Ready(Some(Err("the session was cut".into())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| with_trailers(frame, prepare_trailers))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            ClientSource::Http1(body) => body.is_end_stream(),
            ClientSource::Http2(body) => body.is_end_stream(),
            ClientSource::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            ClientSource::Http1(body) => body.size_hint(),
            ClientSource::Http2(body) if body.is_end_stream() => SizeHint::with_exact(0),
            ClientSource::Http2(_) => SizeHint::default(),
            ClientSource::Empty => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.uploading.set(false);
        }
    }
}

fn with_trailers(frame: Frame<Bytes>, prepare: fn(&mut HeaderMap)) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            prepare(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// A response's body.
pub(crate) struct AppBody {
    source: AppSource,
    open: Option<Rc<OpenRequest>>,
    /// Its end was read: a chunked body does not know it before.
    ended: bool,
}

enum AppSource {
    /// From the app by HTTP/1.1, with the connection to give back at its end.
    Http1(Incoming, Option<Lease>),
    /// From the app by HTTP/2, with its place on the connection.
    Http2 { body: h2::RecvStream, _seat: Seat },
    /// Ours: a refusal.
    Notice(Option<Bytes>),
    /// None: the head opens a tunnel.
    Tunnel(Option<Box<Tunnel>>),
}

impl AppBody {
    pub(crate) fn http1(body: Incoming, lease: Lease) -> AppBody {
        AppBody { source: AppSource::Http1(body, Some(lease)), open: None, ended: false }
    }

    /// From a connection to the app that nobody else will use.
    pub(crate) fn alone(body: Incoming) -> AppBody {
        AppBody { source: AppSource::Http1(body, None), open: None, ended: false }
    }

    pub(crate) fn tunnel(tunnel: Tunnel) -> AppBody {
        AppBody { source: AppSource::Tunnel(Some(Box::new(tunnel))), open: None, ended: false }
    }

    /// The tunnel that the head opens; whoever sends the head takes it and carries it on.
    pub(crate) fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        if let AppSource::Tunnel(tunnel) = &mut self.source { tunnel.take() } else { None }
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.source, AppSource::Tunnel(_))
    }

    pub(crate) fn http2(body: h2::RecvStream, seat: Seat) -> AppBody {
        AppBody { source: AppSource::Http2 { body, _seat: seat }, open: None, ended: false }
    }

    pub(crate) fn notice(text: String) -> AppBody {
        let text = (!text.is_empty()).then(|| Bytes::from(text));
        AppBody { source: AppSource::Notice(text), open: None, ended: false }
    }

    /// Ties it to its request.
    pub(crate) fn belongs_to(&mut self, open: Rc<OpenRequest>) {
        self.open = Some(open);
    }

    /// It may be left unread for as long as its client likes.
    pub(crate) fn is_patient(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_patient())
    }

    /// It is ours and not the app's.
    pub(crate) fn is_notice(&self) -> bool {
        matches!(self.source, AppSource::Notice(_))
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.is_notice() && self.open.as_ref().is_some_and(|open| !open.is_trusted()) {
            // Whoever sends it down was told of the cut, and says so to the client.
            return Poll::Pending;
        }
        let frame = match &mut self.source {
            AppSource::Http1(body, _) => {
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into))
            }
            AppSource::Http2 { body, .. } => ready!(poll_stream(body, context)),
            AppSource::Notice(text) => return Poll::Ready(text.take().map(|bytes| Ok(Frame::data(bytes)))),
            AppSource::Tunnel(_) => return Poll::Ready(None),
        };
        self.ended = frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        if let (Some(Err(_)), Some(open)) = (&frame, &self.open)
            && open.connection.cut_reason().is_none()
        {
            // Counted once: nobody asks a body again after an error.
            let fault = if open.client_broke.get() { Fault::ClientGone } else { Fault::Broken };
            open.worker.metrics.app_fault(fault);
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| with_trailers(frame, prepare_response))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            AppSource::Http1(body, _) => body.is_end_stream(),
            AppSource::Http2 { body, .. } => body.is_end_stream(),
            AppSource::Notice(text) => text.is_none(),
            AppSource::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            AppSource::Http1(body, _) => body.size_hint(),
            AppSource::Http2 { body, .. } if body.is_end_stream() => SizeHint::with_exact(0),
            AppSource::Http2 { .. } => SizeHint::default(),
            AppSource::Tunnel(_) => SizeHint::with_exact(0),
            AppSource::Notice(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| u64::try_from(text.len()).unwrap_or(0)))
            }
        }
    }
}

impl Drop for AppBody {
    fn drop(&mut self) {
        let whole = self.ended || self.is_end_stream();
        let uploading = self.open.as_ref().is_some_and(|open| open.uploading.get());
        if let AppSource::Http1(_, lease) = &mut self.source
            && let Some(lease) = lease.take()
            && whole
            && !uploading
        {
            lease.give_back();
        }
        if uploading && let Some(open) = &self.open {
            open.remainder.answer_is_over();
        }
    }
}
