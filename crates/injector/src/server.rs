//! The webhook: an API server asks by TLS, gets an answer, and asks again on the same connection.
//!
//! `portcullis webhook` binds and serves it. Every wait and every byte is bounded: whoever reaches the port may try. It
//! must never answer yes where it failed; a broken connection lets the API server's failurePolicy decide.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::{TokioTimer, Wire};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{SemaphorePermit, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::body::{Budget, Failure};
use crate::configuration::Configuration;
use crate::metrics::{Metrics, words};
use crate::review::{Reviewed, review};
use crate::room::{Resting, Room};
use crate::serving::Serving;
use crate::verdict::Verdict;

/// A handshake; an API server waits ten seconds for its whole answer unless it is told otherwise.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// From the handshake to a first request.
const FIRST: Duration = Duration::from_secs(10);
/// From an answer to a next request: a little more than the 90 s after which an API server closes by itself, so that
/// no question meets our close.
const IDLE: Duration = Duration::from_secs(100);
/// Bytes read at once, and the most of one request head.
const BUFFER_BYTES: usize = 64 * 1024;
/// Pause after a failed accept: descriptors that ran out come back only when something closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What open answers get at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// What the log tells of the warnings about one pod, in letters.
const LONGEST_WARNINGS: usize = 2048;
/// Why a request was no review.
pub(crate) const ERRORS: [&str; 5] = ["path", "method", "body", "too_large", "busy"];

/// What every connection shares.
#[derive(Debug)]
struct Office {
    configuration: Configuration,
    metrics: Arc<Metrics>,
    bodies: Budget,
    room: Room,
}

/// The webhook, bound.
#[derive(Debug)]
pub struct Webhook {
    listener: TcpListener,
    address: SocketAddr,
}

impl Webhook {
    /// Listens on `address`; a failure is one sentence that names the flag. Needs a runtime.
    pub async fn bind(address: SocketAddr) -> Result<Webhook, String> {
        let failed = |error: std::io::Error| {
            format!("--listen {address} cannot be listened on ({error}); choose an address that is free on this host")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Webhook { listener, address })
    }

    /// Where it listens; the kernel's choice if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stopping` says so, and then ends what it has begun.
    pub async fn serve(
        self,
        configuration: Configuration,
        (serving, metrics): (Arc<Serving>, Arc<Metrics>),
        mut stopping: watch::Receiver<bool>,
    ) -> Result<(), String> {
        let tls = serving.server_config().map_err(|error| format!("TLS cannot be set up ({error})"))?;
        let tls = TlsAcceptor::from(Arc::new(tls));
        let office = Arc::new(Office { configuration, metrics, bodies: Budget::new(), room: Room::new() });
        // Its last sender goes with the last connection.
        let (open, mut ended) = mpsc::channel::<Infallible>(1);
        loop {
            let accepted = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                accepted = async {
                    let accepted = self.listener.accept().await;
                    (accepted, office.room.place().await)
                } => accepted,
            };
            match accepted {
                (Ok((socket, _)), place) => {
                    let (tls, office, open, stop) = (tls.clone(), Arc::clone(&office), open.clone(), stopping.clone());
                    tokio::spawn(async move {
                        let _ = socket.set_nodelay(true);
                        let greeting = Resting::new();
                        let stream = tokio::select! {
                            stream = timeout(HANDSHAKE, tls.accept(socket)) => stream,
                            () = office.room.sent_away(&greeting) => return,
                        };
                        if let Ok(Ok(stream)) = stream {
                            converse(stream, office, stop).await;
                        }
                        drop((place, open));
                    });
                }
                (Err(error), _) => {
                    tracing::warn!(event = "accept", %error, "a connection to --listen was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((self.listener, open));
        let _ = timeout(LAST_ANSWERS, ended.recv()).await;
        Ok(())
    }
}

async fn converse(
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    office: Arc<Office>,
    mut stopping: watch::Receiver<bool>,
) {
    let (asked, resting, office) = (AtomicBool::new(false), Resting::new(), office.as_ref());
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        let resting = &resting;
        async move {
            resting.is_answered(true);
            let answer = answer(request, office).await;
            resting.is_answered(false);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer)
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(Wire::new(stream), service);
    let mut connection = pin!(connection);
    let first = sleep(FIRST);
    let mut first = pin!(first);
    let sent_away = office.room.sent_away(&resting);
    let mut sent_away = pin!(sent_away);
    let mut waits = true;
    loop {
        tokio::select! {
            // How a connection ended changes nothing here.
            _ = connection.as_mut() => return,
            () = sent_away.as_mut() => return,
            () = first.as_mut(), if waits => {
                waits = false;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWERS, connection).await;
}

async fn answer(request: Request<Incoming>, office: &Office) -> Response<Full<Bytes>> {
    match read(request, office).await {
        Ok((body, _share)) => judged(&body, office),
        Err((word, mut refusal)) => {
            office.metrics.erred(word);
            // What was not read of the body cannot be told from a next request.
            refusal.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            refusal
        }
    }
}

type Refused = (&'static str, Response<Full<Bytes>>);

/// With its share of the budget, which is held until the answer is made.
type Body<'a> = (Vec<u8>, Option<SemaphorePermit<'a>>);

async fn read(request: Request<Incoming>, office: &Office) -> Result<Body<'_>, Refused> {
    if request.uri().path() != "/mutate" {
        return Err(("path", plain(StatusCode::NOT_FOUND, "not found; reviews are posted to /mutate")));
    }
    if request.method() != Method::POST {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only POST");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(("method", refusal));
    }
    office.bodies.collect(request.into_body()).await.map_err(|failure| match failure {
        Failure::TooLarge => ("too_large", plain(StatusCode::PAYLOAD_TOO_LARGE, "a review may have 8 MiB")),
        Failure::Busy => ("busy", plain(StatusCode::SERVICE_UNAVAILABLE, "too many reviews at once")),
        Failure::Broken => ("body", plain(StatusCode::BAD_REQUEST, "the body broke off")),
        Failure::Slow => ("body", plain(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    })
}

fn judged(body: &[u8], office: &Office) -> Response<Full<Bytes>> {
    let begun = Instant::now();
    match review(body, &office.configuration) {
        Ok(reviewed) => {
            office.metrics.judged(&reviewed.verdict, begun.elapsed());
            tell(&reviewed);
            let mut response = Response::new(Full::new(Bytes::from(reviewed.body)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(why) => {
            office.metrics.erred("body");
            tracing::warn!(event = "review", detail = why, "a request was no review");
            plain(StatusCode::BAD_REQUEST, &why)
        }
    }
}

/// One line for each pod.
fn tell(reviewed: &Reviewed) {
    let Reviewed { verdict, namespace, name, uid, dry_run, .. } = reviewed;
    let (result, reason) = words(verdict);
    match verdict {
        Verdict::Injected(injection) => {
            let warnings: String = injection.warnings.join("; ").chars().take(LONGEST_WARNINGS).collect();
            tracing::info!(event = "injection", result, reason, namespace, name, uid, dry_run, warnings, "injected");
        }
        Verdict::Skipped(skip) => {
            let detail = skip.sentence();
            tracing::info!(event = "injection", result, reason, namespace, name, uid, dry_run, detail, "skipped");
        }
        Verdict::Refused(refusal) => {
            let detail = &refusal.sentence;
            tracing::warn!(event = "injection", result, reason, namespace, name, uid, dry_run, detail, "refused");
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
