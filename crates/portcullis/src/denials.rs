//! `portcullis deny`, `undeny` and `denials`: single denials on a running sidecar.
//!
//! Called by `main.rs`. It must never deny without an end, nor for longer than was said.

use http::Method;
use serde_json::{Value, json};

use crate::remote::args::{DenyWish, LookWish, UndenyWish};
use crate::remote::{Content, Question, Remote, Reply, field};
use crate::revocations::args::OnTerms;
use crate::revocations::remotely::{segment, words};
use crate::revocations::say::{Tone, table, toned};
use crate::revocations::whom;
use crate::{Failure, duration, print};

/// Denies everyone whom the flags name.
pub(crate) fn deny(wish: &DenyWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let span = duration::parse(&wish.span).map_err(|why| Failure::AtStart(format!("--for {:?}: {why}", wish.span)))?;
    if span.subsec_nanos() != 0 {
        return Err(Failure::AtStart(format!("--for {:?}: write whole seconds", wish.span)));
    }
    let now = proxy::Clock::real().now();
    let terms = OnTerms {
        issued_before: wish.issued_before.clone(),
        reason: wish.reason.clone(),
        note: wish.note.clone(),
        ..OnTerms::default()
    };
    let entries = whom::entries(&whom::named(&wish.whom, false)?, &terms, now)?;
    for entry in entries {
        let entry: Value = serde_json::from_str(&entry.line())
            .map_err(|error| Failure::WhileRunning(format!("an entry cannot be written ({error}); report it")))?;
        let body = Content::Json(json!({ "entry": entry, "ttl_seconds": span.as_secs() }));
        let question = Question { body, ..Question::plain(Method::POST, "/v1/denials") };
        let Reply { value, .. } = remote.ask(question)?;
        told(&value, (toned("denied", Tone::Good), wish.remote.json));
    }
    Ok(())
}

/// Takes one back.
pub(crate) fn undeny(wish: &UndenyWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let id = segment("ID", &wish.id)?;
    let Reply { value, .. } = remote.ask(Question::plain(Method::DELETE, format!("/v1/denials/{id}")))?;
    told(&value, ("taken back".to_owned(), wish.remote.json));
    Ok(())
}

fn told(value: &Value, (what, as_json): (String, bool)) {
    let kept = if field(value, "persisted") == true { "" } else { "\na restart of the sidecar would not find it" };
    let [id, until] = ["id", "until"].map(|key| words(field(value, key)));
    let text = format!("{what} {id} until {until}: {}{kept}\n", entry(value));
    print::out(&if as_json { format!("{value}\n") } else { text });
}

fn entry(denial: &Value) -> String {
    crate::revocations::say::plain(&field(denial, "entry").to_string())
}

/// Shows all of them.
pub(crate) fn denials(wish: &LookWish) -> Result<(), Failure> {
    let Reply { value, .. } = Remote::open(&wish.remote)?.ask(Question::plain(Method::GET, "/v1/denials"))?;
    if wish.remote.json {
        print::out(&format!("{value}\n"));
        return Ok(());
    }
    let one = |denial: &Value| {
        let lapsing = if field(denial, "lapsing") == true { "ends soon" } else { "" };
        let mut row = ["id", "until", "who"].map(|key| words(field(denial, key))).to_vec();
        row.extend([lapsing.to_owned(), entry(denial)]);
        row
    };
    let rows: Vec<_> = field(&value, "denials").as_array().into_iter().flatten().map(one).collect();
    print::out(&if rows.is_empty() { "no denials\n".to_owned() } else { table(&rows) });
    Ok(())
}
