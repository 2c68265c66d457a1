//! The app behind the proxy: says whom it was told about, and streams a line every ten milliseconds.
//!
//! Started by the demo, in its own process. It must never check anything itself: that is the point of the proxy.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use control::Wire;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Between two lines of a stream.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Starts the app on a free port of this host.
pub(super) async fn start() -> Result<SocketAddr, String> {
    let failed = |error: std::io::Error| format!("the demo's app cannot listen on 127.0.0.1 ({error})");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        loop {
            // A failed accept is the end of one connection only; the story will say what is missing.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let answers = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request))));
            tokio::spawn(http1::Builder::new().serve_connection(Wire::new(stream), answers));
        }
    });
    Ok(address)
}

fn answer(request: &Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let text = |text: String| Full::new(Bytes::from(text)).boxed_unsync();
    match request.uri().path() {
        "/" => Response::new(text(format!("hello, {}\n", told_identity(request)))),
        "/stream" => {
            let mut interval = interval(TICK);
            interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
            Response::new(Ticks { interval, number: 0 }.boxed_unsync())
        }
        _ => {
            let mut response = Response::new(text("there are / and /stream\n".to_owned()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

/// The identity that the proxy vouches for: the URI of `X-Forwarded-Client-Cert`.
fn told_identity(request: &Request<Incoming>) -> String {
    let header = request.headers().get("x-forwarded-client-cert").and_then(|value| value.to_str().ok());
    let uri = header.and_then(|value| value.split(';').find_map(|part| part.strip_prefix("URI=")));
    uri.unwrap_or("somebody without an identity").to_owned()
}

/// A body without an end: one numbered line a tick.
struct Ticks {
    interval: Interval,
    number: u64,
}

impl Body for Ticks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.interval.poll_tick(context));
        self.number = self.number.saturating_add(1);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("tick {}\n", self.number))))))
    }
}
