//! The operator's side: a plaintext endpoint with the metrics and the probes, and the control listener.
//!
//! `portcullis` binds them at start and serves them on its main thread, away from the workers. The endpoint, here, must
//! never change anything, and never slow the traffic: it reads what is current and keeps nothing, and of the app it asks
//! what `--app-probes` says. Whatever may change something goes through `control.rs`, where it is known who asks.

mod answer;
mod api;
mod app_probes;
mod body;
mod bypass;
mod caller;
mod changes;
mod control;
mod ledger;
mod listing;
mod problem;
mod readiness;
mod roles;
mod routes;
mod session_query;
mod sessions;
mod socket_file;
mod upload;
mod wire;

pub use app_probes::AppProbes;
pub use bypass::{Bypass, Place};
pub use control::{Control, ControlAddress, Door, Sidecar};
pub use roles::{Grant, Role, Roles};
pub use wire::{TokioTimer, Wire};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use proxy::{Live, Metrics, Running};
use sources::Desk;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at once: a Prometheus, a kubelet and a few people need one each.
const CONNECTIONS: usize = 64;
/// From the accept, or the end of an answer, to a whole next request head.
const HEAD: Duration = Duration::from_secs(10);
/// After this a connection is ended between two answers, so that slow readers cannot hold every slot for ever.
/// Prometheus scrapes once or more in it and reconnects without an error.
const LIFE: Duration = Duration::from_secs(120);
/// What the last answer gets then, besides the time of a probe of the app.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// Bytes of one request head; hyper takes no less than 8 kB.
const HEAD_BYTES: usize = 8 * 1024;
/// Pause after a failed accept: descriptors that ran out come back only when something closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the endpoint looks at.
pub struct Watched {
    /// What is in force.
    pub live: Arc<Live>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The traffic.
    pub running: Arc<Running>,
    /// What is known about revocations.
    pub desk: Desk,
    /// What is asked of the app on kubelet's behalf.
    pub app_probes: AppProbes,
    /// Whether the app can be reached around the proxy, if that is looked at.
    pub bypass: Option<Arc<Bypass>>,
}

/// The endpoint's listening socket.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Listens on `address`; a failure is one sentence that names the flag.
    pub async fn bind(address: SocketAddr) -> Result<Endpoint, String> {
        let failed = |error: std::io::Error| {
            format!("--observe {address} cannot be listened on ({error}); choose an address that is free on this host")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Endpoint { listener, address })
    }

    /// Where it listens; the kernel's choice if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the task is dropped.
    pub async fn serve(self, watched: Arc<Watched>) -> Infallible {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // The slot comes before the accept: beyond the limit, clients wait in the kernel's queue.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return std::future::pending().await };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let watched = Arc::clone(&watched);
                    tokio::spawn(async move {
                        converse(stream, watched).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(event = "observe_accept", %error, "a connection to --observe was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, watched: Arc<Watched>) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        // The request's body is dropped unread: hyper then closes the connection after the answer.
        let (method, uri, watched) = (request.method().clone(), request.uri().clone(), Arc::clone(&watched));
        async move { Ok::<_, Infallible>(answer::answer(&method, &uri, &watched).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer)
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(Wire::new(stream), service);
    let mut connection = pin!(connection);
    // How a reader went away changes nothing here, so errors are not even logged: a probe that closes early is
    // everyday life.
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER + watched.app_probes.longest(), connection).await;
    }
}
