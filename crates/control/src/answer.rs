//! One request to the endpoint, one answer: `/metrics`, `/livez`, `/readyz`, `/app-probe/…`.
//!
//! Called by `lib.rs` for each request. It must never change anything, read a request's body, or say anything about
//! a client: whoever reaches the port may read every answer.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::Full;
use prometheus::{Encoder, TextEncoder};

use crate::readiness::{Condition, conditions};
use crate::{AppProbes, Watched};

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

type Page = fn(&Uri, &Watched) -> Response<Full<Bytes>>;

/// The answer to `method` on `uri`.
pub(crate) async fn answer(method: &Method, uri: &Uri, watched: &Watched) -> Response<Full<Bytes>> {
    let page: Option<Page> = match uri.path() {
        "/metrics" => Some(metrics),
        "/livez" => Some(alive),
        "/readyz" => Some(ready),
        path if AppProbes::are_asked(path) => None,
        _ => return plain(StatusCode::NOT_FOUND, "not found; there are /metrics, /livez and /readyz\n".to_owned()),
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match page {
        Some(page) => page(uri, watched),
        None => status_alone(watched.app_probes.ask(uri.path()).await),
    }
}

/// Nothing of what the app said but its status.
fn status_alone(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    typed(status, PLAIN, text.into_bytes())
}

fn typed(status: StatusCode, kind: HeaderValue, bytes: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn metrics(_: &Uri, watched: &Watched) -> Response<Full<Bytes>> {
    watched.metrics.refresh(&watched.live);
    let encoder = TextEncoder::new();
    let mut bytes = Vec::new();
    let kind = HeaderValue::from_str(encoder.format_type()).unwrap_or(PLAIN);
    match encoder.encode(&watched.metrics.registry.gather(), &mut bytes) {
        Ok(()) => typed(StatusCode::OK, kind, bytes),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}\n")),
    }
}

fn alive(_: &Uri, watched: &Watched) -> Response<Full<Bytes>> {
    match watched.running.alive() {
        Ok(()) => plain(StatusCode::OK, "alive\n".to_owned()),
        Err(worker) => {
            let text = format!("the loop of worker {worker} has not turned for ten seconds\n");
            plain(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

fn ready(uri: &Uri, watched: &Watched) -> Response<Full<Bytes>> {
    let bypass = watched.bypass.as_deref();
    let conditions = conditions(&watched.live, watched.running.is_stopping(), watched.desk.held(), bypass);
    let met = conditions.iter().all(|condition| condition.state.is_ok());
    let status = if met { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    plain(status, text(&conditions, wants_all(uri), met))
}

fn wants_all(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")))
}

fn text(conditions: &[Condition], all: bool, met: bool) -> String {
    let mut text = String::new();
    for Condition { name, state } in conditions {
        match state {
            Ok(state) if all => text.push_str(&format!("[ok] {name}: {state}\n")),
            Ok(_) => {}
            Err(state) if all => text.push_str(&format!("[no] {name}: {state}\n")),
            Err(state) => text.push_str(&format!("{name}: {state}\n")),
        }
    }
    if met {
        text.push_str("ready\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_answer_names_what_failed_and_a_verbose_one_everything() {
        let mixed = [
            Condition { name: "bundle", state: Ok("2 trusted".to_owned()) },
            Condition { name: "snapshot", state: Err("none".to_owned()) },
        ];
        assert_eq!(text(&mixed, false, false), "snapshot: none\n");
        assert_eq!(text(&mixed, true, false), "[ok] bundle: 2 trusted\n[no] snapshot: none\n");
        assert_eq!(text(&mixed[..1], false, true), "ready\n");
    }

    #[test]
    fn verbose_is_asked_for_by_its_whole_name() {
        let asked = |uri: &'static str| wants_all(&Uri::from_static(uri));
        assert!(asked("/readyz?verbose") && asked("/readyz?x=1&verbose=true"));
        assert!(!asked("/readyz") && !asked("/readyz?verbosely") && !asked("/readyz?x=verbose"));
    }
}
