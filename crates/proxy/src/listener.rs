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
fn on_thread<F>(name: String, body: impl FnOnce() -> F + Send + 'static) -> Result<(), StartFailure>
where
    F: Future<Output = ()>,
{
    let (started, start) = std::sync::mpsc::sync_channel::<io::Result<()>>(1);
    let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
        let runtime: io::Result<LocalRuntime> =
            Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                runtime.block_on(body());
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
    let (config, live, metrics, shared) = (config.clone(), live.clone(), metrics.clone(), vitals.clone());
    on_thread(format!("worker-{number}"), move || async move {
        Worker::new(&config, live, metrics, shared).run(received).await;
        drop(gone);
    })?;
    Ok(Desk { arrivals, vitals })
}

/// Starts the acceptor, which ends, and with it the workers' arrivals, when `stop` changes.
pub(crate) fn start_acceptor(
    listeners: Vec<TcpListener>,
    desks: Vec<Desk>,
    config: &Config,
    stop: watch::Receiver<bool>,
) -> Result<(), StartFailure> {
    let slots = Arc::new(Semaphore::new(config.limits.connections));
    let handshakes = Arc::new(Semaphore::new(config.limits.handshakes));
    on_thread("acceptor".to_owned(), move || async move {
        let desks = Arc::new(desks);
        let mut tasks = tokio::task::JoinSet::new();
        for (inbound, listener) in listeners.into_iter().enumerate() {
            let (slots, handshakes) = (slots.clone(), handshakes.clone());
            let (desks, mut stop) = (desks.clone(), stop.clone());
            tasks.spawn_local(async move {
                tokio::select! {
                    _ = stop.wait_for(|stopping| *stopping) => {}
                    () = accept_for_ever(listener, inbound, &desks, (slots, handshakes)) => {}
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    })
}

async fn accept_for_ever(
    listener: TcpListener,
    inbound: usize,
    desks: &[Desk],
    (slots, handshakes): (Arc<Semaphore>, Arc<Semaphore>),
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let (Ok(slot), Ok(handshake_slot)) =
            (slots.clone().acquire_owned().await, handshakes.clone().acquire_owned().await)
        else {
            return;
        };
        let accepted = listener.accept().await.and_then(|(socket, peer)| Ok((socket.into_std()?, peer)));
        match accepted {
            Ok((socket, peer)) => {
                let freest = desks.iter().min_by_key(|desk| desk.vitals.sessions.load(Ordering::Relaxed));
                if let Some(desk) = freest {
                    let arriving = Arriving { socket, peer, inbound, slot, handshake_slot };
                    // A worker that is gone drops the socket; `Running::alive` says so.
                    let _ = desk.arrivals.send(arriving);
                }
            }
            Err(error) => {
                tracing::error!(target: "portcullis", event = "accept_failed", error = error.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
