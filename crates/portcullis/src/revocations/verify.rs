//! `portcullis revocations verify`: what a sidecar would say to this file, as far as the file alone decides it.
//!
//! Called by `revocations.rs`. It asks the same library by the same requirements as a sidecar, and never a sidecar.

use std::path::PathBuf;
use std::sync::Arc;

use revocation::{Accepted, Keys, Library, Material, Provenance, ReadError, ReadList, Requirements};
use serde_json::{Map, Value, json};
use trust::{Bundle, Snapshot, Speaks, Time};

use crate::moment::distance;
use crate::revocations::args::VerifyWish;
use crate::revocations::{file, keys, pem, say, whom};
use crate::{Failure, print};

/// Labels of a file that says what it is, and does not hold. Any other label is a file that is none of ours.
const DOES_NOT_HOLD: [&str; 5] = ["unsigned", "under_signed", "digest_mismatch", "wrong_scope", "truncated"];

/// What was found.
struct Finding {
    /// What the file is, for scripts; empty if that could not be told.
    facts: Map<String, Value>,
    /// The same for people.
    lines: Vec<Vec<String>>,
    /// Why it does not hold: a fixed word and a sentence.
    problem: Option<(&'static str, String)>,
}

/// Verifies.
pub(crate) fn verify(wish: &VerifyWish) -> Result<(), Failure> {
    let now = proxy::Clock::real().now();
    let requirements = requirements(wish)?;
    let bundle = bundle(&wish.issuer)?;
    let shown = file::shown(&wish.file);
    let finding = match revocation::read_under(file::read(&wish.file)?, &requirements) {
        Ok(Material::List(read)) => list(read, (&requirements, &bundle), now),
        Ok(Material::Crls(crls)) if wish.issuer.is_empty() => {
            return Err(Failure::AtStart(format!(
                "{shown}: {} of an unknown issuer; add --issuer, the issuer's certificate",
                say::count(crls.len(), "CRL", "CRLs")
            )));
        }
        Ok(material @ Material::Crls(_)) => crls(material, &bundle, now),
        Err(error) => unread(&error).ok_or_else(|| Failure::AtStart(format!("{shown}: {error}")))?,
    };
    tell(wish, &shown, finding)
}

fn requirements(wish: &VerifyWish) -> Result<Requirements, Failure> {
    // A blank twin in the environment is a template that was not filled in: absent.
    let given = |text: &&String| !text.trim().is_empty();
    let paths: Vec<PathBuf> = wish.revocation_key.iter().filter(given).map(PathBuf::from).collect();
    let public = keys::public("--revocation-key", &paths)?;
    let threshold = match wish.revocation_threshold.as_ref().filter(given) {
        None => None,
        Some(_) if public.is_empty() => {
            let sentence = "--revocation-threshold says nothing without keys; add --revocation-key";
            return Err(Failure::AtStart(sentence.to_owned()));
        }
        Some(text) => Some(text.trim().parse::<usize>().map_err(|_| {
            Failure::AtStart(format!("--revocation-threshold {text:?}: write how many keys must sign, like 2"))
        })?),
    };
    let keys = (!public.is_empty()).then(|| Keys::new(public, threshold.unwrap_or(1))).transpose();
    let keys = keys.map_err(|why| Failure::AtStart(format!("--revocation-key, --revocation-threshold: {why}")))?;
    let scope = wish.scope.as_ref().filter(given).cloned();
    Ok(Requirements { keys: keys.map(Arc::new), scope, max_bytes: file::MAX_BYTES, ..Requirements::default() })
}

fn bundle(paths: &[PathBuf]) -> Result<Bundle, Failure> {
    let mut certificates = Vec::new();
    for path in paths {
        certificates
            .extend(pem::certificates("--issuer", path)?.into_iter().map(|read| (read.der, Speaks::ForAnybody)));
    }
    Bundle::new(certificates).map_err(|error| Failure::AtStart(format!("--issuer: {error}; name another")))
}

fn list(read: ReadList, (requirements, bundle): (&Requirements, &Bundle), now: Time) -> Finding {
    let (list, provenance) = (&read.list, &read.provenance);
    let facts = json!({
        "kind": "list",
        "encoding": provenance.encoding.name(),
        "list": &*list.name,
        "mode": whom::mode_name(list.mode),
        "scope": provenance.scope.as_deref(),
        "sequence": list.sequence,
        "entries": list.selectors.len(),
        "observed_entries": list.observed.len(),
        "issued_at": revocation::show(list.issued_at),
        "expires_at": revocation::show(list.expires_at),
        "threshold": requirements.keys.as_ref().map(|keys| keys.threshold()),
        "signed_by": provenance.signed_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "key_set": provenance.key_set.map(|id| id.to_string()),
        "confirms": provenance.confirms,
    });
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let lines = vec![
        row("list", format!("{}, sequence {}, {}", list.name, list.sequence, whom::mode_name(list.mode))),
        row("entries", format!("{}, {} only observed", list.selectors.len(), list.observed.len())),
        row("scope", provenance.scope.as_deref().unwrap_or("none").to_owned()),
        row("expires", format!("{} ({})", distance(list.expires_at, now), revocation::show(list.expires_at))),
        row("signatures", signatures(provenance, requirements)),
    ];
    let mut library = Library::new(requirements.clone());
    let refused = library.accept(Material::List(read), bundle, now).err();
    let problem = refused.map(|refused| (refused.label(), refused.to_string()));
    Finding { facts: facts.as_object().cloned().unwrap_or_default(), lines, problem }
}

fn signatures(provenance: &Provenance, requirements: &Requirements) -> String {
    let Some(keys) = &requirements.keys else {
        return say::toned("not checked, no --revocation-key is given", say::Tone::Warning);
    };
    let ids: Vec<String> = provenance.signed_by.iter().map(ToString::to_string).collect();
    format!("{} of {} needed: {}", ids.len(), keys.threshold(), ids.join(", "))
}

fn crls(material: Material, bundle: &Bundle, now: Time) -> Finding {
    let mut library = Library::default();
    let accepted = library.accept(material, bundle, now);
    let mut problem = match &accepted {
        Ok(Accepted::Changed(_) | Accepted::Unchanged(_)) => None,
        Ok(Accepted::Waiting(_)) => accepted.as_ref().ok().map(|waits| (waits.label(), waits.to_string())),
        Err(refused) => Some((refused.label(), refused.to_string())),
    };
    let snapshot = library.snapshot().unwrap_or_else(|| Arc::new(Snapshot::default()));
    let (mut facts, mut lines) = (Vec::new(), Vec::new());
    for crl in snapshot.crls() {
        let number: String = crl.number.iter().map(|octet| format!("{octet:02x}")).collect();
        let (key, expiry) = (crl.issuer_key.to_string(), revocation::show(crl.next_update));
        if crl.next_update <= now && problem.is_none() {
            let sentence =
                format!("the CRL of key {key} is outdated since {expiry}; fetch a newer one from its issuer");
            problem = Some(("expired", sentence));
        }
        facts.push(json!({
            "issuer_key": key, "number": number, "entries": crl.entries(),
            "this_update": revocation::show(crl.this_update), "next_update": expiry,
        }));
        let entries = say::count(crl.entries(), "entry", "entries");
        let expires = format!("next update {} ({expiry})", distance(crl.next_update, now));
        lines.push(vec!["CRL".to_owned(), format!("of key {key}, number 0x{number}, {entries}, {expires}")]);
    }
    let facts = json!({ "kind": "crl", "crls": facts });
    Finding { facts: facts.as_object().cloned().unwrap_or_default(), lines, problem }
}

/// A file that could not be taken for good; `None` if it is none at all.
fn unread(error: &ReadError) -> Option<Finding> {
    let label = DOES_NOT_HOLD.into_iter().find(|label| *label == error.label())?;
    Some(Finding { facts: Map::new(), lines: Vec::new(), problem: Some((label, error.to_string())) })
}

fn tell(wish: &VerifyWish, shown: &str, finding: Finding) -> Result<(), Failure> {
    let Finding { facts, lines, problem } = finding;
    if wish.json {
        let mut report = Map::new();
        report.insert("file".to_owned(), Value::from(wish.file.display().to_string()));
        report.insert("ok".to_owned(), Value::from(problem.is_none()));
        report.extend(facts);
        let told = problem.as_ref().map(|(label, sentence)| json!({ "label": label, "sentence": sentence }));
        report.insert("problem".to_owned(), told.unwrap_or_default());
        print::out(&format!("{}\n", Value::Object(report)));
        return if problem.is_none() { Ok(()) } else { Err(Failure::Told(1)) };
    }
    print::out(&say::table(&lines));
    match problem {
        Some((_, sentence)) => Err(Failure::WhileRunning(format!("{shown} does not hold: {sentence}"))),
        None => {
            print::out(&format!("{}\n", say::toned(&format!("{shown} holds"), say::Tone::Good)));
            Ok(())
        }
    }
}
