//! `portcullis revocations inspect`: what a file says, for people and for scripts.
//!
//! Called by `revocations.rs`; CRLs are read in `crl.rs`. It checks no signature, and must never look as if it did.

use std::collections::BTreeMap;

use revocation::{Document, Encoding, Entry};
use serde_json::{Value, json};
use trust::{Mode, Time};

use crate::moment::distance;
use crate::revocations::args::InspectWish;
use crate::revocations::document::{entry_as_json, parse};
use crate::revocations::say::Tone;
use crate::revocations::{crl, file, say, whom};
use crate::{Failure, print};

/// Entries that are shown unless all are asked for: a screen.
pub(crate) const FIRST: usize = 20;

/// Shows the file.
pub(crate) fn inspect(wish: &InspectWish) -> Result<(), Failure> {
    let now = proxy::Clock::real().now();
    let shown = file::shown(&wish.file);
    let bytes = file::read(&wish.file)?;
    let limit = if wish.all { usize::MAX } else { FIRST };
    let name = wish.file.display().to_string();
    let text = if is_crl(&bytes) {
        let crls = crl::read(bytes).map_err(|why| Failure::AtStart(format!("{shown}: {why}")))?;
        if wish.json {
            format!("{}\n", crl::as_json(&name, &crls, limit))
        } else {
            crl::as_text(&shown, &crls, limit, now)
        }
    } else {
        let size = bytes.len();
        let document = parse(&wish.file, bytes)?;
        if wish.json {
            format!("{}\n", as_json(&name, &document, limit, now))
        } else {
            as_text(&format!("{shown}, {}", say::size(size)), &document, limit, now)
        }
    };
    print::out(&text);
    Ok(())
}

/// DER of a CRL begins with a SEQUENCE, PEM with its dashes, and no list begins with either.
fn is_crl(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    bytes.first() == Some(&0x30) || text.starts_with(b"-----BEGIN ")
}

/// Whether the entry still has force.
fn has_ended(entry: &Entry, now: Time) -> bool {
    entry.until.is_some_and(|until| until <= now)
}

fn counts(entries: &[Entry]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        *counts.entry(entry.whom.kind()).or_insert(0) += 1;
    }
    counts
}

fn as_json(file: &str, document: &Document, limit: usize, now: Time) -> Value {
    let (header, entries) = (document.header(), document.entries());
    json!({
        "file": file,
        "kind": "list",
        "encoding": header.encoding().name(),
        "list": header.list(),
        "mode": whom::mode_name(header.mode()),
        "scope": header.scope(),
        "sequence": header.sequence(),
        "issued_at": revocation::show(header.issued_at()),
        "expires_at": revocation::show(header.expires_at()),
        "expired": header.expires_at() <= now,
        "signatures": document.signatures().iter().map(|id| id.map(|id| id.to_string())).collect::<Vec<_>>(),
        "absorbs": header.absorbs().iter().map(|id| &**id).collect::<Vec<_>>(),
        "confirms": header.confirms(),
        "counts": counts(entries),
        "observed": entries.iter().filter(|entry| entry.mode == Mode::Observe).count(),
        "ended": entries.iter().filter(|entry| has_ended(entry, now)).count(),
        "entries_total": entries.len(),
        "entries": entries.iter().take(limit).map(entry_as_json).collect::<Vec<_>>(),
        "more": entries.len().saturating_sub(limit),
    })
}

fn as_text(title: &str, document: &Document, limit: usize, now: Time) -> String {
    let header = document.header();
    let form = match header.encoding() {
        Encoding::Lines => "JSON lines",
        Encoding::Binary => "compiled",
    };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("file", format!("{title}, {form}")),
        row("list", header.list().to_owned()),
        row(
            "mode",
            match header.mode() {
                Mode::Enforce => "enforce".to_owned(),
                Mode::Observe => say::toned("observe: it denies nobody", Tone::Warning),
            },
        ),
        row("sequence", header.sequence().to_string()),
        row("issued", format!("{} ({})", revocation::show(header.issued_at()), distance(header.issued_at(), now))),
        row("expires", expiry(header.expires_at(), now)),
        row("signatures", signatures(document)),
    ];
    if let Some(scope) = header.scope() {
        rows.push(row("scope", scope.to_owned()));
    }
    if !header.absorbs().is_empty() {
        rows.push(row("absorbs", header.absorbs().join(", ")));
    }
    if header.confirms() {
        rows.push(row("confirms", "yes: it may cut more than --max-cut-fraction".to_owned()));
    }
    rows.push(row("entries", summary(document.entries(), now)));
    let mut text = say::table(&rows);
    text.push_str(&table(document.entries(), limit, now));
    text
}

/// An expiry in its tone.
pub(crate) fn expiry(expires_at: Time, now: Time) -> String {
    let text = format!("{} ({})", revocation::show(expires_at), distance(expires_at, now));
    if expires_at <= now { say::toned(&format!("{text}: a sidecar denies everybody"), Tone::Bad) } else { text }
}

fn signatures(document: &Document) -> String {
    let ids: Vec<String> = document
        .signatures()
        .iter()
        .map(|id| id.map_or_else(|| "a key that is not named".to_owned(), |id| id.to_string()))
        .collect();
    match ids.len() {
        0 => "none".to_owned(),
        count => format!("{count}, not checked here: {}", ids.join(", ")),
    }
}

fn summary(entries: &[Entry], now: Time) -> String {
    let kinds: Vec<String> = counts(entries).iter().map(|(kind, count)| format!("{count} by {kind}")).collect();
    let mut text = entries.len().to_string();
    if !kinds.is_empty() {
        text.push_str(&format!(": {}", kinds.join(", ")));
    }
    let observed = entries.iter().filter(|entry| entry.mode == Mode::Observe).count();
    let ended = entries.iter().filter(|entry| has_ended(entry, now)).count();
    for (count, told) in [(observed, "only observed"), (ended, "ended")] {
        if count > 0 {
            text.push_str(&format!("; {count} {told}"));
        }
    }
    text
}

fn table(entries: &[Entry], limit: usize, now: Time) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let heads = ["BY", "WHOM", "ISSUED BEFORE", "UNTIL", "REASON", "MODE", "NOTE"].map(str::to_owned);
    let mut rows = vec![heads.to_vec()];
    for entry in entries.iter().take(limit) {
        let moment = |moment: Option<Time>| moment.map(revocation::show).unwrap_or_default();
        let until = match entry.until {
            Some(until) if until <= now => format!("{} (ended)", revocation::show(until)),
            until => moment(until),
        };
        rows.push(vec![
            entry.whom.kind().to_owned(),
            say::plain(&named(entry)),
            moment(entry.issued_before),
            until,
            entry.reason.map(|reason| reason.name().to_owned()).unwrap_or_default(),
            if entry.mode == Mode::Observe { "observe".to_owned() } else { String::new() },
            say::plain(entry.note().unwrap_or_default()),
        ]);
    }
    // A column in which nobody says anything takes room from those that do.
    let used: Vec<bool> = (0..heads.len())
        .map(|column| rows.iter().skip(1).any(|row| row.get(column).is_some_and(|cell| !cell.is_empty())))
        .collect();
    let keep =
        |row: &Vec<String>| row.iter().zip(&used).filter(|(_, used)| **used).map(|(cell, _)| cell.clone()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(keep).collect();
    format!("\n{}{}", say::table(&rows), rest(entries.len(), limit))
}

/// What is not shown.
pub(crate) fn rest(total: usize, limit: usize) -> String {
    match total.saturating_sub(limit) {
        0 => String::new(),
        more => format!("… and {more} more; --all shows them\n"),
    }
}

/// Whom the entry names, without the word for how.
fn named(entry: &Entry) -> String {
    let line = entry_as_json(entry);
    let text = |key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
    if entry.whom.is_compiled() {
        return entry.whom.to_string();
    }
    match (text("serial"), text("issuer"), text(entry.whom.kind())) {
        // A whole digest would push the rest of the row off the screen; the list and --json have it.
        (Some(serial), Some(issuer), _) => format!("{serial} of issuer {}…", issuer.get(..16).unwrap_or(&issuer)),
        (_, _, Some(named)) => named,
        (_, _, None) => entry.whom.to_string(),
    }
}
