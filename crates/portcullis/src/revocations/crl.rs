//! A CRL for people: what `inspect` shows of one, full or delta.
//!
//! Called by `inspect.rs`. It reads more leniently than a sidecar, which decides by `revocation` alone; it must never
//! be used for a decision.

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use trust::{Reason, Time};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, ParsedExtension, X509Extension};

use crate::revocations::inspect::{expiry, rest};
use crate::revocations::say;

/// What one CRL says.
pub(crate) struct Shown {
    issuer: String,
    number: Option<String>,
    /// Of a delta CRL: the number that it builds on.
    base: Option<String>,
    this_update: Time,
    next_update: Option<Time>,
    scope: String,
    entries: Vec<Row>,
}

struct Row {
    serial: String,
    revoked_at: Time,
    reason: &'static str,
}

/// Reads every CRL of a file.
pub(crate) fn read(bytes: Vec<u8>) -> Result<Vec<Shown>, String> {
    if bytes.first() == Some(&0x30) {
        return Ok(vec![one(&bytes)?]);
    }
    let mut all = Vec::new();
    for der in CertificateRevocationListDer::pem_slice_iter(&bytes) {
        all.push(one(&der.map_err(|error| format!("this is no PEM ({error}); fetch the CRL again, whole"))?)?);
    }
    if all.is_empty() {
        return Err("it holds neither a list nor a CRL; name a file that does".to_owned());
    }
    Ok(all)
}

fn one(der: &[u8]) -> Result<Shown, String> {
    let (_, crl) = CertificateRevocationList::from_der(der)
        .map_err(|error| format!("this is no CRL of RFC 5280 ({error}); fetch it again, whole"))?;
    let (mut number, mut base, mut scope) = (None, None, "every certificate of the issuer".to_owned());
    for extension in crl.extensions() {
        match (extension.oid.to_id_string().as_str(), extension.parsed_extension()) {
            (_, ParsedExtension::CRLNumber(value)) => number = Some(value.to_string()),
            // deltaCRLIndicator; its value is one INTEGER.
            ("2.5.29.27", _) => base = Some(integer(extension)),
            (_, ParsedExtension::IssuingDistributionPoint(point)) => scope = scope_of(point),
            _ => {}
        }
    }
    let entries = crl.iter_revoked_certificates().map(|entry| Row {
        serial: trust::trimmed_serial(entry.raw_serial()).iter().map(|octet| format!("{octet:02x}")).collect(),
        revoked_at: Time::from_seconds(entry.revocation_date.timestamp()),
        reason: match entry.reason_code() {
            None => "",
            // removeFromCRL, in a delta CRL: an instruction, not a reason.
            Some((_, code)) if code.0 == 8 => "removeFromCRL",
            Some((_, code)) => Reason::from_code(code.0).map_or("unknown", Reason::name),
        },
    });
    Ok(Shown {
        issuer: crl.issuer().to_string(),
        number,
        base,
        this_update: Time::from_seconds(crl.last_update().timestamp()),
        next_update: crl.next_update().map(|time| Time::from_seconds(time.timestamp())),
        scope,
        entries: entries.collect(),
    })
}

/// The INTEGER as people write it: decimal as far as that is read at a glance, else hexadecimal.
fn integer(extension: &X509Extension<'_>) -> String {
    let octets = extension.value.get(2..).unwrap_or_default();
    let octets = trust::trimmed_serial(octets);
    if octets.len() > 8 {
        return format!("0x{}", octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>());
    }
    octets.iter().fold(0_u64, |value, octet| (value << 8) | u64::from(*octet)).to_string()
}

fn scope_of(point: &x509_parser::extensions::IssuingDistributionPoint<'_>) -> String {
    let mut parts = Vec::new();
    for (holds, told) in [
        (point.only_contains_user_certs, "users' certificates only"),
        (point.only_contains_ca_certs, "authorities' certificates only"),
        (point.only_contains_attribute_certs, "attribute certificates only"),
        (point.only_some_reasons.is_some(), "some reasons only"),
        (point.indirect_crl, "indirect"),
        (point.distribution_point.is_some(), "one distribution point"),
    ] {
        if holds {
            parts.push(told);
        }
    }
    if parts.is_empty() { "every certificate of the issuer".to_owned() } else { parts.join(", ") }
}

/// For scripts.
pub(crate) fn as_json(file: &str, crls: &[Shown], limit: usize) -> Value {
    let one = |crl: &Shown| {
        let entry = |row: &Row| {
            let reason = if row.reason.is_empty() { Value::Null } else { Value::from(row.reason) };
            json!({ "serial": row.serial, "revoked_at": revocation::show(row.revoked_at), "reason": reason })
        };
        json!({
            "issuer": crl.issuer,
            "number": crl.number,
            "delta_base": crl.base,
            "this_update": revocation::show(crl.this_update),
            "next_update": crl.next_update.map(revocation::show),
            "scope": crl.scope,
            "entries_total": crl.entries.len(),
            "entries": crl.entries.iter().take(limit).map(entry).collect::<Vec<_>>(),
            "more": crl.entries.len().saturating_sub(limit),
        })
    };
    json!({ "file": file, "kind": "crl", "crls": crls.iter().map(one).collect::<Vec<_>>() })
}

/// For people.
pub(crate) fn as_text(file: &str, crls: &[Shown], limit: usize, now: Time) -> String {
    let mut text = String::new();
    for crl in crls {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = vec![
            row("file", format!("{file}, {}", if crl.base.is_some() { "delta CRL" } else { "CRL" })),
            row("issuer", say::plain(&crl.issuer)),
            row("number", crl.number.clone().unwrap_or_else(|| "none".to_owned())),
        ];
        if let Some(base) = &crl.base {
            rows.push(row("changes since", format!("number {base}")));
        }
        rows.push(row("issued", revocation::show(crl.this_update)));
        let never = || "never said: no sidecar takes it".to_owned();
        rows.push(row("next update", crl.next_update.map_or_else(never, |at| expiry(at, now))));
        rows.push(row("speaks of", crl.scope.clone()));
        rows.push(row("entries", crl.entries.len().to_string()));
        text.push_str(&say::table(&rows));
        if !crl.entries.is_empty() {
            let mut rows = vec![["SERIAL", "REVOKED", "REASON"].map(str::to_owned).to_vec()];
            let one =
                |entry: &Row| vec![entry.serial.clone(), revocation::show(entry.revoked_at), entry.reason.to_owned()];
            rows.extend(crl.entries.iter().take(limit).map(one));
            text.push_str(&format!("\n{}{}", say::table(&rows), rest(crl.entries.len(), limit)));
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}
