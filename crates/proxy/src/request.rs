//! One request from first byte to last. Start reading here.
//!
//! Called by `http1.rs` and `http2.rs` with each request. [`answer`] reads the clock and the epoch once, has the
//! session judged, and forwards with the permit or refuses. It must never forward on any other ground.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use trust::{Denial, Permit};

use crate::body::{AppBody, ClientBody, OpenRequest};
use crate::bounds::Bound;
use crate::config::Protocol;
use crate::connection::Connection;
use crate::fault::Fault;
use crate::forward::{Attempt, Destination, forward};
use crate::metrics::RequestProtocol;
use crate::upgrade::{Opening, Wish};
use crate::worker::Worker;
use crate::{audit, headers, refuse, upgrade};

/// Interim responses that an app sent before its answer; the protocol's side writes them.
#[derive(Clone, Default)]
pub(crate) struct Interims(Arc<Mutex<Vec<Response<()>>>>);

/// More than this many before one answer are dropped.
const MAX_INTERIMS: usize = 16;

impl Interims {
    pub(crate) fn take(&self) -> Vec<Response<()>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, response: Response<()>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_INTERIMS {
            waiting.push(response);
        }
    }

    /// Takes in an app's interim response; whoever calls wakes the protocol's side.
    pub(crate) fn pass_on(&self, status: StatusCode, fields: &HeaderMap) {
        // 100 was ours to send, and 101 is an answer (RFC 9110 §15.2).
        if matches!(status.as_u16(), 100 | 101) {
            return;
        }
        let mut response = interim(status);
        *response.headers_mut() = fields.clone();
        headers::prepare_response(response.headers_mut());
        self.put(response);
    }
}

/// How a request came in.
pub(crate) struct Arrival {
    pub(crate) protocol: RequestProtocol,
    pub(crate) interims: Interims,
    /// To become something else than a request.
    wish: Option<Wish>,
}

impl Arrival {
    /// Tells gRPC from other HTTP/2 by its content type (gRPC over HTTP2, "Requests").
    pub(crate) fn over_http2<B>(request: &Request<B>) -> Arrival {
        let protocol = if is_grpc(request.headers()) { RequestProtocol::Grpc } else { RequestProtocol::Http2 };
        Arrival { protocol, interims: Interims::default(), wish: Wish::over_http2(request) }
    }

    pub(crate) fn over_http1<B>(request: &Request<B>) -> Arrival {
        let (protocol, interims) = (RequestProtocol::Http1, Interims::default());
        Arrival { protocol, interims, wish: Wish::over_http1(request) }
    }

    /// As what it is counted.
    fn label(&self) -> RequestProtocol {
        self.wish.and_then(Wish::label).unwrap_or(self.protocol)
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = kind.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether a call may reach the app as one: there is no gRPC without HTTP/2, whatever a client calls its request.
fn takes_calls(worker: &Worker, connection: &Connection) -> bool {
    worker.app(connection.door).is_some_and(|app| matches!(app.protocol, Protocol::Auto | Protocol::H2c))
}

/// Answers one request of a session.
pub(crate) async fn answer(
    (worker, connection): (&Rc<Worker>, &Rc<Connection>),
    mut request: Request<ClientBody>,
    arrival: &Arrival,
) -> Response<AppBody> {
    let (protocol, label) = (arrival.protocol, arrival.label());
    let now = worker.live.now();
    let permit = match connection.permit(&worker.live, now) {
        Ok(permit) => permit,
        Err(denial) => return deny(worker, connection, &denial, arrival),
    };
    let open = OpenRequest::begin(worker, connection);
    if protocol == RequestProtocol::Grpc && takes_calls(worker, connection) {
        open.be_patient();
    }
    let opening = match check(&mut request, arrival, worker) {
        Ok(opening) => opening,
        Err(word) => {
            if word == "head_too_large" {
                worker.limited_session(Bound::HeaderCount, connection);
            }
            worker.metrics.refused(label, word);
            return refuse::refused(word, protocol);
        }
    };
    let session = connection.session();
    let remaining = session.chain.leaf.not_after.since(now);
    worker.metrics.permitted(label, now.since(session.opened_at), remaining);
    drop(session);
    request.body_mut().belongs_to(open.clone());
    let mut response = tokio::select! {
        biased;
        cut = connection.until_cut() => {
            worker.metrics.denied(label, &cut.denial);
            refuse::denied(&cut.denial, protocol)
        }
        response = pass(permit, &open, request, (arrival, opening)) => arrived(response, &open, arrival),
    };
    if protocol == RequestProtocol::Http1 && connection.is_leaving() && !response.body().is_tunnel() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.body_mut().belongs_to(open);
    response
}

/// The answer, unless trust ended while it was on its way: over HTTP/2 nobody asks again until the connection's own turn,
/// which would find it among what was let out before.
fn arrived(response: Response<AppBody>, open: &OpenRequest, arrival: &Arrival) -> Response<AppBody> {
    let (worker, connection) = (&open.worker, &open.connection);
    if !response.body().is_tunnel() && !is_grpc(response.headers()) {
        open.be_impatient();
    }
    let passes = response.body().is_notice() || worker.is_trusted(connection);
    match connection.cut_reason() {
        Some(cut) if !passes => {
            worker.metrics.denied(arrival.label(), &cut.denial);
            refuse::denied(&cut.denial, arrival.protocol)
        }
        Some(_) | None => response,
    }
}

/// Trust ended, seen by a request before the worker's own sweep saw it.
fn deny(worker: &Worker, connection: &Rc<Connection>, denial: &Denial, arrival: &Arrival) -> Response<AppBody> {
    worker.metrics.denied(arrival.label(), denial);
    worker.cut(connection, denial.clone());
    audit::denied(connection, denial, &worker.live);
    refuse::denied(denial, arrival.protocol)
}

/// Forwards with the permit; an idempotent request that met a stale connection goes out once more, with a permit of
/// its own.
async fn pass(
    permit: Permit,
    open: &Rc<OpenRequest>,
    mut request: Request<ClientBody>,
    (arrival, opening): (&Arrival, Option<Opening>),
) -> Response<AppBody> {
    let protocol = arrival.protocol;
    let worker = &open.worker;
    let (Some(app), Some(identity)) = (worker.app(open.connection.door), open.connection.identity_headers()) else {
        return refuse::faulted(Fault::Unreachable, protocol);
    };
    let http2 = match app.protocol {
        _ if opening.is_some() => false,
        Protocol::Auto => protocol == RequestProtocol::Grpc,
        Protocol::Http1 | Protocol::Tcp(_) => false,
        Protocol::H2c => true,
    };
    // RFC 9110 §15.2: HTTP/1.0 knows no interim responses.
    let hears_interims = request.version() != Version::HTTP_10;
    *request.version_mut() = Version::HTTP_11;
    let spare = if http2 || opening.is_some() { None } else { copy_if_repeatable(&request) };
    let waits = request.headers().get(EXPECT).is_some_and(|what| what.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits && protocol != RequestProtocol::Http1 {
        // RFC 9110 §10.1.1: hyper says it to HTTP/1.1 clients by itself; h2 does not.
        arrival.interims.put(interim(StatusCode::CONTINUE));
    }
    headers::prepare_request(request.headers_mut(), &identity);
    if hears_interims && !http2 {
        pass_interims_on(&mut request, open, arrival);
    }
    let interims = hears_interims.then_some(&arrival.interims);
    let to = |only_new| Destination { app: &app, open, http2, only_new, interims };
    let mut attempt = match &opening {
        None => forward(permit, to(false), request).await,
        Some(opening) => {
            opening.ask(request.headers_mut());
            upgrade::open(permit, to(true), request, opening).await
        }
    };
    if let Attempt::Stale(unsent) = attempt {
        let again = unsent.or(spare).map(|mut again| {
            headers::prepare_request(again.headers_mut(), &identity);
            again
        });
        attempt = match (again, open.connection.permit(&worker.live, worker.live.now())) {
            (Some(again), Ok(permit)) => forward(permit, to(true), again).await,
            (_, Err(denial)) => return deny(worker, &open.connection, &denial, arrival),
            (None, _) => Attempt::Fault(Fault::Broken),
        };
    }
    match attempt {
        Attempt::Switched(response) => {
            open.be_patient();
            response
        }
        // Nobody asked this app for another protocol, or it told us one that nobody asked for.
        Attempt::Answered(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            worker.metrics.app_fault(Fault::Broken);
            refuse::faulted(Fault::Broken, protocol)
        }
        Attempt::Answered(mut response) => {
            // RFC 9110 §6.2: ours, not the app's. An HTTP/1.0 answer would cost the client its connection, and its
            // chunks: a cut body without a length could then be taken for a whole one.
            *response.version_mut() = Version::HTTP_11;
            headers::prepare_response(response.headers_mut());
            response
        }
        Attempt::Fault(fault) => {
            worker.metrics.app_fault(fault);
            if let Some(bound) = fault.bound() {
                worker.limited_session(bound, &open.connection);
            }
            refuse::faulted(fault, protocol)
        }
        Attempt::Stale(_) => {
            worker.metrics.app_fault(Fault::Broken);
            refuse::faulted(Fault::Broken, protocol)
        }
    }
}

/// A copy to send again, of a request that may be sent twice (RFC 9110 §9.2.2) and has no body.
fn copy_if_repeatable(request: &Request<ClientBody>) -> Option<Request<ClientBody>> {
    let repeatable = request.method().is_idempotent() && request.body().is_end_stream();
    repeatable.then(|| {
        let mut copy = Request::new(ClientBody::empty());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

fn pass_interims_on(request: &mut Request<ClientBody>, open: &Rc<OpenRequest>, arrival: &Arrival) {
    let interims = arrival.interims.clone();
    let signal = open.connection.signal.clone();
    hyper::ext::on_informational(request, move |passed| {
        interims.pass_on(passed.status(), passed.headers());
        signal.notify_waiters();
    });
}

fn interim(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

/// Refuses what may not be forwarded; what becomes a tunnel is told apart here.
fn check(
    request: &mut Request<ClientBody>,
    arrival: &Arrival,
    worker: &Worker,
) -> Result<Option<Opening>, &'static str> {
    let opening = arrival.wish.map(|wish| Opening::of(wish, request, worker.allow_connect)).transpose()?;
    match &opening {
        Some(Opening::Connect) => upgrade::check_target(request)?,
        Some(Opening::WebSocket { .. }) | None => check_target(request)?,
    }
    // hyper counts them for HTTP/1.1; h2 counts bytes alone.
    if request.headers().len() > worker.limits.header_count {
        return Err("head_too_large");
    }
    if is_plainly_framed(request.headers()) { Ok(opening) } else { Err("bad_request") }
}

/// Refuses what two readers could read as two things, and brings the target into the form that the app expects.
fn check_target(request: &mut Request<ClientBody>) -> Result<(), &'static str> {
    let uri = std::mem::take(request.uri_mut()).into_parts();
    let path = uri.path_and_query.ok_or("bad_request")?;
    let asterisk = path.as_str() == "*" && request.method() == Method::OPTIONS;
    if !path.as_str().starts_with('/') && !asterisk {
        return Err("bad_request");
    }
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err("bad_request");
    }
    let http2 = request.version() == Version::HTTP_2;
    match uri.authority {
        Some(authority) if authority.as_str().contains('@') => return Err("bad_request"),
        // RFC 9113 §8.3.1: Host must not differ. RFC 9112 §3.2.2: an absolute target replaces it.
        Some(authority) => {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "bad_request")?;
            let differs = request.headers().get(HOST).is_some_and(|given| given != host);
            if http2 && differs {
                return Err("bad_request");
            }
            request.headers_mut().insert(HOST, host);
        }
        None if !request.headers().contains_key(HOST) => {
            if request.version() == Version::HTTP_11 {
                return Err("bad_request");
            }
            request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        }
        None if !request.headers().get(HOST).is_some_and(is_host) => return Err("bad_request"),
        None => {}
    }
    *request.uri_mut() = Uri::from(path);
    if http2 {
        join_cookies(request.headers_mut());
    }
    Ok(())
}

/// RFC 9112 §3.2: a Host that is none is refused; over HTTP/2 to the app it could not even be said. Empty is one.
fn is_host(host: &HeaderValue) -> bool {
    host.is_empty() || !host.as_bytes().contains(&b'@') && Authority::try_from(host.as_bytes()).is_ok()
}

/// hyper frames by the last coding and would hand on `gzip, chunked` as if it had undone both; a reader who takes the
/// first line, or the first coding, would frame it otherwise (RFC 9112 §6.1).
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|only| only.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

/// RFC 9113 §8.2.3: HTTP/2 may split a Cookie field, HTTP/1.1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}
