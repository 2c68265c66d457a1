//! The recording HTTP/1.1 app: it notes every request and answers by path (see `routes`).
//! Tests start it as the application behind the proxy; dropping it ends its listener and all its connections.
//! It must never listen anywhere but on loopback, a Unix socket, or in a network that its test made.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{JoinHandle, JoinSet};

use crate::journal::Journal;
use crate::routes;
use crate::tap::{Socket, Tap};

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Socket>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// Where an app listens.
#[derive(Clone, Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An HTTP/1.1 app that records. What it saw is in its `Journal`, whose methods can be called on the app itself.
#[derive(Debug)]
pub struct RecordingApp {
    place: Place,
    journal: Arc<Journal>,
    listening: JoinHandle<()>,
}

impl RecordingApp {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts on this address, for example again where an app was before.
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the loopback address can be bound");
        let place = Place::Tcp(listener.local_addr().expect("a bound listener has an address"));
        Self::serve(Listener::Tcp(listener), place)
    }

    /// Starts on a Unix socket of this path.
    pub async fn start_unix(path: impl AsRef<Path>) -> Self {
        let listener = UnixListener::bind(&path).expect("the socket's path can be bound");
        Self::serve(Listener::Unix(listener), Place::Unix(path.as_ref().to_owned()))
    }

    fn serve(listener: Listener, place: Place) -> Self {
        let journal = Arc::new(Journal::new());
        let listening = tokio::spawn(accept_all(listener, Arc::clone(&journal)));
        Self { place, journal, listening }
    }

    /// The TCP address; panics for an app on a Unix socket.
    pub fn addr(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) => *address,
            Place::Unix(path) => panic!("the app listens on the Unix socket {}", path.display()),
        }
    }

    /// The app as the proxy's flags name it: `host:port` or `unix:/path`.
    pub fn target(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.to_string(),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// The record, to keep after the app is gone.
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Ends the app and waits until its port is free.
    pub async fn stop(mut self) {
        self.listening.abort();
        // The task was aborted on purpose; its result says nothing else.
        let _ = (&mut self.listening).await;
    }
}

impl Deref for RecordingApp {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        &self.journal
    }
}

impl Drop for RecordingApp {
    fn drop(&mut self) {
        self.listening.abort();
        if let Place::Unix(path) = &self.place {
            // A socket file that is already gone is what was wanted.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The connections live in a set inside this task, so that its abort ends them all.
async fn accept_all(listener: Listener, journal: Arc<Journal>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => drop(connections.spawn(serve(Tap::new(stream, Arc::clone(&journal)), Arc::clone(&journal)))),
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(tap: Tap, journal: Arc<Journal>) {
    let wire = tap.wire();
    let connection = tap.connection();
    let service = service_fn(move |request| {
        routes::answer(routes::Visit { journal: Arc::clone(&journal), wire: Arc::clone(&wire), connection }, request)
    });
    // How a connection ends is the proxy's affair; the journal tells the test what arrived.
    let _ = http1::Builder::new().half_close(false).serve_connection(TokioIo::new(tap), service).await;
}
