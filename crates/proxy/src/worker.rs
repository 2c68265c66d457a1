//! A worker: one thread, its own list of sessions, and the sweep that ends those whose trust ended.
//!
//! Started by `listener.rs`, which hands it sockets. Sessions never leave it, so there are no locks here. The order
//! that makes the race with a publish harmless: a session enters the list, *then* it is judged; a publish stores
//! the state, *then* wakes the sweep. Whichever comes first, one of the two sees the other.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tokio::task::{spawn_local, yield_now};
use tokio_rustls::server::TlsStream;
use trust::{Denial, Session, Time};

use crate::app::App;
use crate::audit::{self, Ration};
use crate::clock::monotonic;
use crate::config::{Config, Limits};
use crate::connection::Connection;
use crate::gate::{Gate, GatedStream};
use crate::handshake::{Facts, Porter, Refusal};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::observe::{Observations, observe, observe_all};
use crate::preview::{self, Mailbox};
use crate::socket::ClientSocket;
use crate::{http1, http2};

/// Sessions judged before other tasks of the worker get their turn: at 0.3 to 1 µs each, well below 1 ms.
const SLICE: usize = 512;
/// The longest sleep of the sweep: how late a jump of the wall clock is noticed, and the beat of a worker's heart.
const BEAT: Duration = Duration::from_secs(1);

/// The shortest: below it a worker would do nothing but look for sessions to park.
const PARK_BEAT: Duration = Duration::from_millis(10);

/// An accepted socket on its way to a worker.
pub(crate) struct Arriving {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) inbound: usize,
    pub(crate) slot: OwnedSemaphorePermit,
    pub(crate) handshake_slot: OwnedSemaphorePermit,
}

/// What other threads see of a worker.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// Sockets and sessions it has.
    pub(crate) sessions: AtomicUsize,
    /// Grows with each turn of its sweep.
    pub(crate) beats: AtomicU64,
}

/// One worker, on its own thread.
pub(crate) struct Worker {
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    pub(crate) observations: Observations,
    vitals: Arc<Vitals>,
    apps: Vec<Rc<App>>,
    porter: Porter,
    ration: Ration,
    connections: RefCell<Slab<Rc<Connection>>>,
    /// The sweep sleeps until then at the latest.
    wake_at: Cell<Time>,
    sooner: Notify,
    empty: Notify,
    stopping: Cell<bool>,
}

/// A session's place in its worker's list, held by the task that serves it. Dropped, the session is gone: counted
/// and logged, exactly once.
pub(crate) struct Registration {
    pub(crate) worker: Rc<Worker>,
    pub(crate) connection: Rc<Connection>,
    key: usize,
    measured: Cell<bool>,
}

impl Registration {
    /// The last byte went out.
    pub(crate) fn sealed(&self) {
        if let Some(cut) = self.connection.cut_reason()
            && !self.measured.replace(true)
        {
            self.worker.metrics.cut_done(cut.since.elapsed());
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sealed();
        let (worker, connection) = (&self.worker, &self.connection);
        // A request may have passed under an epoch whose sweep did not come by any more.
        observe(worker, connection);
        worker.connections.borrow_mut().try_remove(self.key);
        worker.vitals.sessions.fetch_sub(1, Ordering::Relaxed);
        let reason = match connection.cut_reason() {
            Some(cut) => {
                audit::cut(connection, &cut.denial, &worker.live);
                cut.denial.label()
            }
            None => connection.ended().label(),
        };
        worker.metrics.session_closed(reason);
        audit::closed(connection, reason, &worker.live);
        if worker.connections.borrow().is_empty() {
            worker.empty.notify_waiters();
        }
    }
}

impl Worker {
    pub(crate) fn new(config: &Config, live: Arc<Live>, metrics: Arc<Metrics>, vitals: Arc<Vitals>) -> Rc<Worker> {
        Rc::new(Worker {
            apps: config.inbounds.iter().map(|inbound| App::new(inbound, &config.limits)).collect(),
            porter: Porter::new(live.clone()),
            limits: config.limits.clone(),
            live,
            metrics,
            observations: Observations::default(),
            vitals,
            ration: Ration::new(),
            connections: RefCell::default(),
            wake_at: Cell::new(Time::NEVER),
            sooner: Notify::new(),
            empty: Notify::new(),
            stopping: Cell::new(false),
        })
    }

    pub(crate) fn app(&self, inbound: usize) -> Option<Rc<App>> {
        self.apps.get(inbound).cloned()
    }

    /// Takes sockets until the acceptor is gone, then stops its sessions; returns when the last is closed.
    pub(crate) async fn run(self: Rc<Worker>, mut arrivals: mpsc::UnboundedReceiver<Arriving>, mailbox: Mailbox) {
        let sweeping = spawn_local(self.clone().sweep_for_ever(self.live.watch()));
        let previewing = spawn_local(preview::answer_for_ever(self.clone(), mailbox));
        while let Some(arriving) = arrivals.recv().await {
            spawn_local(self.clone().welcome(arriving));
        }
        self.stop().await;
        sweeping.abort();
        previewing.abort();
    }

    async fn stop(&self) {
        self.stopping.set(true);
        let all: Vec<_> = self.connections.borrow().iter().map(|(_, connection)| connection.clone()).collect();
        for connection in &all {
            connection.stop();
        }
        drop(all);
        let gone = async {
            loop {
                let empty = self.empty.notified();
                if self.connections.borrow().is_empty() {
                    return;
                }
                empty.await;
            }
        };
        if tokio::time::timeout(self.limits.stop, gone).await.is_err() {
            // Whoever is left is closed by the end of the worker's runtime, and no answer may look whole by that.
            self.connections.borrow().iter().for_each(|(_, connection)| connection.gate.shut());
        }
    }

    /// From a socket to a session that is served.
    async fn welcome(self: Rc<Worker>, arriving: Arriving) {
        let Arriving { socket, peer, inbound, slot, handshake_slot } = arriving;
        let (started, gate) = (monotonic(), Arc::new(Gate::default()));
        let shaken = tokio::time::timeout(self.limits.handshake, self.shake_hands((socket, slot), &gate)).await;
        drop(handshake_slot);
        match shaken.unwrap_or(Err(Refusal::TimedOut)) {
            Ok((stream, facts)) => {
                self.metrics.handshake("ok", Some(started.elapsed()));
                self.admit((peer, inbound), (stream, facts), gate);
            }
            Err(refusal) => {
                self.vitals.sessions.fetch_sub(1, Ordering::Relaxed);
                self.metrics.handshake(refusal.label(), None);
                self.ration.refused(peer, &refusal, &self.live);
            }
        }
    }

    async fn shake_hands(
        &self,
        (socket, slot): (std::net::TcpStream, OwnedSemaphorePermit),
        gate: &Arc<Gate>,
    ) -> Result<(TlsStream<ClientSocket>, Facts), Refusal> {
        let socket = TcpStream::from_std(socket).and_then(|socket| ClientSocket::new(socket, gate.clone(), slot));
        let socket = socket.map_err(|_| Refusal::ClientGone)?;
        let (stream, facts) = self.porter.shake_hands(socket).await?;
        if facts.introduces {
            // Half of the handshake's deadline, so that the client learns its status instead of a timeout.
            let _ = tokio::time::timeout(self.limits.handshake / 2, self.porter.until_indexed(&facts.chain)).await;
        }
        Ok((stream, facts))
    }

    /// Puts the session into the list, judges it there for the first time, and lets it be served.
    fn admit(
        self: &Rc<Worker>,
        from: (SocketAddr, usize),
        (stream, facts): (TlsStream<ClientSocket>, Facts),
        gate: Arc<Gate>,
    ) {
        let tls = stream.get_ref().1;
        let http2 = tls.alpn_protocol() == Some(b"h2");
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let session = Session::new(facts.chain, facts.presented, self.live.now());
        let mut connections = self.connections.borrow_mut();
        let place = connections.vacant_entry();
        let key = place.key();
        let connection = Rc::new(Connection::new(next_id(), from, session, gate.clone()));
        place.insert(connection.clone());
        drop(connections);
        self.metrics.session_opened();
        let registration =
            Registration { worker: self.clone(), connection: connection.clone(), key, measured: Cell::new(false) };
        audit::opened(&connection, &self.live, version, if http2 { "http2" } else { "http1" });
        if let Err(denial) = connection.permit(&self.live, self.live.now()) {
            // Published between the handshake's verdict and this line.
            self.cut(&connection, denial);
        } else {
            self.wake_for(connection.judged().1);
            observe(self, &connection);
        }
        if self.stopping.get() {
            // Its handshake was under way when the others were asked to end.
            connection.stop();
        }
        let stream = GatedStream::new(stream, gate);
        if http2 {
            spawn_local(http2::serve(registration, stream));
        } else {
            spawn_local(http1::serve(registration, stream));
        }
    }

    /// Ends a session, once.
    pub(crate) fn cut(&self, connection: &Connection, denial: Denial) {
        if connection.cut_reason().is_none() {
            self.metrics.cut(&denial);
            connection.cut(denial, self.trust_ended(connection));
        }
    }

    /// When the trust of a session that is denied now ended: by a publish since it was judged last, or else by a
    /// deadline that passed since. Of one that was denied at its beginning, then: no byte of it passed before.
    fn trust_ended(&self, connection: &Connection) -> Instant {
        let published = self.live.current();
        let (epoch, until) = connection.judged();
        let ended = if epoch == published.state.epoch {
            monotonic().checked_sub(self.live.now().since(until)).unwrap_or(published.at)
        } else {
            published.at
        };
        ended.max(connection.opened)
    }

    fn wake_for(&self, until: Time) {
        if until < self.wake_at.get() {
            self.wake_at.set(until);
            self.sooner.notify_one();
        }
    }

    async fn sweep_for_ever(self: Rc<Worker>, mut changes: watch::Receiver<u64>) {
        let (mut tidied, mut rest) = (monotonic(), BEAT);
        loop {
            self.vitals.beats.fetch_add(1, Ordering::Relaxed);
            changes.mark_unchanged();
            self.sweep().await;
            observe_all(&self).await;
            if tidied.elapsed() >= rest {
                tidied = monotonic();
                rest = if self.tidy() { self.limits.park_after.clamp(PARK_BEAT, BEAT) } else { BEAT };
            }
            let wait = self.wake_at.get().since(self.live.now()).min(rest);
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                () = self.sooner.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Judges every session that the current state or time could have ended, and cuts those it did. Sessions that
    /// come in meanwhile are judged as they come.
    async fn sweep(&self) {
        self.wake_at.set(Time::NEVER);
        let mut key = 0;
        let mut judged = 0;
        while let Some(connection) = self.connection_from(&mut key) {
            judged += usize::from(self.look_at(&connection));
            if judged >= SLICE {
                judged = 0;
                yield_now().await;
            }
        }
    }

    /// The first session in the list from this key on; the key goes on behind it.
    pub(crate) fn connection_from(&self, key: &mut usize) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let bound = connections.capacity();
        while *key < bound && !connections.contains(*key) {
            *key += 1;
        }
        let found = connections.get(*key).cloned();
        *key += 1;
        found
    }

    /// Judges one session if need be; whether there was.
    fn look_at(&self, connection: &Rc<Connection>) -> bool {
        if connection.cut_reason().is_some() {
            return false;
        }
        let now = self.live.now();
        let (epoch, until) = connection.judged();
        let due = now >= until;
        if epoch == self.live.epoch() && !due {
            self.wake_at.set(self.wake_at.get().min(until));
            return false;
        }
        let published = self.live.current();
        match connection.review(&published, now) {
            Ok(_permit) => self.wake_at.set(self.wake_at.get().min(connection.judged().1)),
            Err(denial) => self.cut(connection, denial),
        }
        true
    }

    /// Lets quiet sessions park or time out, and idle connections to the apps go; whether any session may have to
    /// be looked at again soon.
    fn tidy(&self) -> bool {
        for app in &self.apps {
            app.tidy();
        }
        let mut restless = false;
        for (_, connection) in self.connections.borrow().iter() {
            let quiet = connection.quiet_since().is_some_and(|since| since.elapsed() >= self.limits.park_after);
            restless |= !connection.is_parked();
            if quiet && !connection.is_parked() {
                connection.signal.notify_waiters();
            }
        }
        restless
    }
}

fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
