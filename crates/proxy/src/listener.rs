//! Listening sockets, the acceptor's thread and the workers' threads.
//!
//! Called by [`crate::start`]. The acceptor hands each socket to the worker with the fewest, which finds a place for it
//! or refuses it (`entrance.rs`): a client left waiting in the kernel's queue would take a full house for a hang.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};

use crate::StartFailure;
use crate::accept_failures::AcceptFailures;
use crate::anew::anew;
use crate::config::Config;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::shares::Shares;
use crate::worker::{Arriving, Vitals, Worker};

/// The kernel's queue of connections that wait to be accepted, as large as Linux makes it (net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// Sockets on their way to one worker. What waits behind them waits in the kernel's queue.
const ARRIVALS: usize = 1024;
/// After an accept that failed for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// A worker's other end.
pub(crate) struct Desk {
    arrivals: mpsc::Sender<Arriving>,
    pub(crate) vitals: Arc<Vitals>,
}

/// Binds an address; `SO_REUSEADDR`, so that a restart need not wait for old connections to fade.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Runs `body` on a runtime of its own on a thread of its own; fails if either cannot be had.
/// What `body` comes to is dropped after the runtime with all its tasks.
fn on_thread<F: Future>(name: String, body: impl FnOnce() -> F + Send + 'static) -> Result<(), StartFailure> {
    let (started, start) = std::sync::mpsc::sync_channel::<io::Result<()>>(1);
    let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
        let runtime: io::Result<LocalRuntime> =
            Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                let last = runtime.block_on(body());
                drop(runtime);
                drop(last);
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    });
    let failed = |error: &dyn std::fmt::Display| {
        StartFailure(format!("cannot start the thread {name}: {error}; raise the limits on threads and open files"))
    };
    thread.map_err(|error| failed(&error))?;
    match start.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&"it ended at once")),
    }
}

/// Starts one worker. `gone` is dropped when its last session is closed.
pub(crate) fn start_worker(
    number: usize,
    (config, shares): (&Config, &Shares),
    (live, metrics): (&Arc<Live>, &Arc<Metrics>),
    gone: mpsc::Sender<()>,
) -> Result<Desk, StartFailure> {
    let vitals = Arc::new(Vitals::default());
    let (arrivals, received) = mpsc::channel(ARRIVALS);
    // Opened here, so that whoever asks once the traffic has started reaches every worker.
    let (config, shares, live, metrics) = (config.clone(), shares.clone(), live.clone(), metrics.clone());
    let (mailboxes, shared) = (live.mailboxes(), vitals.clone());
    on_thread(format!("worker-{number}"), move || async move {
        Worker::new((&config, shares), live, metrics, shared).run(received, mailboxes).await;
        gone
    })?;
    Ok(Desk { arrivals, vitals })
}

/// Starts the acceptor, which ends, and with it the workers' arrivals, when `stop` changes.
pub(crate) fn start_acceptor(
    listeners: Vec<TcpListener>,
    (desks, shares): (Vec<Desk>, Shares),
    (metrics, descriptors): (&Arc<Metrics>, u64),
    stop: watch::Receiver<bool>,
) -> Result<(), StartFailure> {
    let metrics = metrics.clone();
    on_thread("acceptor".to_owned(), move || async move {
        let desks = Arc::new(desks);
        let mut tasks = tokio::task::JoinSet::new();
        for (inbound, listener) in listeners.into_iter().enumerate() {
            let (desks, shares, mut stop) = (desks.clone(), shares.clone(), stop.clone());
            let failures = AcceptFailures::new(metrics.clone(), descriptors);
            tasks.spawn_local(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = stop.wait_for(|stopping| *stopping) => {}
                    () = anew(|| accept_for_ever((&listener, inbound), (&desks, &shares), &failures)) => {}
                }
                accept_rest(listener, inbound, (&desks, &shares));
            });
        }
        while tasks.join_next().await.is_some() {}
    })
}

async fn accept_for_ever(
    (listener, inbound): (&tokio::net::TcpListener, usize),
    (desks, shares): (&[Desk], &Shares),
    failures: &AcceptFailures,
) {
    loop {
        let accepted = listener.accept().await.and_then(|(socket, peer)| Ok((socket.into_std()?, peer)));
        match accepted {
            Ok((socket, _)) if !failures.leaves_enough(&socket) => {}
            Ok((socket, peer)) => {
                failures.recovered();
                if let Some(desk) = best(desks, shares.connections.available_permits() == 0) {
                    // Counted here, or a burst would all go to the one that had the fewest before it.
                    desk.vitals.sessions.fetch_add(1, Ordering::Relaxed);
                    // A worker that is gone drops the socket; `Running::alive` says so.
                    let _ = desk.arrivals.send(Arriving { socket, peer, inbound }).await;
                }
            }
            Err(error) => {
                failures.failed(&error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The kernel shook hands with whoever waits in its queue, and would reset them all when the socket is closed: they
/// are let in, and asked to leave by their first answer. As many as the queue holds: there may be no end of them.
fn accept_rest(listener: tokio::net::TcpListener, inbound: usize, (desks, shares): (&[Desk], &Shares)) {
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok((socket, peer)) = listener.accept() else { return };
        let full = shares.connections.available_permits() == 0;
        let Some(desk) = best(desks, full).filter(|_| socket.set_nonblocking(true).is_ok()) else { continue };
        // Counted before it is taken: the worker counts back at its end.
        desk.vitals.sessions.fetch_add(1, Ordering::Relaxed);
        if desk.arrivals.try_send(Arriving { socket, peer, inbound }).is_err() {
            desk.vitals.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The worker with the fewest sockets and sessions, of those that take more: one that is stuck stops nobody. In a full
/// house the one with the most handshakes under way, where somebody silent may go for whoever comes.
fn best(desks: &[Desk], full: bool) -> Option<&Desk> {
    let sessions = |desk: &&Desk| desk.vitals.sessions.load(Ordering::Relaxed);
    let handshakes = |desk: &&Desk| desk.vitals.handshakes.load(Ordering::Relaxed);
    let takes = || desks.iter().filter(|desk| desk.arrivals.capacity() > 0);
    let best = if full { takes().max_by_key(handshakes) } else { takes().min_by_key(sessions) };
    best.or_else(|| desks.iter().min_by_key(sessions))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Limits;

    #[tokio::test]
    async fn a_burst_is_shared_out_before_any_worker_had_its_turn() {
        let listener = tokio::net::TcpListener::from_std(bind(([127, 0, 0, 1], 0).into()).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (first, mut one) = mpsc::channel(ARRIVALS);
        let (second, mut two) = mpsc::channel(ARRIVALS);
        let desks = [first, second].map(|arrivals| Desk { arrivals, vitals: Arc::default() });
        let _clients: Vec<_> = (0..10).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let failures = AcceptFailures::new(Arc::new(Metrics::new("0.0.0-test").unwrap()), 1 << 20);
        let shares = Shares::new(&Limits::default());
        let shared_out = async {
            for _ in 0..5 {
                one.recv().await.unwrap();
                two.recv().await.unwrap();
            }
        };
        tokio::select! {
            () = accept_for_ever((&listener, 0), (&desks, &shares), &failures) => {}
            shared = tokio::time::timeout(Duration::from_secs(20), shared_out) => shared.unwrap(),
        }
        assert_eq!(desks.map(|desk| desk.vitals.sessions.load(Ordering::Relaxed)), [5, 5]);
    }

    #[tokio::test]
    async fn whoever_waits_in_the_kernels_queue_when_the_listening_ends_is_let_in() {
        let listener = tokio::net::TcpListener::from_std(bind(([127, 0, 0, 1], 0).into()).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (arrivals, mut arrived) = mpsc::channel(ARRIVALS);
        let clients: Vec<_> = (0..10).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let desk = Desk { arrivals, vitals: Arc::default() };
        accept_rest(listener, 0, (&[desk], &Shares::new(&Limits::default())));
        for _ in &clients {
            arrived.recv().await.unwrap();
        }
        assert!(std::net::TcpStream::connect(address).is_err(), "the address is still listened on");
    }
}
