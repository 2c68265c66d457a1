//! The control listener: a Unix socket for this machine's owner, or mTLS for operators elsewhere.
//!
//! `portcullis` binds it at start if `--control` is given, and serves it on its main thread, away from the workers.
//! Requests are answered in `api.rs`. It must never let anybody speak before it is known who they are, nor keep a
//! connection whose operator is not trusted any more.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use proxy::{Doorman, Live};
use sources::{ControlAnchors, Desk};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::api::{self, Office};
use crate::caller::Caller;
use crate::ledger::{self, Ration};
use crate::roles::Grant;
use crate::socket_file::SocketFile;
use crate::wire::{TokioTimer, Wire};

/// Connections at once: operators are people, and a few scripts.
const CONNECTIONS: usize = 64;
/// Handshakes at once. Strangers take these and no connection: each ends within ten seconds.
const HANDSHAKES: usize = 256;
/// From the accept, or the end of an answer, to a whole next request head.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes of one request head, and of a body that are read at once.
const HEAD_BYTES: usize = 16 * 1024;
/// After this a connection is ended between two answers, so that slow readers cannot hold every slot for ever.
const LIFE: Duration = Duration::from_secs(300);
/// What the last answer gets then: the turn, the time of an upload, and the desk's.
const LAST_ANSWER: Duration = Duration::from_secs(240);
/// Whoever still sends what nobody reads gets to read why: a close with unread bytes would take the answer away.
const LINGER: Duration = Duration::from_secs(2);
/// Pause after a failed accept: descriptors that ran out come back only when something closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How late a new `--control-ca` is noticed, as on file systems that tell nothing (`sources`).
const LOOK: Duration = Duration::from_secs(10);

/// Where operators come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAddress {
    /// A socket file, for its owner alone.
    Unix(PathBuf),
    /// mTLS.
    Tls(SocketAddr),
}

impl std::fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ControlAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ControlAddress::Tls(address) => address.fmt(f),
        }
    }
}

/// Whom the mTLS listener lets in.
pub struct Door {
    /// The proxy's.
    pub live: Arc<Live>,
    /// Who has which roles; whoever has none does not come in.
    pub grants: Vec<Grant>,
    /// `--control-ca`.
    pub anchors: ControlAnchors,
}

/// What operators look at and change.
pub struct Sidecar {
    /// What is known about revocations.
    pub desk: Desk,
    /// The sessions.
    pub live: Arc<Live>,
    /// Where clients come in, in the order of the configuration's inbounds.
    pub listening: Vec<SocketAddr>,
}

/// The control listener, bound.
#[derive(Debug)]
pub struct Control {
    socket: Bound,
    address: ControlAddress,
}

#[derive(Debug)]
enum Bound {
    Unix(SocketFile, UnixListener),
    Tls(TcpListener),
}

impl Control {
    /// Listens on `address`; a failure is one sentence that names the flag. Needs a runtime.
    pub async fn bind(address: &ControlAddress) -> Result<Control, String> {
        let failed = |error: std::io::Error| {
            format!("--control {address} cannot be listened on ({error}); choose an address that is free on this host")
        };
        match address {
            ControlAddress::Unix(path) => {
                let (file, listener) = SocketFile::bind(path).map_err(|why| format!("--control {address} {why}"))?;
                let listener = UnixListener::from_std(listener).map_err(failed)?;
                Ok(Control { socket: Bound::Unix(file, listener), address: address.clone() })
            }
            ControlAddress::Tls(asked) => {
                let listener = TcpListener::bind(asked).await.map_err(failed)?;
                let address = ControlAddress::Tls(listener.local_addr().map_err(failed)?);
                Ok(Control { socket: Bound::Tls(listener), address })
            }
        }
    }

    /// Where it listens; with the kernel's choice if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> &ControlAddress {
        &self.address
    }

    /// Answers until it is dropped, and removes its socket file then. The `door` is for mTLS; without one nobody
    /// comes in there.
    pub async fn serve(self, sidecar: Sidecar, door: Option<Door>) -> Infallible {
        let office = Arc::new(Office::new(sidecar));
        match (self.socket, door) {
            (Bound::Unix(_file, listener), _) => owners(&listener, office).await,
            (Bound::Tls(listener), Some(door)) => {
                let Door { live, grants, anchors } = door;
                let patterns = grants.iter().map(|grant| grant.pattern.clone()).collect();
                let doorman = Arc::new(Doorman::new(Arc::clone(&live), anchors.bundle(), patterns));
                let inside = Arc::new(Inside { doorman, grants, office, ration: Ration::new() });
                tokio::select! {
                    never = guests(&listener, &inside) => never,
                    never = keep_looking(&inside.doorman, (anchors, &live)) => never,
                }
            }
            (Bound::Tls(_), None) => std::future::pending().await,
        }
    }
}

/// Whoever can open the socket file.
async fn owners(listener: &UnixListener, office: Arc<Office>) -> Infallible {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The slot comes before the accept: beyond the limit, clients wait in the kernel's queue.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return std::future::pending().await };
        let accepted = listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)));
        match accepted {
            Ok((uid, stream)) => {
                let office = Arc::clone(&office);
                tokio::spawn(async move {
                    converse(stream, Arc::new(Caller::Owner { uid }), office).await;
                    drop(slot);
                });
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// What all guests share.
struct Inside {
    doorman: Arc<Doorman>,
    grants: Vec<Grant>,
    office: Arc<Office>,
    ration: Ration,
}

/// Whoever has a certificate that is trusted here.
async fn guests(listener: &TcpListener, inside: &Arc<Inside>) -> Infallible {
    let (thresholds, slots) = (Arc::new(Semaphore::new(HANDSHAKES)), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Ok(threshold) = Arc::clone(&thresholds).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((socket, peer)) => {
                let (inside, slots) = (Arc::clone(inside), Arc::clone(&slots));
                tokio::spawn(async move {
                    let admitted = receive((socket, peer), &inside).await;
                    // The slot before the threshold is left: whoever is inside is counted somewhere at any time.
                    let slot = timeout(HEAD, slots.acquire_owned()).await;
                    drop(threshold);
                    if let (Some((stream, caller)), Ok(Ok(_slot))) = (admitted, slot) {
                        converse(stream, Arc::new(caller), Arc::clone(&inside.office)).await;
                    }
                });
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn receive((socket, peer): (TcpStream, SocketAddr), inside: &Inside) -> Option<(proxy::GuestStream, Caller)> {
    match inside.doorman.admit(socket).await {
        Ok((stream, guest)) => Some((stream, Caller::guest(guest, &inside.grants, peer))),
        Err(turned) => {
            inside.ration.turned_away(peer, &turned);
            None
        }
    }
}

async fn pause(error: &std::io::Error) {
    tracing::warn!(event = "control_accept", %error, "a connection to --control was not accepted");
    sleep(ACCEPT_PAUSE).await;
}

/// Takes in what changes in `--control-ca`; what is bad leaves the last good anchors in force.
async fn keep_looking(doorman: &Doorman, (mut anchors, live): (ControlAnchors, &Live)) -> Infallible {
    loop {
        sleep(LOOK).await;
        let now = live.now();
        // Reading files may wait for a disk.
        let looking = tokio::task::spawn_blocking(move || {
            let found = anchors.look(now);
            (anchors, found)
        });
        let Ok((looked, found)) = looking.await else {
            tracing::error!(event = "control_ca", "--control-ca is not looked at any more; restart the proxy");
            return std::future::pending().await;
        };
        anchors = looked;
        match found {
            None => {}
            Some(Ok(bundle)) => {
                tracing::info!(
                    event = "control_ca",
                    anchors = bundle.len(),
                    "new anchors of --control-ca are in force"
                );
                doorman.trust(bundle);
            }
            Some(Err(why)) => {
                tracing::error!(event = "control_ca", detail = %why, "the last good anchors of --control-ca stay");
            }
        }
    }
}

/// Serves one connection to its end.
async fn converse<S>(stream: S, caller: Arc<Caller>, office: Arc<Office>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let whose = Arc::clone(&caller);
    let service = service_fn(move |request| {
        let (office, caller) = (Arc::clone(&office), Arc::clone(&caller));
        let answer: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(async move { Ok::<_, Infallible>(api::answer(request, office, caller).await) });
        answer
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer)
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(Wire::new(stream), service);
    let served = async {
        // How a client went away changes nothing here: what it changed is in the audit.
        if timeout(LIFE, poll_fn(|context| connection.poll_without_shutdown(context))).await.is_err() {
            Pin::new(&mut connection).graceful_shutdown();
            let _ = timeout(LAST_ANSWER, poll_fn(|context| connection.poll_without_shutdown(context))).await;
        }
    };
    let denial = tokio::select! {
        biased;
        denial = whose.until_denied() => Some(denial),
        () = served => None,
    };
    match denial {
        Some(denial) => ledger::cut(&whose, &denial),
        None => {
            let stream = connection.into_parts().io.into_stream();
            let _ = timeout(LINGER, linger(stream)).await;
        }
    }
}

/// Says that nothing more comes, and reads until the other side says the same.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_ok() {
        let mut unread = [0; 4096];
        while let Ok(1..) = stream.read(&mut unread).await {}
    }
}
