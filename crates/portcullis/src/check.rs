//! `portcullis check`: loads and validates everything that `run` would, and starts nothing.
//!
//! Called by `main.rs`. It must never bind a socket, and never print key material.

use serde_json::{Value, json};
use trust::{Allow, Bundle, Certificate, Knowledge, Snapshot, Time};

use crate::args::Flags;
use crate::moment::{distance, rfc3339};
use crate::resolve::resolve;
use crate::{Failure, descriptors, inbound, limit_flags, print, run};

/// Checks and reports.
pub(crate) fn check(flags: &Flags, as_json: bool) -> Result<(), Failure> {
    let settings = resolve(flags)?.with_keys()?;
    let now = proxy::Clock::real().now();
    let mut loaded = sources::load(&settings.paths, now).map_err(|failure| Failure::AtStart(failure.0))?;
    let allow = match &settings.policy.allow {
        Allow::Anybody => json!("any"),
        Allow::Only(patterns) => patterns.iter().map(run::pattern).collect(),
    };
    let operators = match &settings.control {
        None => Value::Null,
        Some(control) => {
            let (anchors, warnings) = control.anchors(now)?.unzip();
            loaded.warnings.extend(warnings.into_iter().flatten().chain(control.warning()));
            json!({
                "address": control.address.to_string(),
                "anchors": anchors.map(|read| self::anchors(&read.bundle())),
                "allow": control.granted(),
            })
        }
    };
    loaded.warnings.extend(descriptors::warning(&settings.traffic.limits));
    let report = json!({
        "ok": true,
        "inbounds": settings.traffic.inbounds.iter().map(inbound::written).collect::<Vec<_>>(),
        "workers": settings.traffic.workers,
        "limits": limits(&settings.traffic.limits),
        "observe": settings.observe.to_string(),
        "app_probes": settings.app_probes.names().collect::<Vec<_>>(),
        "certificate": own_certificate(&loaded.credential),
        "anchors": anchors(&loaded.bundle),
        "revocations": revocations(&loaded.knowledge),
        "allow": allow,
        "control": operators,
        "warnings": loaded.warnings,
    });
    print::out(&if as_json { format!("{report}\n") } else { text(&report, now) });
    Ok(())
}

fn limits(limits: &proxy::Limits) -> Value {
    let value = |text: String| text.parse::<u64>().map_or_else(|_| json!(text), |count| json!(count));
    limit_flags::described(limits).into_iter().map(|(name, text)| (name.replace('-', "_"), value(text))).collect()
}

fn own_certificate(credential: &proxy::Credential) -> Value {
    let leaf = credential.key.cert.first().and_then(|der| Certificate::parse(der).ok());
    json!({
        "names": leaf.map(|leaf| names(&leaf)),
        "chain": credential.key.cert.len(),
        "not_before": rfc3339(credential.not_before),
        "not_after": rfc3339(credential.not_after),
        "not_after_seconds": credential.not_after.as_seconds(),
    })
}

fn names(certificate: &Certificate) -> Vec<String> {
    let uris = certificate.uris.iter().map(|uri| format!("uri:{uri}"));
    let mut names: Vec<_> = uris.chain(certificate.dns_names.iter().map(|name| format!("dns:{name}"))).collect();
    if names.is_empty() {
        names.push(format!("subject:{}", certificate.subject_text));
    }
    names
}

fn anchors(bundle: &Bundle) -> Value {
    let mut anchors: Vec<_> = bundle.anchors().map(|anchor| &anchor.certificate).collect();
    anchors.sort_by(|one, other| one.subject_text.cmp(&other.subject_text).then(one.not_after.cmp(&other.not_after)));
    let one = |anchor: &Certificate| {
        json!({
            "subject": anchor.subject_text,
            "key": anchor.key_digest().to_string(),
            "not_after": rfc3339(anchor.not_after),
            "not_after_seconds": anchor.not_after.as_seconds(),
        })
    };
    anchors.into_iter().map(one).collect()
}

fn revocations(knowledge: &Knowledge) -> Value {
    match knowledge {
        Knowledge::NotWanted => json!("not checked"),
        Knowledge::Missing => json!("missing"),
        Knowledge::Known(snapshot) => json!({ "lists": lists(snapshot), "crls": crls(snapshot) }),
    }
}

fn lists(snapshot: &Snapshot) -> Value {
    let one = |list: &std::sync::Arc<trust::List>| {
        json!({
            "list": &*list.name,
            "mode": if list.mode == trust::Mode::Observe { "observe" } else { "enforce" },
            "sequence": list.sequence,
            "entries": list.selectors.len(),
            "observed_entries": list.observed.len(),
            "issued_at": rfc3339(list.issued_at),
            "expires_at": rfc3339(list.expires_at),
            "expires_at_seconds": list.expires_at.as_seconds(),
        })
    };
    snapshot.lists().iter().map(one).collect()
}

fn crls(snapshot: &Snapshot) -> Value {
    let one = |crl: &std::sync::Arc<trust::Crl>| {
        json!({
            "issuer_key": crl.issuer_key.to_string(),
            "number": crl.number.iter().map(|octet| format!("{octet:02x}")).collect::<String>(),
            "entries": crl.entries(),
            "this_update": rfc3339(crl.this_update),
            "next_update": rfc3339(crl.next_update),
            "next_update_seconds": crl.next_update.as_seconds(),
        })
    };
    let mut all: Vec<_> = snapshot.crls().map(one).collect();
    all.sort_by_key(Value::to_string);
    all.into()
}

/// The report for people.
fn text(report: &Value, now: Time) -> String {
    let mut lines = Vec::new();
    let until = |object: &Value, key: &str| {
        let moment = Time::from_seconds(object[format!("{key}_seconds")].as_i64().unwrap_or(0));
        let verb = if moment < now { "expired" } else { "expires" };
        format!("{verb} {} ({})", distance(moment, now), plain(&object[key]))
    };
    for inbound in items(&report["inbounds"]) {
        lines.push(format!("inbound      {}", plain(inbound)));
    }
    let own = &report["certificate"];
    lines.push(format!(
        "certificate  {}, chain of {}, {}",
        items(&own["names"]).iter().map(plain).collect::<Vec<_>>().join(" "),
        own["chain"],
        until(own, "not_after")
    ));
    for anchor in items(&report["anchors"]) {
        lines.push(format!("anchor       {}, {}", plain(&anchor["subject"]), until(anchor, "not_after")));
    }
    let revocations = &report["revocations"];
    if revocations.is_string() {
        lines.push(format!("revocations  {}", plain(revocations)));
    }
    for list in items(&revocations["lists"]) {
        let (name, expiry) = (plain(&list["list"]), until(list, "expires_at"));
        let observed = match list["observed_entries"].as_u64() {
            None | Some(0) => String::new(),
            Some(count) => format!(", {count} that only observe"),
        };
        let (sequence, entries) = (&list["sequence"], &list["entries"]);
        lines.push(format!("list         {name}, sequence {sequence}, {entries} entries{observed}, {expiry}"));
    }
    for crl in items(&revocations["crls"]) {
        let (issuer, expiry) = (plain(&crl["issuer_key"]), until(crl, "next_update"));
        lines.push(format!("CRL          of key {issuer}, {} entries, {expiry}", crl["entries"]));
    }
    if report["allow"].is_string() {
        lines.push("allow        any client that the anchors vouch for".to_owned());
    }
    for pattern in items(&report["allow"]) {
        lines.push(format!("allow        {}", plain(pattern)));
    }
    let control = &report["control"];
    if !control.is_null() {
        lines.push(format!("control      {}", plain(&control["address"])));
    }
    for anchor in items(&control["anchors"]) {
        lines.push(format!("operators    by {}, {}", plain(&anchor["subject"]), until(anchor, "not_after")));
    }
    for grant in items(&control["allow"]) {
        lines.push(format!("operators    {}", plain(grant)));
    }
    for (name, value) in report["limits"].as_object().into_iter().flatten() {
        lines.push(format!("limit        {} {}", name.replace('_', "-"), plain(value)));
    }
    for warning in items(&report["warnings"]) {
        lines.push(format!("warning      {}", plain(warning)));
    }
    lines.push("all is well; nothing was started".to_owned());
    lines.join("\n") + "\n"
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
