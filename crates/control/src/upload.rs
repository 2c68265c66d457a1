//! The body of a request, read within bounds of size and time.
//!
//! Called by `api.rs` once it is known who asks and that they may. It must never hold more bytes than the limit, nor
//! wait without a deadline.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::problem::Problem;

/// Without a byte for so long a client is gone.
const PAUSE: Duration = Duration::from_secs(10);
/// For a whole list: 512 MiB at 40 Mbit/s.
const WHOLE: Duration = Duration::from_secs(110);
/// A question in JSON: an entry with its note has at most a few thousand.
pub(crate) const QUESTION_BYTES: u64 = 16 * 1024;

/// The whole body, of at most `limit` bytes.
pub(crate) async fn read(mut body: Incoming, limit: u64) -> Result<Vec<u8>, Problem> {
    let declared = body.size_hint().lower();
    if declared > limit {
        return Err(too_large(limit));
    }
    let mut bytes = Vec::new();
    // Once, and exactly: growing by doubling would take twice the room. What is not there to take is no panic.
    let room = usize::try_from(declared).map_err(|_| too_large(limit))?;
    bytes.try_reserve_exact(room).map_err(|_| {
        let detail = "there is no memory for a body of this size now; give the process more, or push less";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "memory", detail).closing()
    })?;
    let end = Instant::now() + WHOLE;
    loop {
        let frame = timeout_at(end.min(Instant::now() + PAUSE), body.frame()).await.map_err(|_| {
            let detail = "the body did not come within the time that it has; send it again, faster";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", detail).closing()
        })?;
        let Some(frame) = frame else { return Ok(bytes) };
        let frame = frame.map_err(|_| {
            let detail = "the body broke off; send it again, whole";
            Problem::new(StatusCode::BAD_REQUEST, "broken_off", detail).closing()
        })?;
        let piece: &Bytes = match frame.data_ref() {
            Some(piece) => piece,
            None => continue,
        };
        let reached = u64::try_from(bytes.len().saturating_add(piece.len())).unwrap_or(u64::MAX);
        if reached > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(piece);
    }
}

fn too_large(limit: u64) -> Problem {
    let detail = format!("the body has more than the {limit} bytes that are read here; send a smaller one");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail).closing()
}

/// A body of JSON as the value that it must be.
pub(crate) async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Incoming) -> Result<T, Problem> {
    // A page in an operator's browser can send many types across sites without being asked; not this one.
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = "a body of JSON is needed here; send it with Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail).closing());
    }
    let bytes = read(body, QUESTION_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let (status, label) = match error.classify() {
            serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => (StatusCode::BAD_REQUEST, "json"),
        };
        let detail = format!("the body is not what is needed here: {error}; GET /v1/openapi.yaml describes it");
        Problem::new(status, label, detail)
    })
}
