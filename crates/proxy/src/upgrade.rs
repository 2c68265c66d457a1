//! Requests that ask to become a tunnel: WebSocket by an HTTP/1.1 Upgrade or by HTTP/2 (RFC 8441), and CONNECT.
//!
//! Called by `request.rs`, which has the session judged and hands over the permit. The app is always asked by HTTP/1.1, on
//! a connection of its own that nobody else uses before or after. It must never open a tunnel that the app did not accept
//! in so many words, nor connect to anything but the app.

use std::future::{Future, poll_fn};
use std::pin::pin;

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use trust::Permit;

use crate::body::{AppBody, ClientBody};
use crate::fault::Fault;
use crate::forward::{Attempt, Destination, unless_too_slow};
use crate::metrics::RequestProtocol;
use crate::tunnel::{ByteEnd, Cargo, Tunnel};
use crate::wire::AppSocket;
use crate::{headers, websocket};

/// A connection to the app for one tunnel.
type Line = http1::Connection<TokioIo<AppSocket>, ClientBody>;

/// What a request asks to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    WebSocket,
    Connect,
    /// A `:protocol` that we do not know (RFC 8441 §4).
    Unknown,
}

impl Wish {
    /// Of a request that came by HTTP/1.1. Any other Upgrade is none: RFC 9110 §7.8 lets us go on as if it were not
    /// there, and wants us to for HTTP/1.0.
    pub(crate) fn over_http1<B>(request: &Request<B>) -> Option<Wish> {
        // hyper marks a request that has an Upgrade field: others need not be searched for one.
        let upgrades =
            || request.extensions().get::<OnUpgrade>().is_some() && websocket::is_asked_for(request.headers());
        match request.method() == Method::CONNECT {
            true => Some(Wish::Connect),
            false => upgrades().then_some(Wish::WebSocket),
        }
    }

    /// Of a request that came by HTTP/2.
    pub(crate) fn over_http2<B>(request: &Request<B>) -> Option<Wish> {
        match request.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str) {
            Some("websocket") => Some(Wish::WebSocket),
            Some(_) => Some(Wish::Unknown),
            None => (request.method() == Method::CONNECT).then_some(Wish::Connect),
        }
    }

    /// Under which protocol such a request is counted; `None` for the one that it came by.
    pub(crate) fn label(self) -> Option<RequestProtocol> {
        match self {
            Wish::WebSocket => Some(RequestProtocol::WebSocket),
            Wish::Connect => Some(RequestProtocol::Tunnel),
            Wish::Unknown => None,
        }
    }
}

/// A wish that is well formed, and allowed.
pub(crate) enum Opening {
    /// A WebSocket, with what the app has to answer to its key.
    WebSocket {
        accept: HeaderValue,
        /// The client came by HTTP/2, and knows nothing of the key.
        own_key: bool,
    },
    Connect,
}

impl Opening {
    /// Takes a wish up, and turns its request into one that is checked as any other is.
    pub(crate) fn of(wish: Wish, request: &mut Request<ClientBody>, connect: bool) -> Result<Opening, &'static str> {
        let whole = request.body().is_end_stream();
        let http2 = request.version() == Version::HTTP_2;
        match wish {
            Wish::Unknown => Err("upgrade"),
            Wish::Connect if !connect => Err("connect"),
            // RFC 9110 §9.3.6: content of a CONNECT means nothing; it would be taken for the tunnel's first bytes.
            Wish::Connect if !http2 && !whole => Err("bad_request"),
            Wish::Connect => Ok(Opening::Connect),
            // RFC 6455 §4.1 wants GET. A body would stand between the head and the frames.
            Wish::WebSocket if http2 => {
                *request.method_mut() = Method::GET;
                let key = websocket::new_key().ok_or("bad_request")?;
                request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
                if whole { Err("bad_request") } else { Opening::web_socket(request.headers(), true) }
            }
            Wish::WebSocket if request.method() != Method::GET || !whole => Err("bad_request"),
            Wish::WebSocket => Opening::web_socket(request.headers(), false),
        }
    }

    fn web_socket(headers: &HeaderMap, own_key: bool) -> Result<Opening, &'static str> {
        let accept = websocket::expected_accept(headers).ok_or("bad_request")?;
        Ok(Opening::WebSocket { accept, own_key })
    }

    /// Completes a head that is fit for the app otherwise.
    pub(crate) fn ask(&self, request: &mut HeaderMap) {
        match self {
            Opening::WebSocket { .. } => websocket::ask(request),
            Opening::Connect => {}
        }
    }

    /// What the app's answer means.
    fn read(&self, answer: &Response<Incoming>) -> Verdict {
        let (status, headers) = (answer.status(), answer.headers());
        match self {
            Opening::WebSocket { accept, .. } if status == StatusCode::SWITCHING_PROTOCOLS => {
                if websocket::is_accepted(headers, accept) { Verdict::Accepted } else { Verdict::Nonsense }
            }
            // Over HTTP/2 any 2xx would open the tunnel (RFC 8441 §5), and the app has opened none.
            Opening::WebSocket { own_key: true, .. } if status.is_success() => Verdict::Nonsense,
            Opening::WebSocket { .. } => Verdict::Refused,
            Opening::Connect if status.is_success() => Verdict::Accepted,
            Opening::Connect => Verdict::Refused,
        }
    }

    /// The head that tells the client of its tunnel.
    fn told(&self, status: StatusCode, fields: HeaderMap) -> Response<()> {
        let mut response = Response::new(());
        *response.headers_mut() = fields;
        *response.status_mut() = status;
        let fields = response.headers_mut();
        headers::prepare_response(fields);
        // RFC 9110 §9.3.6: there is no length, whatever the app says.
        fields.remove(CONTENT_LENGTH);
        match self {
            Opening::WebSocket { own_key: true, .. } => {
                fields.remove(SEC_WEBSOCKET_ACCEPT);
                *response.status_mut() = StatusCode::OK;
            }
            Opening::WebSocket { .. } => websocket::announce(fields),
            Opening::Connect => {}
        }
        response
    }

    fn cargo(&self) -> Cargo {
        match self {
            Opening::WebSocket { .. } => Cargo::Frames,
            Opening::Connect => Cargo::Bytes,
        }
    }
}

enum Verdict {
    Accepted,
    /// An ordinary answer.
    Refused,
    /// Neither.
    Nonsense,
}

/// Brings a CONNECT's target, `host:port` and nothing else (RFC 9112 §3.2.3), into the form that the app expects.
pub(crate) fn check_target(request: &mut Request<ClientBody>) -> Result<(), &'static str> {
    let target = std::mem::take(request.uri_mut()).into_parts();
    let plain = target.scheme.is_none() && target.path_and_query.as_ref().is_none_or(is_empty);
    let authority = target.authority.filter(|authority| plain && authority.port().is_some()).ok_or("bad_request")?;
    if authority.as_str().contains('@') {
        return Err("bad_request");
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "bad_request")?;
    let mut given = request.headers().get_all(HOST).iter();
    if given.next().is_some_and(|given| given != host) || given.next().is_some() {
        return Err("bad_request");
    }
    request.headers_mut().insert(HOST, host);
    *request.uri_mut() = Uri::from(authority);
    Ok(())
}

fn is_empty(path: &PathAndQuery) -> bool {
    path.as_str().is_empty() || path.as_str() == "/"
}

/// Asks the app for a tunnel, with the permit that `request` got.
pub(crate) async fn open(
    permit: Permit,
    to: Destination<'_>,
    mut request: Request<ClientBody>,
    opening: &Opening,
) -> Attempt {
    // The permit ends here, as it does in `forward`.
    drop(permit);
    // The client's bytes follow when the app has accepted: they are no body.
    let upload = std::mem::replace(request.body_mut(), ClientBody::empty());
    let socket = match to.app.dial(to.open.guarded()).await {
        Ok(socket) => socket,
        Err(fault) => return Attempt::Fault(fault),
    };
    let Ok((mut sender, mut line)) = http1::handshake(TokioIo::new(socket)).await else {
        return Attempt::Fault(Fault::Unreachable);
    };
    let answering = answer_of(sender.send_request(request), &mut line);
    let (answer, over) = match unless_too_slow(&to, answering).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => return Attempt::Fault(Fault::Broken),
        Err(fault) => return Attempt::Fault(fault),
    };
    match opening.read(&answer) {
        Verdict::Nonsense => Attempt::Fault(Fault::Broken),
        Verdict::Refused => {
            if !over {
                tokio::task::spawn_local(async move {
                    let _ = line.await;
                });
            }
            Attempt::Answered(answer.map(AppBody::alone))
        }
        Verdict::Accepted => {
            let flushing = poll_fn(|context| line.poll_without_shutdown(context));
            if !over && !matches!(unless_too_slow(&to, flushing).await, Ok(Ok(()))) {
                return Attempt::Fault(Fault::Broken);
            }
            let parts = line.into_parts();
            let socket = parts.io.into_inner();
            // Until both ends have said that they are done.
            socket.wire.resets_at_close(opening.cargo() == Cargo::Bytes);
            let app = ByteEnd::new(socket, parts.read_buf);
            to.open.becomes_a_tunnel();
            let tunnel = Tunnel { cargo: opening.cargo(), app, upload, open: to.open.clone() };
            let (head, _) = answer.into_parts();
            Attempt::Switched(opening.told(head.status, head.headers).map(|()| AppBody::tunnel(tunnel)))
        }
    }
}

/// The head of the app's answer, and whether hyper has done with the connection meanwhile and may not be asked again.
async fn answer_of(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    line: &mut Line,
) -> hyper::Result<(Response<Incoming>, bool)> {
    let (mut answer, mut over) = (pin!(answer), false);
    poll_fn(|context| {
        // An error reaches the request by itself.
        over = over || line.poll_without_shutdown(context).is_ready();
        answer.as_mut().poll(context).map(|answer| answer.map(|answer| (answer, over)))
    })
    .await
}
