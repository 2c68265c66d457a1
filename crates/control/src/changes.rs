//! Requests that change something: pushed, confirmed, denied, taken back.
//!
//! Called by `api.rs`; `sessions.rs` ends sessions by the same rule. Each runs in a task of its own, from the desk's question to the line in the audit: a caller who
//! goes away meanwhile, or is cut by what it pushed, takes no line with it. It must never answer before that line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use sources::{DenialRecord, DeskError, Entry, FloorReset, NewDenial, Push, Pushed};

use crate::api::{Answer, Office, json, still_trusted};
use crate::caller::Caller;
use crate::ledger::{self, Asked};
use crate::problem::Problem;
use crate::routes::Operation;
use crate::upload;

pub(crate) type By<'a> = (&'a Arc<Office>, &'a Arc<Caller>);

/// What the audit says of something done.
pub(crate) trait Told {
    fn what(&self) -> String;
    fn result(&self) -> &str;
    fn detail(&self) -> String;
}

impl Told for Pushed {
    fn what(&self) -> String {
        self.taken.what()
    }

    fn result(&self) -> &str {
        self.taken.result
    }

    fn detail(&self) -> String {
        self.taken.sentence.clone()
    }
}

impl Told for FloorReset {
    fn what(&self) -> String {
        format!("list {}", self.list)
    }

    fn result(&self) -> &'static str {
        "reset"
    }

    fn detail(&self) -> String {
        let floors = self.floors.iter().map(|floor| format!("{} {}", floor.mode, floor.sequence));
        format!("the floor was {}", floors.collect::<Vec<_>>().join(", "))
    }
}

/// A denial that was added, or taken back.
struct Changed(DenialRecord, &'static str);

impl Told for Changed {
    fn what(&self) -> String {
        self.0.id.clone()
    }

    fn result(&self) -> &'static str {
        self.1
    }

    fn detail(&self) -> String {
        let entry = serde_json::to_string(&self.0.entry).unwrap_or_default();
        format!("{entry} until {}", self.0.until)
    }
}

/// Does it, and writes its line. `what` names it if it is refused.
pub(crate) async fn change<T: Told + Send + 'static>(
    caller: &Arc<Caller>,
    (action, what): (&'static str, String),
    work: impl Future<Output = Result<T, DeskError>> + Send + 'static,
) -> Result<T, Problem> {
    let caller = Arc::clone(caller);
    let task = tokio::spawn(async move {
        let outcome = work.await.map_err(|error| Problem::from(error).told());
        match &outcome {
            Ok(done) => {
                let asked = Asked { caller: &caller, action, what: &done.what() };
                ledger::done(&asked, (done.result(), &done.detail()));
            }
            Err(problem) => ledger::refused(&Asked { caller: &caller, action, what: &what }, problem),
        }
        outcome
    });
    task.await.unwrap_or_else(|_| Err(Problem::broken()))
}

/// For the records of the desk: who, and by which certificate.
pub(crate) fn signature(caller: &Caller) -> String {
    match caller.serial() {
        Some(serial) => format!("{} (serial {serial})", caller.who()),
        None => caller.who(),
    }
}

fn pushed(done: &Pushed) -> Result<Answer, Problem> {
    // Neither is in force yet, and may never be.
    let waits = matches!(done.taken.result, "held" | "waiting");
    json(if waits { StatusCode::ACCEPTED } else { StatusCode::OK }, done)
}

pub(crate) async fn push(
    (if_match, confirm): (Option<u64>, bool),
    body: Incoming,
    (office, caller): By<'_>,
) -> Result<Answer, Problem> {
    let turn = office.turn(Operation::PushRevocations).await?;
    let bytes = upload::read(body, office.desk.max_bytes()).await?;
    still_trusted(caller)?;
    let (desk, push) = (office.desk.clone(), Push { if_match, confirm, who: signature(caller) });
    let what = format!("{} bytes", bytes.len());
    let work = async move {
        let done = desk.push(bytes, push).await;
        drop(turn);
        done
    };
    pushed(&change(caller, ("push", what), work).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    digest: Option<String>,
}

pub(crate) async fn confirm(headers: &HeaderMap, body: Incoming, (office, caller): By<'_>) -> Result<Answer, Problem> {
    let Confirmed { digest } = upload::read_json(headers, body).await?;
    still_trusted(caller)?;
    let (desk, who) = (office.desk.clone(), signature(caller));
    let what = digest.clone().unwrap_or_else(|| "what is held".to_owned());
    pushed(&change(caller, ("confirm", what), async move { desk.confirm(digest, who).await }).await?)
}

pub(crate) async fn reset_floor(list: &str, (office, caller): By<'_>) -> Result<Answer, Problem> {
    let (desk, who, list) = (office.desk.clone(), signature(caller), list.to_owned());
    let what = format!("list {list}");
    let reset = change(caller, ("reset_floor", what), async move { desk.reset_floor(list, who).await }).await?;
    json(StatusCode::OK, &reset)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(deserialize_with = "once_each")]
    entry: Entry,
    ttl_seconds: u64,
}

/// An object whose keys stand once each: of two ids, none may be left out in silence.
fn once_each<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
    struct Object;
    impl<'de> Visitor<'de> for Object {
        type Value = Entry;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an entry, which is a JSON object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
            let mut entry = Entry::new();
            while let Some((key, value)) = map.next_entry::<String, serde_json::Value>()? {
                if entry.insert(key, value).is_some() {
                    return Err(A::Error::custom("duplicate key; each may stand once in an entry"));
                }
            }
            Ok(entry)
        }
    }
    deserializer.deserialize_map(Object)
}

pub(crate) async fn deny(headers: &HeaderMap, body: Incoming, (office, caller): By<'_>) -> Result<Answer, Problem> {
    let Wanted { entry, ttl_seconds } = upload::read_json(headers, body).await?;
    still_trusted(caller)?;
    let what = serde_json::to_string(&entry).unwrap_or_default();
    let denial = NewDenial { entry, ttl: Duration::from_secs(ttl_seconds), who: signature(caller) };
    let desk = office.desk.clone();
    let work = async move { desk.deny(denial).await.map(|record| Changed(record, "denied")) };
    let Changed(record, _) = change(caller, ("deny", what), work).await?;
    let mut answer = json(StatusCode::CREATED, &record)?;
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/denials/{}", record.id)) {
        answer.headers_mut().insert(LOCATION, place);
    }
    Ok(answer)
}

pub(crate) async fn undeny(id: &str, (office, caller): By<'_>) -> Result<Answer, Problem> {
    let (desk, who, id) = (office.desk.clone(), signature(caller), id.to_owned());
    let what = id.clone();
    let work = async move { desk.undeny(id, who).await.map(|record| Changed(record, "taken_back")) };
    let Changed(record, _) = change(caller, ("undeny", what), work).await?;
    json(StatusCode::OK, &record)
}
