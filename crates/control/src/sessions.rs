//! Requests about sessions: who is connected, and the end of those whom an operator names.
//!
//! Called by `api.rs`. An end runs in a task of its own, to the line in the audit, whatever becomes of the caller. It
//! must never end anybody whom no part of the request names.

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use proxy::{Ended, Order, Wanted};
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::{Answer, Office, json, still_trusted};
use crate::body::AnswerBody;
use crate::changes::{By, Told, change, signature};
use crate::listing::{Listing, SessionRecord};
use crate::problem::Problem;
use crate::session_query::{Parts, number, pairs};
use crate::upload;

/// Sessions of one list, if no limit is given: more than a sidecar has.
const MOST: u64 = 1_000_000;
/// Identities, and ids, that one answer about an end names.
const NAMED: usize = 1000;
/// Characters of a reason.
const REASON: usize = 200;

/// All that are wanted.
pub(crate) fn list(query: Option<&str>, office: &Office) -> Result<Answer, Problem> {
    let (mut parts, mut limit) = (Parts::default(), MOST);
    for (name, value) in pairs(query, &["id", "identity", "serial", "issuer", "older_than", "limit"])? {
        match name {
            "id" => parts.id = Some(number(name, &value)?),
            "identity" => parts.identity = Some(value),
            "serial" => parts.serial = Some(value),
            "issuer" => parts.issuer = Some(value),
            "older_than" => parts.older_than = Some(number(name, &value)?),
            _ => limit = number(name, &value)?,
        }
    }
    if limit == 0 || limit > MOST {
        let detail = format!("limit: write a number from 1 to {MOST}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "query", detail).closing());
    }
    let roster = office.live.sessions(parts.wanted()?);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let listing = Listing::new((office.live.clone(), office.listening.clone()), roster, limit);
    let mut response = Response::new(AnswerBody::list(listing));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The one of this id.
pub(crate) async fn show(word: &str, office: &Office) -> Result<Answer, Problem> {
    let mut roster = office.live.sessions(one(word)?);
    match roster.next().await.and_then(|rows| rows.into_iter().next()) {
        Some(row) => json(StatusCode::OK, &SessionRecord::of(row, &office.listening, office.live.now())),
        None => Err(absent(word, roster.unheard())),
    }
}

fn one(word: &str) -> Result<Wanted, Problem> {
    let digits = Some(word).filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|word| word.parse().ok()) {
        Some(id) => Ok(Wanted { id: Some(id), ..Wanted::default() }),
        None => Err(absent(word, 0)),
    }
}

fn absent(word: &str, unheard: usize) -> Problem {
    if unheard > 0 {
        let detail = format!("no session {word} was found, and {unheard} workers did not answer in time; try again");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unheard", detail);
    }
    let detail = format!("there is no session {word}; it may have ended, GET /v1/sessions tells who is connected");
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// What is to be ended, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default, deserialize_with = "given")]
    id: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    identity: Option<String>,
    #[serde(default, deserialize_with = "given")]
    serial: Option<String>,
    #[serde(default, deserialize_with = "given")]
    issuer: Option<String>,
    #[serde(default, deserialize_with = "given")]
    older_than: Option<u64>,
    #[serde(default)]
    all: bool,
    reason: String,
    #[serde(default)]
    dry_run: bool,
}

/// A value; null is none, and may stand where a script found nothing to put.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Those whom a body names.
pub(crate) async fn end(headers: &HeaderMap, body: Incoming, (office, caller): By<'_>) -> Result<Answer, Problem> {
    let Wish { id, identity, serial, issuer, older_than, all, reason, dry_run } =
        upload::read_json(headers, body).await?;
    still_trusted(caller)?;
    let parts = Parts { id, identity, serial, issuer, older_than };
    let (words, wanted) = (parts.words(), parts.wanted()?);
    if all != wanted.is_everybody() {
        let detail = if all {
            "all stands beside something that narrows; say all alone, or name those who are meant"
        } else {
            "nobody is named: give id, identity, serial, issuer or older_than, or say \"all\": true"
        };
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    let reason = plain(&reason)?;
    if dry_run {
        return json(StatusCode::OK, &EndRecord::of(&office.live.would_end(wanted).await, true));
    }
    json(StatusCode::OK, &carry_out((words, wanted), reason, (office, caller)).await?)
}

/// The one of this id, for the reason in the query.
pub(crate) async fn end_one(word: &str, query: Option<&str>, (office, caller): By<'_>) -> Result<Answer, Problem> {
    let Some((_, reason)) = pairs(query, &["reason"])?.pop() else {
        let detail = "no reason is given; whoever reads the log wants to know: add ?reason=TEXT";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "query", detail).closing());
    };
    let (wanted, reason) = (one(word)?, plain(&reason)?);
    let record = carry_out((format!("id {word}"), wanted), reason, (office, caller)).await?;
    if record.sessions == 0 { Err(absent(word, record.unheard)) } else { json(StatusCode::OK, &record) }
}

/// Without what could forge a line of a log, and no longer than one.
fn plain(reason: &str) -> Result<String, Problem> {
    let text = reason.trim();
    if text.is_empty() || text.chars().count() > REASON {
        let detail = format!("reason: write why, in 1 to {REASON} characters");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    Ok(text.chars().map(|sign| if sign.is_control() { '\u{fffd}' } else { sign }).collect())
}

/// What became of an order.
#[derive(Clone, Serialize)]
struct EndRecord {
    dry_run: bool,
    sessions: usize,
    ids: Vec<u64>,
    identities: Vec<EndedIdentity>,
    /// Identities beyond those.
    more: usize,
    unheard: usize,
}

#[derive(Clone, Serialize)]
struct EndedIdentity {
    identity: String,
    sessions: usize,
}

impl EndRecord {
    fn of(ended: &Ended, dry_run: bool) -> EndRecord {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for session in &ended.sessions {
            *counts.entry(&session.identity).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
        let named = counts.iter().take(NAMED);
        EndRecord {
            dry_run,
            sessions: ended.sessions.len(),
            ids: ended.sessions.iter().take(NAMED).map(|session| session.id).collect(),
            identities: named.map(|(who, n)| EndedIdentity { identity: (*who).to_owned(), sessions: *n }).collect(),
            more: counts.len().saturating_sub(NAMED),
            unheard: ended.unheard,
        }
    }
}

/// For the audit.
struct Done {
    what: String,
    why: String,
    record: EndRecord,
}

impl Told for Done {
    fn what(&self) -> String {
        self.what.clone()
    }

    fn result(&self) -> &'static str {
        if self.record.sessions == 0 { "nobody" } else { "ended" }
    }

    fn detail(&self) -> String {
        let EndRecord { sessions, identities, more, unheard, .. } = &self.record;
        let clients = identities.len() + more;
        let unheard = match unheard {
            0 => String::new(),
            workers => format!(", {workers} workers did not answer"),
        };
        format!("sessions {sessions}, clients {clients}{unheard}: {}", self.why)
    }
}

async fn carry_out(
    (what, wanted): (String, Wanted),
    why: String,
    (office, caller): By<'_>,
) -> Result<EndRecord, Problem> {
    let (live, order) = (Arc::clone(&office.live), Order { by: signature(caller), why: why.clone() });
    let named = what.clone();
    let work = async move {
        let record = EndRecord::of(&live.end(wanted, order).await, false);
        Ok(Done { what: named, why, record })
    };
    Ok(change(caller, ("end", what), work).await?.record)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proxy::EndedSession;

    use super::*;

    #[test]
    fn a_reason_has_words_and_forges_no_line() {
        assert_eq!(plain(" incident 7 ").unwrap(), "incident 7");
        assert_eq!(plain("a\nb\u{1b}[2J").unwrap(), "a\u{fffd}b\u{fffd}[2J");
        assert!(plain(&"é".repeat(REASON)).is_ok());
        for bad in ["", "  \n", &"a".repeat(REASON + 1)] {
            assert_eq!(plain(bad).err().unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY, "{bad:?}");
        }
    }

    #[test]
    fn a_part_that_a_script_left_empty_does_not_widen_an_order() {
        let read = |text: &str| serde_json::from_str::<Wish>(text).is_ok();
        assert!(read(r#"{"identity":"dns:a","reason":"x"}"#));
        for bad in [
            r#"{"identity":null,"all":true,"reason":"x"}"#,
            r#"{"id":null,"older_than":5,"reason":"x"}"#,
            r#"{"id":1,"id":2,"reason":"x"}"#,
            r#"{"older_then":5,"all":true,"reason":"x"}"#,
            r#"{"all":true}"#,
        ] {
            assert!(!read(bad), "{bad}");
        }
    }

    #[test]
    fn what_became_of_an_order_names_clients_with_most_sessions_first() {
        let names = ["dns:b", "dns:a", "dns:c", "dns:c"];
        let session = |(id, name): (u64, &str)| EndedSession { id, identity: name.to_owned() };
        let ended = Ended { sessions: (1..).zip(names).map(session).collect(), unheard: 1 };
        let record = serde_json::to_value(EndRecord::of(&ended, true)).unwrap();
        let identities = serde_json::json!([
            { "identity": "dns:c", "sessions": 2 },
            { "identity": "dns:a", "sessions": 1 },
            { "identity": "dns:b", "sessions": 1 },
        ]);
        assert_eq!(record["identities"], identities);
        assert_eq!(record["ids"], serde_json::json!([1, 2, 3, 4]));
        assert_eq!((&record["sessions"], &record["unheard"], &record["dry_run"]), (&4.into(), &1.into(), &true.into()));
    }
}
