//! One request to the control API, one answer.
//!
//! Called by `control.rs` for every request of a connection. Who asks is judged first, then what they ask for is found,
//! then whether they have a role for it; only then is a body read. Changes are in `changes.rs`. It must never act for
//! somebody whose trust has ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, IF_MATCH};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use proxy::Live;
use serde::Serialize;
use sources::Desk;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::body::AnswerBody;
use crate::caller::Caller;
use crate::control::Sidecar;
use crate::problem::Problem;
use crate::routes::{self, Operation, Route};
use crate::{changes, ledger, sessions, upload};

/// The description of this API, as it lies in the repository.
pub(crate) const DOCUMENT: &str = include_str!("../../../docs/openapi.yaml");

/// Bodies of each kind that are held at once; each may have `--revocation-max-bytes`.
const UPLOADS: usize = 2;
/// How long an upload waits for its turn.
const TURN: Duration = Duration::from_secs(30);

pub(crate) type Answer = Response<AnswerBody>;

/// What all requests share.
pub(crate) struct Office {
    pub(crate) desk: Desk,
    pub(crate) live: Arc<Live>,
    pub(crate) listening: Arc<[SocketAddr]>,
    /// Two kinds, so that whoever may only look cannot keep a push waiting.
    pushes: Arc<Semaphore>,
    previews: Arc<Semaphore>,
}

impl Office {
    pub(crate) fn new(sidecar: Sidecar) -> Office {
        let room = || Arc::new(Semaphore::new(UPLOADS));
        let Sidecar { desk, live, listening } = sidecar;
        Office { desk, live, listening: listening.into(), pushes: room(), previews: room() }
    }

    /// The turn of one upload.
    pub(crate) async fn turn(&self, operation: Operation) -> Result<OwnedSemaphorePermit, Problem> {
        let room = if operation == Operation::Preview { &self.previews } else { &self.pushes };
        match timeout(TURN, Arc::clone(room).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => {
                let detail = "others upload at the moment; nothing was changed, try again";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).closing())
            }
        }
    }
}

/// The answer to `request`.
pub(crate) async fn answer(request: Request<Incoming>, office: Arc<Office>, caller: Arc<Caller>) -> Answer {
    let found = routes::find(request.method(), request.uri().path());
    // Before anything else: nobody who is not trusted learns even what there is.
    if let Err(denial) = caller.judge() {
        return Problem::denied(&denial).response();
    }
    let (route, word) = match found {
        Ok(found) => found,
        Err(problem) => return problem.response(),
    };
    let outcome = match permitted(&caller, route) {
        Ok(()) => perform((route.operation, &word), request, (&office, &caller)).await,
        Err(problem) => Err(problem),
    };
    outcome.unwrap_or_else(|problem| {
        if let (Some(action), false) = (route.operation.change(), problem.is_told) {
            ledger::refused(&ledger::Asked { caller: &caller, action, what: &word }, &problem);
        }
        problem.response()
    })
}

fn permitted(caller: &Caller, route: &Route) -> Result<(), Problem> {
    if caller.roles().has_one_of(route.roles) {
        return Ok(());
    }
    let needed: Vec<_> = route.roles.iter().map(|role| role.name()).collect();
    let (who, roles, needed) = (caller.who(), caller.roles(), needed.join(" or "));
    let detail = format!("{who} has the roles: {roles}; this needs {needed}, given by --control-allow of the proxy");
    Err(Problem::new(StatusCode::FORBIDDEN, "role", detail).closing())
}

async fn perform(
    (operation, word): (Operation, &str),
    request: Request<Incoming>,
    (office, caller): (&Arc<Office>, &Arc<Caller>),
) -> Result<Answer, Problem> {
    let (parts, body) = request.into_parts();
    let (headers, query, by) = (&parts.headers, parts.uri.query(), (office, caller));
    let confirm = confirm(operation, query)?;
    let desk = &office.desk;
    match operation {
        Operation::State => json(StatusCode::OK, &desk.state().await?),
        Operation::Revocations => json(StatusCode::OK, &Revocations::of(desk.state().await?)),
        Operation::Denials => json(StatusCode::OK, &Denials { denials: desk.denials().await? }),
        Operation::Document => Ok(typed(StatusCode::OK, "application/yaml", DOCUMENT.as_bytes().to_vec())),
        Operation::Preview => {
            let turn = office.turn(operation).await?;
            let bytes = upload::read(body, desk.max_bytes()).await?;
            still_trusted(caller)?;
            let seen = desk.preview(bytes).await?;
            drop(turn);
            json(StatusCode::OK, &seen)
        }
        Operation::PushRevocations => changes::push((if_match(headers)?, confirm), body, by).await,
        Operation::Confirm => changes::confirm(headers, body, by).await,
        Operation::ResetFloor => changes::reset_floor(word, by).await,
        Operation::Deny => changes::deny(headers, body, by).await,
        Operation::Undeny => changes::undeny(word, by).await,
        Operation::Sessions => sessions::list(query, office),
        Operation::Session => sessions::show(word, office).await,
        Operation::End => sessions::end(headers, body, by).await,
        Operation::EndOne => sessions::end_one(word, query, by).await,
    }
}

/// Again after a body was read, which may have taken minutes.
pub(crate) fn still_trusted(caller: &Caller) -> Result<(), Problem> {
    caller.judge().map_err(|denial| Problem::denied(&denial))
}

#[derive(Serialize)]
struct Denials {
    denials: Vec<sources::DenialRecord>,
}

/// What is in force.
#[derive(Serialize)]
struct Revocations {
    epoch: u64,
    now: String,
    knowledge: &'static str,
    stale: bool,
    lists: Vec<sources::ListRecord>,
    crls: Vec<sources::CrlRecord>,
    crls_wait: bool,
}

impl Revocations {
    fn of(state: sources::State) -> Revocations {
        let sources::State { epoch, now, knowledge, stale, lists, crls, crls_wait, .. } = state;
        Revocations { epoch, now, knowledge, stale, lists, crls, crls_wait }
    }
}

/// `?confirm=true`, which only a push knows; anything else is a slip that shall not pass in silence.
fn confirm(operation: Operation, query: Option<&str>) -> Result<bool, Problem> {
    match (operation, query.unwrap_or_default()) {
        // Their own file reads it.
        (Operation::Sessions | Operation::EndOne, _) => Ok(false),
        (_, "") | (Operation::PushRevocations, "confirm=false") => Ok(false),
        (Operation::PushRevocations, "confirm=true") => Ok(true),
        _ => {
            let detail = "this query is not known here; a push knows confirm=true and confirm=false, nothing else any";
            Err(Problem::new(StatusCode::BAD_REQUEST, "query", detail).closing())
        }
    }
}

/// The sequence that must be in force, in quotes as every entity tag; without them it is as clear.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let quoted = |text: &str| text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::to_owned);
    let digits = value.to_str().ok().map(|text| quoted(text).unwrap_or_else(|| text.to_owned()));
    // `parse` would take a sign.
    let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(sequence) if values.next().is_none() => Ok(Some(sequence)),
        Some(_) | None => {
            let detail = "If-Match names no sequence; write the number in quotes, as If-Match: \"12\", once";
            Err(Problem::new(StatusCode::BAD_REQUEST, "if_match", detail).closing())
        }
    }
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Result<Answer, Problem> {
    let bytes = serde_json::to_vec(value).map_err(|_| Problem::broken())?;
    Ok(typed(status, "application/json", bytes))
}

fn typed(status: StatusCode, kind: &'static str, bytes: Vec<u8>) -> Answer {
    let mut response = Response::new(AnswerBody::whole(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_sequence_to_match_is_one_number_in_quotes() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::from_static(value));
            }
            if_match(&headers).ok()
        };
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["\"0\""]), Some(Some(0)));
        assert_eq!(read(&["\"18446744073709551615\""]), Some(Some(u64::MAX)));
        assert_eq!(read(&["12"]), Some(Some(12)));
        for bad in
            ["", "\"12", "\"\"", "\"+1\"", "\"-1\"", "*", "W/\"12\"", "\"1\", \"2\"", "\"18446744073709551616\"", "\""]
        {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&["\"1\"", "\"1\""]), None);
    }

    #[test]
    fn an_unknown_query_is_refused() {
        assert_eq!(confirm(Operation::PushRevocations, Some("confirm=true")).ok(), Some(true));
        assert_eq!(confirm(Operation::PushRevocations, None).ok(), Some(false));
        for bad in ["confrim=true", "confirm", "confirm=yes", "confirm=true&confirm=true", "confirm=true&x=1"] {
            assert!(confirm(Operation::PushRevocations, Some(bad)).is_err(), "{bad}");
        }
        assert!(confirm(Operation::State, Some("confirm=true")).is_err());
    }

    #[test]
    fn every_route_and_role_stands_in_the_document() {
        for route in &routes::ROUTES {
            let (_, after) =
                DOCUMENT.split_once(&format!("\n  {}:\n", route.path)).unwrap_or_else(|| panic!("{}", route.path));
            let end = after
                .match_indices("\n  ")
                .find(|(at, _)| !after[at + 3..].starts_with(' '))
                .map_or(after.len(), |(at, _)| at);
            let method = format!("    {}:\n", route.method.as_str().to_lowercase());
            let (_, told) =
                after[..end].split_once(&method).unwrap_or_else(|| panic!("{} {}", route.method, route.path));
            let roles: Vec<_> = route.roles.iter().map(|role| role.name()).collect();
            let roles = format!("x-portcullis-roles: [{}]\n", roles.join(", "));
            assert!(told.contains(&roles), "{} {}: {roles}", route.method, route.path);
        }
        let methods =
            DOCUMENT.lines().filter(|line| ["    get:", "    put:", "    post:", "    delete:"].contains(line));
        assert_eq!(methods.count(), routes::ROUTES.len(), "the document tells of requests that are not known");
    }
}
