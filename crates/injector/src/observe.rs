//! The webhook's plaintext endpoint: `/metrics`, `/livez`, `/readyz`.
//!
//! `portcullis webhook` binds and serves it beside the webhook. It must never change anything, nor say anything about
//! a pod.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control::{TokioTimer, Wire};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;

/// A Prometheus, a kubelet and a few people need one each.
const CONNECTIONS: usize = 64;
/// From the accept, or the end of an answer, to a whole next request head.
const HEAD: Duration = Duration::from_secs(10);
/// After this a connection is ended between two answers, so that slow readers cannot hold every slot for ever.
const LIFE: Duration = Duration::from_secs(120);
const LAST_ANSWER: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The endpoint, bound.
#[derive(Debug)]
pub struct Observe {
    listener: TcpListener,
    address: SocketAddr,
}

impl Observe {
    /// Listens on `address`; a failure is one sentence that names the flag. Needs a runtime.
    pub async fn bind(address: SocketAddr) -> Result<Observe, String> {
        let failed = |error: std::io::Error| {
            format!("--observe {address} cannot be listened on ({error}); choose an address that is free on this host")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Observe { listener, address })
    }

    /// Where it listens; the kernel's choice if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the task is dropped; unready once `stopping` says so.
    pub async fn serve(self, metrics: Arc<Metrics>, stopping: watch::Receiver<bool>) -> Infallible {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return std::future::pending().await };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (metrics, stopping) = (Arc::clone(&metrics), stopping.clone());
                    tokio::spawn(async move {
                        converse(stream, (&metrics, &stopping)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(event = "observe_accept", %error, "a connection to --observe was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, (metrics, stopping): (&Metrics, &watch::Receiver<bool>)) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let answer = answer((request.method(), request.uri().path()), metrics, *stopping.borrow());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let connection =
        http1::Builder::new().timer(TokioTimer).header_read_timeout(HEAD).serve_connection(Wire::new(stream), service);
    let mut connection = pin!(connection);
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER, connection).await;
    }
}

fn answer((method, path): (&Method, &str), metrics: &Metrics, stopping: bool) -> Response<Full<Bytes>> {
    let text =
        |status: StatusCode, text: &str| typed(status, "text/plain; charset=utf-8", format!("{text}\n").into_bytes());
    match path {
        _ if method != Method::GET && method != Method::HEAD => {
            text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD")
        }
        "/livez" => text(StatusCode::OK, "alive"),
        "/readyz" if stopping => text(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        "/readyz" => text(StatusCode::OK, "ready"),
        "/metrics" => match metrics.text() {
            Ok((kind, bytes)) => typed(StatusCode::OK, &kind, bytes),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the metrics cannot be written: {error}")),
        },
        _ => text(StatusCode::NOT_FOUND, "not found; there are /metrics, /livez and /readyz"),
    }
}

fn typed(status: StatusCode, kind: &str, bytes: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = status;
    if let Ok(kind) = HeaderValue::from_str(kind) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
