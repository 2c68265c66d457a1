//! `portcullis state`: what a running sidecar knows about revocations.
//!
//! Called by `main.rs`. It must never call fresh what the sidecar calls stale.

use http::Method;
use serde_json::Value;

use crate::remote::args::LookWish;
use crate::remote::{Question, Remote, Reply, field};
use crate::revocations::remotely::{number, words};
use crate::revocations::say::{Tone, table, toned};
use crate::{Failure, print};

/// Shows it.
pub(crate) fn state(wish: &LookWish) -> Result<(), Failure> {
    let Reply { value, .. } = Remote::open(&wish.remote)?.ask(Question::plain(Method::GET, "/v1/state"))?;
    print::out(&if wish.remote.json { format!("{value}\n") } else { text(&value) });
    Ok(())
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    let knowledge = match field(value, "knowledge").as_str() {
        Some("known") if field(value, "stale") == true => {
            toned("stale: past its expiry, in force because --stale says so", Tone::Bad)
        }
        Some("known") => toned("known", Tone::Good),
        Some("missing") => toned("missing: every client is denied", Tone::Bad),
        Some(_) | None => toned("not checked (--no-revocations)", Tone::Warning),
    };
    let mut rows = vec![
        vec!["knowledge".to_owned(), knowledge],
        vec!["epoch".to_owned(), format!("{}, at {}", number(field(value, "epoch")), words(field(value, "now")))],
    ];
    rows.extend(items(field(value, "lists")).map(list));
    rows.extend(items(field(value, "crls")).map(crl));
    let (denials, lapsing) = (number(field(value, "denials")), number(field(value, "denials_lapsing")));
    rows.push(vec!["denials".to_owned(), format!("{denials}, {lapsing} of them end soon")]);
    for held in items(field(value, "held")) {
        let (cut, live, since) = (number(field(held, "cut")), number(field(held, "live")), words(field(held, "since")));
        let what = format!("{} since {since}: it would have cut {cut} of {live} sessions", words(field(held, "what")));
        rows.push(vec![
            "held".to_owned(),
            format!("{}, digest {}", toned(&what, Tone::Bad), words(field(held, "digest"))),
        ]);
    }
    for refusal in items(field(value, "refusals")) {
        let [at, from, sentence] = ["at", "from", "sentence"].map(|key| words(field(refusal, key)));
        rows.push(vec!["refused".to_owned(), format!("{at} {from}: {sentence}")]);
    }
    if let Some(failure) = field(field(value, "state_dir"), "failure").as_str() {
        rows.push(vec!["state".to_owned(), toned(&crate::revocations::say::plain(failure), Tone::Bad)]);
    }
    table(&rows)
}

/// When it ends, and whether a restart would find it.
fn end(value: &Value, key: &str) -> String {
    let verb = if field(value, "expired") == true { toned("expired", Tone::Bad) } else { "expires".to_owned() };
    let kept = if field(value, "persisted") == true { "" } else { ", not kept" };
    format!("{verb} {}{kept}", words(field(value, key)))
}

fn list(value: &Value) -> Vec<String> {
    let (sequence, entries) = (number(field(value, "sequence")), number(field(value, "entries")));
    let observed = match number(field(value, "observed_entries")) {
        0 => String::new(),
        count => format!(", {count} only observe"),
    };
    let name = words(field(value, "name"));
    vec![
        "list".to_owned(),
        format!("{name}, sequence {sequence}, {entries} entries{observed}, {}", end(value, "expires_at")),
    ]
}

fn crl(value: &Value) -> Vec<String> {
    let [key, scope] = ["issuer_key", "scope"].map(|key| words(field(value, key)));
    let entries = number(field(value, "entries"));
    vec!["CRL".to_owned(), format!("of key {key}, {scope}, {entries} entries, {}", end(value, "next_update"))]
}
