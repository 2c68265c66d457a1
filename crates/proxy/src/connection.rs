//! A live session: the trust session of one connection, its gate, and its end.
//!
//! Held by its worker's list and by the tasks that serve it, all on one thread. The cut begins and ends here;
//! how each protocol tells it is in `http1.rs` and `http2.rs`.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use trust::{Denial, Permit, Session, Time, judge};

use crate::clock::monotonic;
use crate::drain::{Departure, Leaving};
use crate::frames::Frames;
use crate::gate::Gate;
use crate::headers::IdentityHeaders;
use crate::live::{Live, Published};
use crate::negotiated::Negotiated;
use crate::observe::Observation;
use crate::path::over_any_path;
use crate::redirect::Door;
use crate::roster::Order;
use crate::sieve::Ours;

/// Why trust ended, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) denial: Denial,
    /// The publish, the moment or the order that ended it.
    pub(crate) since: Instant,
    /// Of the operator who ended it.
    pub(crate) order: Option<Arc<Order>>,
}

/// How a session that was not cut ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed it.
    Client,
    /// It broke: a reset, a protocol violation.
    Error,
    /// It kept a request head or a close open for too long.
    Timeout,
    /// The proxy stops.
    Stop,
    /// It was asked to leave before its planned end, and did.
    Drained,
    /// It did more than it may.
    Limit,
}

impl End {
    pub(crate) fn label(self) -> &'static str {
        match self {
            End::Client => "client",
            End::Error => "error",
            End::Timeout => "timeout",
            End::Stop => "stop",
            End::Drained => "drained",
            End::Limit => "limit",
        }
    }
}

/// One live session.
pub(crate) struct Connection {
    /// Unique in this process, for logs.
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    /// Where it came in, and which app it is for.
    pub(crate) door: Door,
    pub(crate) gate: Arc<Gate>,
    /// What changes when something happened that its task must look at: a cut, a stop, a wish to park, an interim
    /// response. Sync, because hyper's callback for interim responses is.
    pub(crate) signal: Arc<Notify>,
    pub(crate) opened: Instant,
    pub(crate) observation: Observation,
    pub(crate) negotiated: Cell<Negotiated>,
    pub(crate) departure: Cell<Departure>,
    session: RefCell<Rc<Session>>,
    cut: OnceCell<Cut>,
    stopping: Cell<bool>,
    pub(crate) leaving: Cell<Leaving>,
    /// Since when it only waits for the client to close its side.
    pub(crate) lingers_since: Cell<Option<Instant>>,
    open_requests: Cell<u32>,
    requests: Cell<u64>,
    /// When the last request ended, or the handshake.
    quiet_since: Cell<Instant>,
    parked: Cell<bool>,
    turns: Cell<u64>,
    end: Cell<End>,
    /// Open requests whose bodies may be silent for as long as they like.
    patient_requests: Cell<u32>,
    /// Bytes are on their way that the kernel does not take: how many had gone before, and since when.
    stuck: Cell<Option<(u64, Instant)>>,
    frames: OnceCell<Rc<Frames>>,
    identity_headers: RefCell<Option<Rc<IdentityHeaders>>>,
}

impl Connection {
    pub(crate) fn new(id: u64, (peer, door): (SocketAddr, Door), session: Session, gate: Arc<Gate>) -> Connection {
        Connection {
            id,
            peer,
            door,
            gate,
            signal: Arc::new(Notify::new()),
            opened: monotonic(),
            observation: Observation::default(),
            negotiated: Cell::default(),
            departure: Cell::new(Departure::NONE),
            session: RefCell::new(Rc::new(session)),
            cut: OnceCell::new(),
            stopping: Cell::new(false),
            leaving: Cell::new(Leaving::No),
            lingers_since: Cell::new(None),
            open_requests: Cell::new(0),
            requests: Cell::new(0),
            quiet_since: Cell::new(monotonic()),
            parked: Cell::new(false),
            turns: Cell::new(0),
            end: Cell::new(End::Client),
            patient_requests: Cell::new(0),
            stuck: Cell::new(None),
            frames: OnceCell::new(),
            identity_headers: RefCell::new(None),
        }
    }

    pub(crate) fn session(&self) -> Rc<Session> {
        self.session.borrow().clone()
    }

    /// A permit for one request, now. The fast path compares an epoch and a time.
    pub(crate) fn permit(&self, live: &Live, now: Time) -> Result<Permit, Denial> {
        if let Some(cut) = self.cut.get() {
            return Err(cut.denial.clone());
        }
        if let Some(permit) = self.session.borrow().still_permitted(live.epoch(), now) {
            return Ok(permit);
        }
        self.review(&live.current(), now)
    }

    /// Whether the last judgement still holds, and it was not cut.
    pub(crate) fn still_holds(&self, live: &Live) -> bool {
        self.cut.get().is_none() && self.session.borrow().still_permitted(live.epoch(), live.now()).is_some()
    }

    /// Whether it was judged since the last publish, and not cut.
    pub(crate) fn is_judged_under(&self, epoch: u64) -> bool {
        self.cut.get().is_none() && self.session.borrow().memo().epoch() == epoch
    }

    /// Judges again in full. A session whose anchor left the bundle, or lost its right to speak, lives on if
    /// another path from its certificates verifies.
    pub(crate) fn review(&self, published: &Published, now: Time) -> Result<Permit, Denial> {
        let state = &published.state;
        let (permit, again) = over_any_path(&self.session(), (state, now), |session| judge(session, state, now))?;
        if let Some(again) = again {
            self.identity_headers.replace(None);
            self.session.replace(Rc::new(again));
        }
        Ok(permit)
    }

    /// The last judgement's range: its epoch and the first moment that it does not cover.
    pub(crate) fn judged(&self) -> (u64, Time) {
        let memo = self.session.borrow().memo();
        (memo.epoch(), memo.until())
    }

    /// Ends it: shuts the gate for everything but a notice. What is cut stays cut; whoever cuts it wakes its task, at once
    /// or in its turn (`parting.rs`).
    pub(crate) fn cut(&self, denial: Denial, since: Instant) {
        self.cut_for(Cut { denial, since, order: None });
    }

    /// The same because an operator wants it.
    pub(crate) fn end_by(&self, order: Arc<Order>, since: Instant) {
        self.cut_for(Cut { denial: Denial::Ended, since: since.max(self.opened), order: Some(order) });
    }

    fn cut_for(&self, cut: Cut) {
        if self.cut.set(cut).is_ok() {
            self.gate.cut();
        }
    }

    pub(crate) fn cut_reason(&self) -> Option<&Cut> {
        self.cut.get()
    }

    /// The proxy stops: however it ends from now on, it ends for that.
    pub(crate) fn stop(&self) {
        if !self.stopping.replace(true) {
            self.signal.notify_waiters();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether its protocol has words for a wish to go; bytes have none.
    pub(crate) fn can_be_asked(&self) -> bool {
        self.negotiated.get().protocol() != "tcp"
    }

    /// Returns when the session is cut.
    pub(crate) async fn until_cut(&self) -> &Cut {
        loop {
            let changed = self.signal.notified();
            if let Some(cut) = self.cut.get() {
                return cut;
            }
            changed.await;
        }
    }

    /// Returns when the session is cut, or to be closed while it is idle.
    pub(crate) async fn until_closing(&self) {
        loop {
            let changed = self.signal.notified();
            if self.cut.get().is_some() || self.leaving.get() >= Leaving::Closing {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn request_began(&self) {
        self.requests.set(self.requests.get() + 1);
        self.open_requests.set(self.open_requests.get() + 1);
        self.session.borrow().busy();
    }

    pub(crate) fn request_ended(&self, live: &Live) {
        let left = self.open_requests.get().saturating_sub(1);
        self.open_requests.set(left);
        if left == 0 {
            self.quiet_since.set(monotonic());
            self.session.borrow().idle(live.now());
        }
    }

    /// Bytes of a tunnel passed: its session's idle time begins anew, though its one request stays open.
    pub(crate) fn carried(&self, now: Time) {
        self.session.borrow().idle(now);
    }

    pub(crate) fn open_requests(&self) -> u32 {
        self.open_requests.get()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Since when no request is open; `None` while one is.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        (self.open_requests.get() == 0).then(|| self.quiet_since.get())
    }

    /// A byte arrived at a parked session: its wait for a whole request head begins now.
    pub(crate) fn stirred(&self) {
        self.quiet_since.set(monotonic());
        self.gate.stirred();
    }

    pub(crate) fn parked(&self, parked: bool) {
        self.parked.set(parked);
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked.get()
    }

    /// h2 had its turn: what its streams had given it until then was handed to the kernel.
    pub(crate) fn turned(&self) {
        self.turns.set(self.turns.get().wrapping_add(1));
    }

    /// The number of such turns.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// It ends in this way; what was said first stays, since the rest follows from it.
    pub(crate) fn end(&self, end: End) {
        if self.end.get() == End::Client {
            self.end.set(end);
        }
    }

    /// One more open request whose bodies may be silent, or one less.
    pub(crate) fn patient_request(&self, open: bool) {
        let count = self.patient_requests.get();
        self.patient_requests.set(if open { count + 1 } else { count.saturating_sub(1) });
    }

    /// It speaks HTTP/2, and these are its frames.
    pub(crate) fn speaks_in(&self, frames: &Rc<Frames>) {
        let _ = self.frames.set(Rc::clone(frames));
    }

    /// Its frames, if it speaks HTTP/2.
    pub(crate) fn frames(&self) -> Option<&Rc<Frames>> {
        self.frames.get()
    }

    /// Something is ours on an HTTP/2 stream; until it is cut, that makes no difference.
    pub(crate) fn says(&self, stream: u32, what: Ours) {
        if let Some(frames) = self.frames().filter(|_| self.cut.get().is_some()) {
            frames.is_ours(stream, what);
        }
    }

    /// How long the client has taken no byte of those on their way to it; to be asked now and again.
    pub(crate) fn stuck_for(&self) -> Duration {
        if !self.gate.is_blocked() || self.patient_requests.get() > 0 {
            self.stuck.set(None);
            return Duration::ZERO;
        }
        let sent = self.gate.sent();
        match self.stuck.get() {
            Some((before, since)) if before == sent => since.elapsed(),
            Some(_) | None => {
                self.stuck.set(Some((sent, monotonic())));
                Duration::ZERO
            }
        }
    }

    /// How it ended; whatever ends while the proxy stops ends for that.
    pub(crate) fn ended(&self) -> End {
        match self.end.get() {
            _ if self.stopping.get() => End::Stop,
            End::Client if self.is_leaving() => End::Drained,
            end @ (End::Client | End::Error | End::Timeout | End::Stop | End::Drained | End::Limit) => end,
        }
    }

    /// The identity headers of its requests.
    pub(crate) fn identity_headers(&self) -> Option<Rc<IdentityHeaders>> {
        let mut cached = self.identity_headers.borrow_mut();
        if cached.is_none() {
            *cached = IdentityHeaders::new(&self.session.borrow(), self.peer.ip()).map(Rc::new);
        }
        cached.clone()
    }

    /// Gives back what can be made again; a parked session holds facts and a TLS stream.
    pub(crate) fn slim(&self) {
        self.identity_headers.replace(None);
    }
}
