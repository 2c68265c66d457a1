//! `portcullis revocations sign`, `compile` and `diff`: the same list with signatures, in another form, and beside
//! another one.
//!
//! Called by `revocations.rs`. They never change an entry, a sequence or a date.

use std::path::Path;

use revocation::{Document, Entry};
use serde_json::{Value, json};

use crate::revocations::args::{CompileWish, DiffWish, SignWish};
use crate::revocations::document::{entry_as_json, parse};
use crate::revocations::file::{self, Target};
use crate::revocations::progress::Progress;
use crate::revocations::{keys, say};
use crate::{Failure, print};

/// Adds signatures.
pub(crate) fn sign(wish: &SignWish) -> Result<(), Failure> {
    let secret = keys::secret(&wish.key)?;
    let out = wish.out.as_ref().unwrap_or(&wish.file);
    let target = Target::open(out)?;
    let wrong = |error: revocation::ReadError| Failure::AtStart(format!("{}: {error}", file::shown(&wish.file)));
    let mut bytes = file::read(&wish.file)?;
    let progress = Progress::new(format!("signing {}", file::shown(&wish.file)));
    let before = claimed(&bytes);
    if wish.confirm {
        bytes = revocation::confirm(bytes).map_err(wrong)?;
    }
    let kept = claimed(&bytes);
    let bytes = revocation::sign(bytes, &secret).map_err(wrong)?;
    drop(progress);
    let all = claimed(&bytes);
    target.write(&bytes)?;
    let dropped: Vec<&String> = before.iter().filter(|id| !all.contains(id)).collect();
    if !dropped.is_empty() {
        say::note(&format!(
            "--confirm changed what is signed: {} went; those holders must sign again",
            say::count(dropped.len(), "signature", "signatures")
        ));
    }
    let added: Vec<String> = secret.iter().map(|key| key.public().id().to_string()).collect();
    let new = added.iter().filter(|id| !kept.contains(id)).count();
    let text = if wish.json {
        let report = json!({
            "file": out.display().to_string(),
            "signed_by": all,
            "added": added,
            "signatures_dropped": dropped,
            "confirms": wish.confirm.then_some(true),
        });
        format!("{report}\n")
    } else {
        let lines: Vec<String> = all.iter().map(|id| format!("  {id}\n")).collect();
        let shown = if file::is_stream(out) { "standard output".to_owned() } else { out.display().to_string() };
        format!("{shown}: {}, {new} new\n{}", say::count(all.len(), "signature", "signatures"), lines.concat())
    };
    tell(out, &text);
    Ok(())
}

/// The ids on line 1, as it claims: nothing is checked here.
fn claimed(file: &[u8]) -> Vec<String> {
    let first = file.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line: Value = serde_json::from_slice(first).unwrap_or_default();
    let signatures = line.get("signatures").and_then(Value::as_array).into_iter().flatten();
    signatures.map(|one| one.get("keyid").and_then(Value::as_str).unwrap_or("unnamed").to_owned()).collect()
}

/// The report; standard output may carry the list itself.
fn tell(out: &Path, text: &str) {
    if file::is_stream(out) { say::aside(text) } else { print::out(text) }
}

/// Makes the binary form.
pub(crate) fn compile(wish: &CompileWish) -> Result<(), Failure> {
    let secret = keys::secret(&wish.key)?;
    if !file::is_stream(&wish.out)
        && wish.out.canonicalize().is_ok_and(|out| wish.file.canonicalize().is_ok_and(|file| file == out))
    {
        return Err(Failure::AtStart(format!(
            "--out {}: this is the list itself, and its serial numbers cannot be had back from the binary; name another \
             file",
            wish.out.display()
        )));
    }
    let target = Target::open(&wish.out)?;
    let bytes = file::read(&wish.file)?;
    let size = bytes.len();
    let document = parse(&wish.file, bytes)?;
    let progress = Progress::new(format!("compiling {}", file::shown(&wish.file)));
    let wrong = |why: String| Failure::AtStart(format!("{}: {why}", file::shown(&wish.file)));
    let mut compiled = document.compile().map_err(wrong)?;
    if !secret.is_empty() {
        compiled = revocation::sign(compiled, &secret).map_err(|error| wrong(error.to_string()))?;
    }
    drop(progress);
    target.write(&compiled)?;
    if !document.signatures().is_empty() && secret.is_empty() {
        say::note(&format!(
            "{} is signed, the binary is not: signatures do not survive the change of form; sign it: portcullis \
             revocations sign {} --key …",
            file::shown(&wish.file),
            wish.out.display()
        ));
    }
    let signed_by: Vec<String> = secret.iter().map(|key| key.public().id().to_string()).collect();
    let (header, entries) = (document.header(), document.entries().len());
    let text = if wish.json {
        let report = json!({
            "file": wish.out.display().to_string(),
            "list": header.list(),
            "sequence": header.sequence(),
            "entries": entries,
            "bytes": compiled.len(),
            "source_bytes": size,
            "signed_by": signed_by,
        });
        format!("{report}\n")
    } else {
        format!(
            "{}: list {}, sequence {}, {}, {} (was {}), {}\n",
            if file::is_stream(&wish.out) { "standard output".to_owned() } else { wish.out.display().to_string() },
            header.list(),
            header.sequence(),
            say::count(entries, "entry", "entries"),
            say::size(compiled.len()),
            say::size(size),
            say::count(signed_by.len(), "signature", "signatures"),
        )
    };
    tell(&wish.out, &text);
    Ok(())
}

/// Compares two lists.
pub(crate) fn diff(wish: &DiffWish) -> Result<(), Failure> {
    if file::is_stream(&wish.old) && file::is_stream(&wish.new) {
        let sentence = "standard input can be one of the two only; name a file for the other";
        return Err(Failure::AtStart(sentence.to_owned()));
    }
    let read = |path: &Path| -> Result<Document, Failure> { parse(path, file::read(path)?) };
    let difference = read(&wish.old)?.diff(&read(&wish.new)?);
    let lines = |entries: &[Entry]| entries.iter().map(entry_as_json).collect::<Vec<_>>();
    if wish.json {
        let change =
            |change: &revocation::Change| json!({ "field": change.field, "old": change.old, "new": change.new });
        let report = json!({
            "same": difference.is_empty(),
            "header": difference.header.iter().map(change).collect::<Vec<_>>(),
            "removed": lines(&difference.removed),
            "added": lines(&difference.added),
        });
        print::out(&format!("{report}\n"));
    } else {
        print::out(&as_text(&difference));
    }
    // The answer is told; scripts read it in the exit code.
    if difference.is_empty() { Ok(()) } else { Err(Failure::Told(1)) }
}

fn as_text(difference: &revocation::Difference) -> String {
    if difference.is_empty() {
        return "the same\n".to_owned();
    }
    let changes = difference.header.iter().map(|change| {
        let told = |value: &str| if value.is_empty() { "none".to_owned() } else { say::plain(value) };
        vec![format!("  {}", change.field), format!("{} → {}", told(&change.old), told(&change.new))]
    });
    let mut text = say::table(&changes.collect::<Vec<_>>());
    let removed = difference.removed.iter().map(|entry| ("-", say::Tone::Bad, entry));
    for (sign, tone, entry) in removed.chain(difference.added.iter().map(|entry| ("+", say::Tone::Good, entry))) {
        text.push_str(&say::toned(&format!("{sign} {}", say::plain(&entry.to_string())), tone));
        text.push('\n');
    }
    text.push_str(&format!("{} removed, {} added\n", difference.removed.len(), difference.added.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_an_envelope_are_read_and_a_bare_header_has_none() {
        let signed = br#"{"payload":"e30=","payloadType":"x","signatures":[{"keyid":"ab","sig":""},{"sig":""}]}"#;
        assert_eq!(claimed(signed), ["ab", "unnamed"]);
        assert!(claimed(b"{\"portcullis\":\"revocations/v1\"}\n{}").is_empty());
        assert!(claimed(b"\xff").is_empty());
    }
}
