//! Lists and CRLs on a running sidecar: previewed, pushed, confirmed, and a floor taken away.
//!
//! Called by `revocations.rs`. What the sidecar answers is shown, never guessed. It must never read less than a whole
//! file, nor report as done what is only held.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::Failure;
use crate::print;
use crate::remote::args::{ConfirmWish, PreviewWish, PushWish, RemoteCommand, ResetWish};
use crate::remote::{Content, Question, Remote, Reply, field};
use crate::revocations::file;
use crate::revocations::say::{Tone, plain, table, toned};

/// The answer is no.
const NO: Failure = Failure::Told(1);

/// Performs one command.
pub(crate) fn remotely(command: &RemoteCommand) -> Result<(), Failure> {
    match command {
        RemoteCommand::Preview(wish) => preview(wish),
        RemoteCommand::Push(wish) => push(wish),
        RemoteCommand::Confirm(wish) => confirm(wish),
        RemoteCommand::Reset(wish) => reset(wish),
    }
}

fn preview(wish: &PreviewWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let body = Content::File(file::read(&wish.file)?, file::shown(&wish.file));
    let question = Question { body, ..Question::plain(Method::POST, "/v1/revocations/preview") };
    let Reply { value, .. } = remote.ask(question)?;
    print::out(&if wish.remote.json { format!("{value}\n") } else { previewed(&value) });
    if field(&value, "would_be_held") == true { Err(NO) } else { Ok(()) }
}

fn previewed(value: &Value) -> String {
    let (cut, live) = (number(field(value, "cut")), number(field(value, "live")));
    let tone = if cut == 0 { Tone::Good } else { Tone::Warning };
    let mut text = format!("{}\n", toned(&format!("{cut} of {live} live sessions would be cut"), tone));
    // The sentence is that of a push, which begins with what became of it; here nothing became of it.
    let sentence = words(field(value, "sentence"));
    let what = sentence.strip_prefix("in force now: ").unwrap_or(&sentence);
    text.push_str(&format!("a push would answer {}: {what}\n", words(field(value, "result"))));
    if field(value, "would_be_held") == true {
        text.push_str(&toned(
            "it would be held: that is more than --max-cut-fraction of this sidecar allows\n",
            Tone::Bad,
        ));
    }
    let unheard = number(field(value, "unheard"));
    if unheard > 0 {
        text.push_str(&format!("{unheard} workers did not answer in time: their sessions are not counted\n"));
    }
    let one = |row: &Value| {
        vec![number(field(row, "sessions")).to_string(), words(field(row, "reason")), words(field(row, "identity"))]
    };
    let mut rows: Vec<_> = field(value, "identities").as_array().into_iter().flatten().map(one).collect();
    if !rows.is_empty() {
        rows.insert(0, ["sessions", "reason", "identity"].map(str::to_owned).to_vec());
    }
    text.push_str(&table(&rows));
    let more = number(field(value, "more"));
    if more > 0 {
        text.push_str(&format!("and {more} more identities\n"));
    }
    text
}

fn push(wish: &PushWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let body = Content::File(file::read(&wish.file)?, file::shown(&wish.file));
    let path = if wish.confirm { "/v1/revocations?confirm=true" } else { "/v1/revocations" };
    let question = Question { body, if_match: wish.if_match, ..Question::plain(Method::PUT, path) };
    taken(&remote.ask(question)?, wish.remote.json)
}

fn confirm(wish: &ConfirmWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let body = Content::Json(json!({ "digest": wish.digest }));
    let question = Question { body, ..Question::plain(Method::POST, "/v1/revocations/confirm") };
    taken(&remote.ask(question)?, wish.remote.json)
}

fn taken(reply: &Reply, as_json: bool) -> Result<(), Failure> {
    let Reply { status, value } = reply;
    let is_held = field(value, "result").as_str() == Some("held");
    let tone = match (is_held, *status == StatusCode::OK) {
        (true, _) => Tone::Bad,
        (false, true) => Tone::Good,
        (false, false) => Tone::Warning,
    };
    let text = format!("{} {}\n", toned(&words(field(value, "result")), tone), words(field(value, "sentence")));
    print::out(&if as_json { format!("{value}\n") } else { text });
    if is_held { Err(NO) } else { Ok(()) }
}

fn reset(wish: &ResetWish) -> Result<(), Failure> {
    let remote = Remote::open(&wish.remote)?;
    let list = segment("LIST", &wish.list)?;
    let Reply { value, .. } = remote.ask(Question::plain(Method::DELETE, format!("/v1/revocations/{list}/floor")))?;
    let floors = field(&value, "floors").as_array().into_iter().flatten();
    let floors: Vec<_> =
        floors.map(|floor| format!("{} {}", words(field(floor, "mode")), number(field(floor, "sequence")))).collect();
    let kept = if field(&value, "persisted") == true { "" } else { "; a restart would not remember it" };
    let text = format!("the floor of {list} is gone; it was {}{kept}\n", floors.join(", "));
    print::out(&if wish.remote.json { format!("{value}\n") } else { text });
    Ok(())
}

/// A word that may stand in a path as it is; others name nothing.
pub(crate) fn segment<'a>(what: &str, text: &'a str) -> Result<&'a str, Failure> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || !text.bytes().all(known) {
        return Err(Failure::AtStart(format!("{what} {text:?}: write letters, digits, '.', '_' and '-' only")));
    }
    Ok(text)
}

/// Text of the sidecar's, safe at a terminal.
pub(crate) fn words(value: &Value) -> String {
    plain(value.as_str().unwrap_or_default())
}

/// A number of the sidecar's.
pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
