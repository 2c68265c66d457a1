//! `portcullis sessions`: who is connected to a running sidecar, and the end of those who shall not be.
//!
//! Called by `main.rs`. It must never end anybody whom no flag names.

pub(crate) mod args;
mod table;
mod terminal;
mod watch;
mod which;

use http::Method;
use serde_json::Value;

use crate::remote::{Content, Question, Remote, Reply, field};
use crate::revocations::remotely::{number, words};
use crate::revocations::say::{self, Tone, count, toned};
use crate::{Failure, print};
use args::{EndWish, ListWish, SessionsCommand, ShowWish};

/// The answer is no, or not whole.
const NO: Failure = Failure::Told(1);

/// Performs one command.
pub(crate) fn sessions(command: &SessionsCommand) -> Result<(), Failure> {
    match command {
        SessionsCommand::List(wish) => list(wish),
        SessionsCommand::Show(wish) => show(wish),
        SessionsCommand::Watch(wish) => watch::watch(wish),
        SessionsCommand::End(wish) => end(wish),
    }
}

fn list(wish: &ListWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let mut parts = which::parts(&wish.which)?;
    if let Some(limit) = wish.limit {
        parts.insert("limit".to_owned(), limit.into());
    }
    let Reply { value, .. } = remote.ask(Question::plain(Method::GET, which::path(&parts)))?;
    print::out(&if wish.remote.json { format!("{value}\n") } else { listed(&value, wish) });
    if number(field(&value, "unheard")) > 0 { Err(NO) } else { Ok(()) }
}

fn listed(value: &Value, wish: &ListWish) -> String {
    let sessions = table::sorted(value, wish.sort);
    let table = if sessions.is_empty() { String::new() } else { say::table(&table::rows(&sessions)) };
    format!("{table}{}\n", table::total(value))
}

fn show(wish: &ShowWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let Reply { value, .. } = remote.ask(Question::plain(Method::GET, format!("/v1/sessions/{}", wish.id)))?;
    print::out(&if wish.remote.json { format!("{value}\n") } else { shown(&value) });
    Ok(())
}

fn shown(session: &Value) -> String {
    let text = |key: &str| words(field(session, key));
    let tls = field(session, "tls");
    let [version, suite, exchange] = ["version", "cipher_suite", "key_exchange"].map(|key| words(field(tls, key)));
    let left = match field(session, "ends_at").as_str() {
        Some(_) => {
            let left = format!("{}, at {} by {}", table::left(session), text("ends_at"), text("ends_by"));
            if table::ends_soon(session) { toned(&left, Tone::Warning) } else { left }
        }
        None => "nothing ends it by itself".to_owned(),
    };
    let (requests, open) = (number(field(session, "requests")), number(field(session, "open_requests")));
    let [received, sent] = ["bytes_received", "bytes_sent"].map(|key| table::size(number(field(session, key))));
    let age = table::span(field(session, "age_seconds"));
    let rows = [
        ("session", format!("{}, {}", number(field(session, "id")), table::state(session))),
        ("identity", text("identity")),
        ("certificate", format!("serial {}, signed by key {}", text("serial"), text("issuer_key"))),
        ("chain", format!("valid until {}", text("chain_not_after"))),
        ("from", format!("{} at {}", text("peer"), text("inbound"))),
        ("speaks", format!("{}, TLS {version}, {suite}, {exchange}", text("protocol"))),
        ("open", format!("for {age}, since {}", text("opened_at"))),
        ("requests", format!("{requests}, {open} open now")),
        ("bytes", format!("{received} in, {sent} out")),
        ("judged", format!("under epoch {}", number(field(session, "epoch")))),
        ("left", left),
    ];
    say::table(&rows.map(|(name, value)| vec![name.to_owned(), value]))
}

fn end(wish: &EndWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let mut body = which::parts(&wish.which)?;
    if let Some(id) = wish.id {
        body.insert("id".to_owned(), id.into());
    }
    match (body.is_empty(), wish.all) {
        (true, false) => {
            let sentence = "name somebody: an ID, --identity, --serial, --issuer or --older-than; or everybody: --all";
            return Err(Failure::AtStart(sentence.to_owned()));
        }
        (false, true) => {
            let sentence = "--all stands beside something that narrows; give --all alone, or name those who are meant";
            return Err(Failure::AtStart(sentence.to_owned()));
        }
        (true, true) => drop(body.insert("all".to_owned(), true.into())),
        (false, false) => {}
    }
    body.insert("reason".to_owned(), wish.reason.clone().into());
    body.insert("dry_run".to_owned(), wish.dry_run.into());
    let body = Content::Json(Value::Object(body));
    let Reply { value, .. } = remote.ask(Question { body, ..Question::plain(Method::POST, "/v1/sessions/end") })?;
    print::out(&if wish.remote.json { format!("{value}\n") } else { ended(&value) });
    let whole = number(field(&value, "sessions")) > 0 && number(field(&value, "unheard")) == 0;
    if whole { Ok(()) } else { Err(NO) }
}

fn ended(value: &Value) -> String {
    let identities: Vec<&Value> = field(value, "identities").as_array().into_iter().flatten().collect();
    let (sessions, more) = (number(field(value, "sessions")), number(field(value, "more")));
    let dry_run = field(value, "dry_run") == true;
    let number_of = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let clients = identities.len().saturating_add(number_of(more));
    let (sessions_told, clients_told) =
        (count(number_of(sessions), "session", "sessions"), count(clients, "client", "clients"));
    let what = if dry_run { "would be ended" } else { "ended" };
    let mut text = match (sessions, dry_run) {
        (0, _) => "no such session is open\n".to_owned(),
        (_, true) => format!("{}\n", toned(&format!("{sessions_told} of {clients_told} {what}"), Tone::Warning)),
        (_, false) => format!("{}\n", toned(&format!("{sessions_told} of {clients_told} {what}"), Tone::Good)),
    };
    let one = |row: &&Value| vec![number(field(row, "sessions")).to_string(), words(field(row, "identity"))];
    text.push_str(&say::table(&identities.iter().map(one).collect::<Vec<_>>()));
    if more > 0 {
        text.push_str(&format!("and {more} more clients\n"));
    }
    let unheard = number(field(value, "unheard"));
    if unheard > 0 {
        let told = format!("{unheard} workers did not answer in time: look with `portcullis sessions list`\n");
        text.push_str(&toned(&told, Tone::Bad));
    }
    if sessions > 0 && !dry_run {
        text.push_str("they may come back at once, unless they are denied: portcullis deny --help\n");
    }
    text
}
