//! Forwarding: one permitted request to the app, and the head of its response back.
//!
//! Called by `request.rs`. It takes a [`Permit`] by value: without one nothing reaches the app, and one serves once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use trust::Permit;

use crate::app::App;
use crate::body::{AppBody, ClientBody, OpenRequest};
use crate::clock::monotonic;
use crate::connection::Connection;
use crate::fault::Fault;
use crate::request::Interims;

/// What came of one attempt.
pub(crate) enum Attempt {
    /// The head of the app's response.
    Answered(Response<AppBody>),
    /// The app had closed the pooled connection. With the request itself if none of it was sent.
    Stale(Option<Request<ClientBody>>),
    /// It failed.
    Fault(Fault),
    /// The app opened a tunnel: what the client is told of it.
    Switched(Response<AppBody>),
}

/// Where and how a request goes out.
pub(crate) struct Destination<'a> {
    pub(crate) app: &'a Rc<App>,
    pub(crate) open: &'a Rc<OpenRequest>,
    /// Over HTTP/2 with prior knowledge.
    pub(crate) http2: bool,
    /// Not over a connection that was used before.
    pub(crate) only_new: bool,
    /// Where interim responses of an HTTP/2 app go; hyper's way for those of an HTTP/1.1 app is in the request.
    pub(crate) interims: Option<&'a Interims>,
}

/// Sends `request` to the app and waits for the head of its response.
pub(crate) async fn forward(permit: Permit, to: Destination<'_>, request: Request<ClientBody>) -> Attempt {
    // The permit ends here: whatever is tried next is judged again first.
    drop(permit);
    if to.http2 {
        return match over_http2(&to, request).await {
            Ok(response) => Attempt::Answered(response),
            Err(fault) => Attempt::Fault(fault),
        };
    }
    let mut lease = match to.app.lend(to.open.guarded(), to.only_new).await {
        Ok(lease) => lease,
        Err(fault) => return Attempt::Fault(fault),
    };
    let answer = lease.sender.try_send_request(request);
    match unless_too_slow(&to, answer).await {
        Err(fault) => Attempt::Fault(fault),
        Ok(Ok(response)) => Attempt::Answered(response.map(|body| AppBody::http1(body, lease))),
        Ok(Err(mut failure)) => {
            let unsent = failure.take_message();
            // The client's own body broke: no fault of the app's, however old its connection.
            if failure.error().is_user() || failure.error().is_body_write_aborted() {
                Attempt::Fault(Fault::ClientGone)
            } else if lease.reused {
                Attempt::Stale(unsent)
            } else {
                Attempt::Fault(Fault::Broken)
            }
        }
    }
}

/// `answer`, unless nothing moved for too long: the app did not answer for `Limits::app_response`, or the client did
/// not send what the app waits for during `Limits::body`.
pub(crate) async fn unless_too_slow<T>(to: &Destination<'_>, answer: impl Future<Output = T>) -> Result<T, Fault> {
    let mut answer = std::pin::pin!(answer);
    let (limits, open) = (&to.app.limits, to.open);
    let (mut before, mut quiet_since) = (open.progress(), monotonic());
    loop {
        let now = monotonic();
        if before != open.progress() {
            (before, quiet_since) = (open.progress(), now);
        }
        let (due, fault) = match open.owed_since() {
            Some(_) if open.is_patient() => (now + limits.body, None),
            Some(owed) => (owed + limits.body, Some(Fault::ClientSilent)),
            None => (quiet_since + limits.app_response, Some(Fault::TimedOut)),
        };
        if let Some(fault) = fault.filter(|_| now >= due) {
            return Err(fault);
        }
        // Whose turn it is changes meanwhile; so this looks again in time for either.
        let wait = due.min(now + limits.body.min(limits.app_response)).saturating_duration_since(now);
        if let Ok(answer) = tokio::time::timeout(wait, answer.as_mut()).await {
            return Ok(answer);
        }
    }
}

async fn over_http2(to: &Destination<'_>, request: Request<ClientBody>) -> Result<Response<AppBody>, Fault> {
    let mut seat = to.app.http2().await?;
    let (mut head, body) = request.into_parts();
    let authority = head.headers.remove(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut uri = head.uri.into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
    head.uri = Uri::from_parts(uri).map_err(|_| Fault::Broken)?;
    head.version = Version::HTTP_2;
    // RFC 9113 §8.2.2 allows this one; gRPC apps insist on it.
    head.headers.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    head.headers.remove(http::header::CONNECTION);
    let whole = body.is_end_stream();
    let sent = seat.sender.send_request(Request::from_parts(head, ()), whole);
    let (response, stream) = sent.map_err(|_| Fault::Broken)?;
    if !whole {
        tokio::task::spawn_local(send_up(body, stream, (to.open.connection.clone(), seat.given_up())));
    }
    // A body that broke off resets the stream, and so the response: no fault of the app's.
    let broken = |_| if to.open.client_broke() { Fault::ClientGone } else { Fault::Broken };
    let response = unless_too_slow(to, with_interims(to, response)).await?.map_err(broken)?;
    Ok(response.map(|body| AppBody::http2(body, seat)))
}

/// The final response; interim ones are passed on as they come.
async fn with_interims(
    to: &Destination<'_>,
    mut response: h2::client::ResponseFuture,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    poll_fn(|context| {
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(context) {
            if let Some(interims) = to.interims {
                interims.pass_on(interim.status(), interim.headers());
            }
        }
        Pin::new(&mut response).poll(context)
    })
    .await
}

/// Sends a request's body up to the app, until it ends, the session does or nobody waits for the response any more:
/// an app that does not read would otherwise hold the task, the stream and the request for ever.
async fn send_up(
    mut body: ClientBody,
    mut stream: h2::SendStream<Bytes>,
    (connection, given_up): (Rc<Connection>, oneshot::Receiver<()>),
) {
    let sent = tokio::select! {
        biased;
        _ = connection.until_cut() => false,
        sent = send_frames(&mut body, &mut stream) => sent,
        _ = given_up => false,
    };
    if !sent {
        stream.send_reset(h2::Reason::CANCEL);
    }
}

async fn send_frames(body: &mut ClientBody, stream: &mut h2::SendStream<Bytes>) -> bool {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        match frame.into_data() {
            Ok(bytes) => {
                if !send_data(stream, bytes, body.is_end_stream()).await {
                    return false;
                }
                if body.is_end_stream() {
                    return true;
                }
            }
            Err(frame) => {
                return frame.into_trailers().is_ok_and(|trailers| stream.send_trailers(trailers).is_ok());
            }
        }
    }
    stream.send_data(Bytes::new(), true).is_ok()
}

/// Sends no more than there is room for at a time, so that nothing queues in front of an ending.
pub(crate) async fn send_data(stream: &mut h2::SendStream<Bytes>, bytes: Bytes, last: bool) -> bool {
    matches!(send_data_within(stream, bytes, last, None).await, Sent::All)
}

/// What became of a piece of a body.
pub(crate) enum Sent {
    /// All of it was sent.
    All,
    /// The other side does not want it any more.
    Unwanted,
    /// It made no room for so long.
    Untaken,
}

/// The same, but room is waited for no longer than `patience` at a time.
pub(crate) async fn send_data_within(
    stream: &mut h2::SendStream<Bytes>,
    mut bytes: Bytes,
    last: bool,
    patience: Option<Duration>,
) -> Sent {
    if bytes.is_empty() {
        return if !last || stream.send_data(bytes, true).is_ok() { Sent::All } else { Sent::Unwanted };
    }
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let mut room = pin!(poll_fn(|context| stream.poll_capacity(context)));
        // Mostly there is room, and a timer would be in vain.
        let room = match (poll_fn(|context| Poll::Ready(room.as_mut().poll(context))).await, patience) {
            (Poll::Ready(room), _) => room,
            (Poll::Pending, None) => room.await,
            (Poll::Pending, Some(patience)) => match tokio::time::timeout(patience, room).await {
                Ok(room) => room,
                Err(_) => return Sent::Untaken,
            },
        };
        let Some(Ok(room)) = room else { return Sent::Unwanted };
        let piece = bytes.split_to(room.min(bytes.len()));
        if stream.send_data(piece, last && bytes.is_empty()).is_err() {
            return Sent::Unwanted;
        }
    }
    Sent::All
}
