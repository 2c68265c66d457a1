//! An app made of bytes: each accepted connection goes to a closure, or meets a fixed script.
//! Tests use it for stale pooled connections, malformed answers and apps that say nothing.
//! It must never interpret HTTP beyond finding the end of a head.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::journal::Journal;

/// A TCP app on 127.0.0.1. Its `Journal` counts connections; dropping the app ends them.
#[derive(Debug)]
pub struct RawApp {
    address: SocketAddr,
    journal: Arc<Journal>,
    listening: JoinHandle<()>,
}

impl RawApp {
    /// Gives every connection, and its number from 0, to the closure.
    pub async fn start<Serve, Served>(serve: Serve) -> Self
    where
        Serve: Fn(TcpStream, usize) -> Served + Send + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let journal = Arc::new(Journal::new());
        let listening = tokio::spawn(accept_all(listener, Arc::clone(&journal), serve));
        Self { address, journal, listening }
    }

    /// Reads one head on each connection, answers it with these bytes, and closes.
    pub async fn answering(script: impl Into<Vec<u8>>) -> Self {
        let script: Arc<[u8]> = script.into().into();
        Self::start(move |mut stream, _| {
            let script = Arc::clone(&script);
            async move {
                read_head(&mut stream).await;
                // A client that went away does not need the answer.
                let _ = stream.write_all(&script).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// Answers every head with these bytes and keeps the connection open.
    pub async fn answering_all(script: impl Into<Vec<u8>>) -> Self {
        let script: Arc<[u8]> = script.into().into();
        Self::start(move |mut stream, _| {
            let script = Arc::clone(&script);
            async move {
                while !read_head(&mut stream).await.is_empty() {
                    if stream.write_all(&script).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Accepts, reads and never answers.
    pub async fn silent() -> Self {
        Self::start(|mut stream, _| async move {
            let mut bytes = vec![0; 4096];
            while matches!(stream.read(&mut bytes).await, Ok(1..)) {}
        })
        .await
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.journal.connections()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.journal.open_connections()
    }

    /// Waits until this many connections were accepted.
    pub async fn wait_for_connections(&self, count: usize) {
        self.journal.wait_until(|journal| journal.connections() >= count).await;
    }

    /// Waits until no connection is open.
    pub async fn wait_for_silence(&self) {
        self.journal.wait_until(|journal| journal.open_connections() == 0).await;
    }
}

impl Drop for RawApp {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Counts a connection as closed however its task ends.
struct Counted(Arc<Journal>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

async fn accept_all<Serve, Served>(listener: TcpListener, journal: Arc<Journal>, serve: Serve)
where
    Serve: Fn(TcpStream, usize) -> Served,
    Served: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let number = journal.connection_opened();
                let counted = Counted(Arc::clone(&journal));
                let served = serve(stream, number);
                connections.spawn(async move {
                    served.await;
                    drop(counted);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Reads up to and including the blank line that ends a head; what came before an early end otherwise.
pub async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    // Byte by byte, so that nothing behind the head is taken from the stream.
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    head
}

/// An address of 127.0.0.1 where nobody listens.
pub async fn unused_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address")
}
