//! A worker: one thread and its own list of sessions.
//!
//! Started by `listener.rs`, which hands it sockets. Sessions never leave it, so there are no locks here. Who is trusted
//! no longer is ended by `sweep.rs`. The order that makes the race with a publish harmless: a session enters the list,
//! *then* it is judged; a publish stores the state, *then* wakes the sweep. Whichever comes first, one of the two sees
//! the other.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;
use tokio_rustls::server::TlsStream;
use trust::{Session, Time};

use crate::anew::anew;
use crate::app::App;
use crate::audit::{self, Ration};
use crate::bounds::Rations;
use crate::config::{Config, Limits, Protocol};
use crate::connection::Connection;
use crate::doorstep::Doorstep;
use crate::drain::{see_all_off, see_off};
use crate::gate::{Gate, GatedStream, Guarded};
use crate::handshake::{Facts, Porter};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::negotiated::Negotiated;
use crate::observe::{Observations, observe};
use crate::parting::Parting;
use crate::redirect::{Door, Doors};
use crate::shares::Shares;
use crate::socket::ClientSocket;
use crate::{http1, http2, preview, roll_call, roster, tcp};

/// An accepted socket on its way to a worker.
pub(crate) struct Arriving {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) inbound: usize,
}

/// What other threads see of a worker.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// Sockets and sessions it has.
    pub(crate) sessions: AtomicUsize,
    /// Handshakes under way in it.
    pub(crate) handshakes: AtomicUsize,
    /// Grows with each turn of its sweep.
    pub(crate) beats: AtomicU64,
}

/// One worker, on its own thread.
pub(crate) struct Worker {
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    /// How many there are.
    pub(crate) workers: usize,
    pub(crate) allow_connect: bool,
    pub(crate) observations: Observations,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) doors: Vec<Doors>,
    pub(crate) porter: Porter,
    pub(crate) shares: Shares,
    pub(crate) doorstep: Rc<Doorstep>,
    pub(crate) ration: Ration,
    pub(crate) bound_rations: Rations,
    pub(crate) connections: RefCell<Slab<Rc<Connection>>>,
    pub(crate) parting: Parting,
    /// The sweep sleeps until then at the latest.
    pub(crate) wake_at: Cell<Time>,
    pub(crate) sooner: Notify,
    stopping: Cell<bool>,
}

/// A session's place in its worker's list, held by the task that serves it. Dropped, the session is gone: counted
/// and logged, exactly once.
pub(crate) struct Registration {
    pub(crate) worker: Rc<Worker>,
    pub(crate) connection: Rc<Connection>,
    key: usize,
    /// From the publish or deadline that ended its trust to its last byte.
    cut_took: Cell<Option<Duration>>,
}

impl Registration {
    /// The last byte went out.
    pub(crate) fn sealed(&self) {
        if let Some(cut) = self.connection.cut_reason()
            && self.cut_took.get().is_none()
        {
            let took = cut.since.elapsed();
            self.cut_took.set(Some(took));
            self.worker.metrics.cut_done(took);
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
                audit::cut(connection, cut, &worker.live);
                cut.denial.label()
            }
            None => connection.ended().label(),
        };
        worker.metrics.session_closed(reason);
        audit::closed(connection, (reason, self.cut_took.get()), &worker.live);
    }
}

impl Worker {
    pub(crate) fn new(
        (config, shares): (&Config, Shares),
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        vitals: Arc<Vitals>,
    ) -> Rc<Worker> {
        let doors = |inbound| Doors::new(inbound, &config.limits, &shares.app_connections);
        Rc::new(Worker {
            doors: config.inbounds.iter().map(doors).collect(),
            porter: Porter::new(live.clone(), shares.identities.clone()),
            doorstep: Doorstep::new(config.limits.handshakes / config.workers.max(1), vitals.clone()),
            shares,
            limits: config.limits.clone(),
            workers: config.workers,
            allow_connect: config.allow_connect,
            live,
            metrics,
            observations: Observations::default(),
            vitals,
            ration: Ration::new(),
            bound_rations: Rations::new(),
            connections: RefCell::default(),
            parting: Parting::default(),
            wake_at: Cell::new(Time::NEVER),
            sooner: Notify::new(),
            stopping: Cell::new(false),
        })
    }

    pub(crate) fn app(&self, door: Door) -> Option<Rc<App>> {
        self.doors.get(door.inbound)?.apps.get(door.app).cloned()
    }

    /// Takes sockets until the acceptor is gone, then stops its sessions; returns when the last is closed.
    pub(crate) async fn run(
        self: Rc<Worker>,
        mut arrivals: mpsc::Receiver<Arriving>,
        (previews, questions): (preview::Mailbox, roster::Mailbox),
    ) {
        let worker = self.clone();
        let sweeping = spawn_local(anew(move || worker.clone().sweep_for_ever(worker.live.watch())));
        let previewing = spawn_local(preview::answer_for_ever(self.clone(), previews));
        let worker = self.clone();
        let parting = spawn_local(anew(move || {
            let worker = worker.clone();
            async move { worker.parting.let_go_for_ever().await }
        }));
        let telling = spawn_local(roll_call::answer_for_ever(self.clone(), questions));
        while let Some(arriving) = arrivals.recv().await {
            spawn_local(self.clone().welcome(arriving));
        }
        self.stopping.set(true);
        see_all_off(&self).await;
        sweeping.abort();
        previewing.abort();
        telling.abort();
        parting.abort();
    }

    /// Puts the session into the list, judges it there for the first time, and lets it be served.
    pub(crate) fn admit(
        self: &Rc<Worker>,
        from: (SocketAddr, Door),
        (stream, facts): (TlsStream<ClientSocket>, Facts),
        gate: Arc<Gate>,
    ) {
        let tls = stream.get_ref().1;
        let tcp = self.app(from.1).is_some_and(|app| matches!(app.protocol, Protocol::Tcp(_)));
        let http2 = !tcp && tls.alpn_protocol() == Some(b"h2");
        let protocol = match (tcp, http2) {
            (true, _) => "tcp",
            (_, true) => "http2",
            (..) => "http1",
        };
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
            Registration { worker: self.clone(), connection: connection.clone(), key, cut_took: Cell::default() };
        connection.negotiated.set(Negotiated::new(tls, protocol));
        audit::opened(&connection, &self.live, version, protocol);
        if let Err(denial) = connection.permit(&self.live, self.live.now()) {
            // Published between the handshake's verdict and this line.
            self.cut(&connection, denial);
        } else {
            self.wake_for(connection.judged().1.min(see_off(self, &connection)));
            observe(self, &connection);
        }
        if self.stopping.get() {
            // Its handshake was under way when the others were asked to end.
            connection.stop();
        }
        let stream = GatedStream::new(stream, Guarded { worker: self.clone(), connection });
        if tcp {
            spawn_local(tcp::serve(registration, stream));
        } else if http2 {
            spawn_local(http2::serve(registration, stream));
        } else {
            spawn_local(http1::serve(registration, stream));
        }
    }
}

fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
