//! Listening sockets, the acceptor's thread and the workers' threads.
//!
//! Called by [`crate::start`]. The acceptor takes a slot before it accepts, so that a full house leaves new clients
//! in the kernel's queue, and hands each socket to the worker with the fewest.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::StartFailure;
use crate::accept_failures::AcceptFailures;
use crate::config::Config;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::worker::{Arriving, Vitals, Worker};

/// The kernel's queue of connections that wait to be accepted, as large as Linux makes it (net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// After an accept that failed for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// A worker's other end.
pub(crate) struct Desk {
    arrivals: mpsc::UnboundedSender<Arriving>,
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
    config: &Config,
    (live, metrics): (&Arc<Live>, &Arc<Metrics>),
    gone: mpsc::Sender<()>,
) -> Result<Desk, StartFailure> {
    let vitals = Arc::new(Vitals::default());
    let (arrivals, received) = mpsc::unbounded_channel();
    // Opened here, so that whoever asks once the traffic has started reaches every worker.
    let mailboxes = live.mailboxes();
    let (config, live, metrics, shared) = (config.clone(), live.clone(), metrics.clone(), vitals.clone());
    on_thread(format!("worker-{number}"), move || async move {
        Worker::new(&config, live, metrics, shared).run(received, mailboxes).await;
        gone
    })?;
    Ok(Desk { arrivals, vitals })
}

/// Starts the acceptor, which ends, and with it the workers' arrivals, when `stop` changes.
pub(crate) fn start_acceptor(
    listeners: Vec<TcpListener>,
    desks: Vec<Desk>,
    (config, metrics): (&Config, &Arc<Metrics>),
    stop: watch::Receiver<bool>,
) -> Result<(), StartFailure> {
    let slots = Arc::new(Semaphore::new(config.limits.connections));
    let (handshakes, metrics) = (Arc::new(Semaphore::new(config.limits.handshakes)), metrics.clone());
    on_thread("acceptor".to_owned(), move || async move {
        let desks = Arc::new(desks);
        let mut tasks = tokio::task::JoinSet::new();
        for (inbound, listener) in listeners.into_iter().enumerate() {
            let (slots, handshakes) = (slots.clone(), handshakes.clone());
            let (desks, mut stop, failures) = (desks.clone(), stop.clone(), AcceptFailures::new(metrics.clone()));
            tasks.spawn_local(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = stop.wait_for(|stopping| *stopping) => {}
                    () = accept_for_ever((&listener, inbound), &desks, &failures, (slots.clone(), handshakes.clone())) => {}
                }
                accept_rest(listener, inbound, &desks, (slots, handshakes));
            });
        }
        while tasks.join_next().await.is_some() {}
    })
}

async fn accept_for_ever(
    (listener, inbound): (&tokio::net::TcpListener, usize),
    desks: &[Desk],
    failures: &AcceptFailures,
    (slots, handshakes): (Arc<Semaphore>, Arc<Semaphore>),
) {
    loop {
        let (Ok(slot), Ok(handshake_slot)) =
            (slots.clone().acquire_owned().await, handshakes.clone().acquire_owned().await)
        else {
            return;
        };
        let accepted = listener.accept().await.and_then(|(socket, peer)| Ok((socket.into_std()?, peer)));
        match accepted {
            Ok((socket, peer)) => {
                failures.recovered();
                hand_over(Arriving { socket, peer, inbound, slot, handshake_slot }, desks);
            }
            Err(error) => {
                failures.failed(&error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The kernel shook hands with whoever waits in its queue, and would reset them all when the socket is closed: they
/// are let in, and asked to leave by their first answer.
fn accept_rest(
    listener: tokio::net::TcpListener,
    inbound: usize,
    desks: &[Desk],
    (slots, handshakes): (Arc<Semaphore>, Arc<Semaphore>),
) {
    let Ok(listener) = listener.into_std() else { return };
    while let (Ok(slot), Ok(handshake_slot)) =
        (slots.clone().try_acquire_owned(), handshakes.clone().try_acquire_owned())
        && let Ok((socket, peer)) = listener.accept()
    {
        if socket.set_nonblocking(true).is_ok() {
            hand_over(Arriving { socket, peer, inbound, slot, handshake_slot }, desks);
        }
    }
}

/// To the worker with the fewest.
fn hand_over(arriving: Arriving, desks: &[Desk]) {
    let freest = desks.iter().min_by_key(|desk| desk.vitals.sessions.load(Ordering::Relaxed));
    if let Some(desk) = freest {
        // Counted here, or a burst would all go to the one that had the fewest before it.
        desk.vitals.sessions.fetch_add(1, Ordering::Relaxed);
        // A worker that is gone drops the socket; `Running::alive` says so.
        let _ = desk.arrivals.send(arriving);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_burst_is_shared_out_before_any_worker_had_its_turn() {
        let listener = tokio::net::TcpListener::from_std(bind(([127, 0, 0, 1], 0).into()).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (first, mut one) = mpsc::unbounded_channel();
        let (second, mut two) = mpsc::unbounded_channel();
        let desks = [first, second].map(|arrivals| Desk { arrivals, vitals: Arc::default() });
        let _clients: Vec<_> = (0..10).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let slots = || Arc::new(Semaphore::new(100));
        let failures = AcceptFailures::new(Arc::new(Metrics::new("0.0.0-test").unwrap()));
        let shared_out = async {
            for _ in 0..5 {
                one.recv().await.unwrap();
                two.recv().await.unwrap();
            }
        };
        tokio::select! {
            () = accept_for_ever((&listener, 0), &desks, &failures, (slots(), slots())) => {}
            shared = tokio::time::timeout(Duration::from_secs(20), shared_out) => shared.unwrap(),
        }
        assert_eq!(desks.map(|desk| desk.vitals.sessions.load(Ordering::Relaxed)), [5, 5]);
    }

    #[tokio::test]
    async fn whoever_waits_in_the_kernels_queue_when_the_listening_ends_is_let_in() {
        let listener = tokio::net::TcpListener::from_std(bind(([127, 0, 0, 1], 0).into()).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (arrivals, mut arrived) = mpsc::unbounded_channel();
        let clients: Vec<_> = (0..10).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let desk = Desk { arrivals, vitals: Arc::default() };
        accept_rest(listener, 0, &[desk], (Arc::new(Semaphore::new(100)), Arc::new(Semaphore::new(100))));
        for _ in &clients {
            arrived.recv().await.unwrap();
        }
        assert!(std::net::TcpStream::connect(address).is_err(), "the address is still listened on");
    }
}
