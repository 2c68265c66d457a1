//! From the flags that say whom an entry names to the selectors of a list, and from the terms' flags to its terms.
//!
//! Used by `edit.rs`. It must never take two kinds of selectors for one entry.

use revocation::{Entry, Whom as Selector};
use trust::{Certificate, Mode, Reason, Sha256, Time};

use crate::Failure;
use crate::revocations::args::{OnTerms, Whom};
use crate::revocations::{file, issued_by::issued_by, pem, when};

/// One that a flag names.
#[derive(Debug)]
pub(crate) struct Named {
    /// The flag and its value, for sentences.
    pub(crate) by: String,
    /// How an entry names it.
    pub(crate) selector: Selector,
    /// How else an entry may have named the same certificate.
    pub(crate) also: Option<Selector>,
}

impl Named {
    fn new(flag: &str, value: &str, selector: Selector) -> Named {
        Named { by: format!("{flag} {value}"), selector, also: None }
    }

    /// Whether `entry` names the same, on whatever terms.
    pub(crate) fn is_in(&self, entry: &Entry) -> bool {
        self.selector.is_same(&entry.whom) || self.also.as_ref().is_some_and(|other| other.is_same(&entry.whom))
    }
}

/// Everyone whom the flags name; at least one, unless `may_be_nobody`.
pub(crate) fn named(whom: &Whom, may_be_nobody: bool) -> Result<Vec<Named>, Failure> {
    let kinds: Vec<&str> = [
        ("--id", !whom.id.is_empty()),
        ("--cert", !whom.cert.is_empty()),
        ("--serial", !whom.serial.is_empty()),
        ("--issuer", !whom.issuer.is_empty() && whom.serial.is_empty() && whom.cert.is_empty()),
        ("--spki", !whom.spki.is_empty()),
        ("--certificate", !whom.certificate.is_empty()),
        ("--trust-domain", !whom.trust_domain.is_empty()),
    ]
    .into_iter()
    .filter_map(|(flag, given)| given.then_some(flag))
    .collect();
    match kinds.as_slice() {
        [] if may_be_nobody => return Ok(Vec::new()),
        [] => {
            let sentence = "name somebody: --id, --cert, --serial with --issuer, --issuer, --spki, --certificate or \
                            --trust-domain";
            return Err(Failure::AtStart(sentence.to_owned()));
        }
        [_] => {}
        // People may mean "both at once", while entries add up: nobody shall find out from an outage.
        [first, second, ..] => {
            return Err(Failure::AtStart(format!(
                "{first} and {second} together: entries add up, they do not narrow each other; give one kind at a time"
            )));
        }
    }
    let wrong = |flag: &str, value: &str, why: String| Failure::AtStart(format!("{flag} {value:?}: {why}"));
    let mut all = Vec::new();
    for value in &whom.id {
        all.push(Named::new("--id", value, Selector::id(value).map_err(|why| wrong("--id", value, why))?));
    }
    for value in &whom.trust_domain {
        let selector = Selector::trust_domain(value).map_err(|why| wrong("--trust-domain", value, why))?;
        all.push(Named::new("--trust-domain", value, selector));
    }
    for value in &whom.certificate {
        let digest = pem::digest(value).ok_or_else(|| {
            let why = "this is no SHA-256 (64 hexadecimal digits); for a file use --cert".to_owned();
            wrong("--certificate", value, why)
        })?;
        all.push(Named::new("--certificate", value, Selector::certificate(digest)));
    }
    for value in &whom.spki {
        all.push(Named::new("--spki", value, Selector::public_key(pem::key_digest("--spki", value)?)));
    }
    all.extend(by_serial(whom)?);
    all.extend(by_certificate(whom)?);
    if whom.serial.is_empty() && whom.cert.is_empty() {
        for value in &whom.issuer {
            all.push(Named::new("--issuer", value, Selector::issuer(pem::key_digest("--issuer", value)?)));
        }
    }
    Ok(all)
}

fn by_serial(whom: &Whom) -> Result<Vec<Named>, Failure> {
    if whom.serial.is_empty() {
        return Ok(Vec::new());
    }
    let [issuer] = whom.issuer.as_slice() else {
        return Err(Failure::AtStart(
            "--serial says nothing without its issuer; add --issuer once, a PEM certificate or the SHA-256 of its \
             SubjectPublicKeyInfo"
                .to_owned(),
        ));
    };
    let issuer = pem::key_digest("--issuer", issuer)?;
    let one = |value: &String| {
        // openssl prints colons, other tools 0x.
        let digits = value.replace(':', "");
        let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(&digits);
        let selector = Selector::serial(issuer, digits);
        selector
            .map(|selector| Named::new("--serial", value, selector))
            .map_err(|why| Failure::AtStart(format!("--serial {value:?}: {why}")))
    };
    whom.serial.iter().map(one).collect()
}

fn by_certificate(whom: &Whom) -> Result<Vec<Named>, Failure> {
    if whom.cert.is_empty() {
        return Ok(Vec::new());
    }
    let (mut issuers, mut digests) = (Vec::new(), Vec::new());
    for value in &whom.issuer {
        match pem::digest(value) {
            Some(digest) => digests.push(digest),
            None => issuers.extend(pem::certificates("--issuer", value.as_ref())?),
        }
    }
    let mut all = Vec::new();
    for path in &whom.cert {
        let mut chain = pem::certificates("--cert", path)?.into_iter();
        let Some(leaf) = chain.next() else { continue };
        let mut candidates: Vec<&Certificate> = vec![&leaf.certificate];
        let chain: Vec<_> = chain.collect();
        candidates.extend(chain.iter().chain(&issuers).map(|read| &read.certificate));
        let signer = candidates.into_iter().find(|issuer| issued_by(&leaf.certificate, &leaf.der, issuer));
        let key = match (signer, digests.as_slice()) {
            (Some(signer), _) => Some(signer.key_digest()),
            (None, [digest]) => Some(*digest),
            (None, []) if issuers.is_empty() => None,
            (None, _) => {
                return Err(Failure::AtStart(format!(
                    "--issuer: no certificate there issued the one in --cert {}; name its issuer, or leave --issuer \
                     out to name it by its fingerprint",
                    file::shown(path)
                )));
            }
        };
        all.push(certificate(&leaf.certificate, key, &file::shown(path))?);
    }
    Ok(all)
}

/// By issuer and serial number, as a CRL would name it; without an issuer by its fingerprint. Either may be in the list
/// already, so both are looked for when it is taken back.
fn certificate(leaf: &Certificate, issuer: Option<Sha256>, path: &str) -> Result<Named, Failure> {
    let by = format!("--cert {path}");
    let fingerprint = Selector::certificate(leaf.fingerprint);
    let Some(issuer) = issuer else {
        return Ok(Named { by, selector: fingerprint, also: None });
    };
    let selector = Selector::serial_octets(issuer, &leaf.serial)
        .map_err(|why| Failure::AtStart(format!("{by}: {why}; name it by --certificate {}", leaf.fingerprint)))?;
    Ok(Named { by, selector, also: Some(fingerprint) })
}

/// What the terms' flags say about every entry.
pub(crate) fn entries(named: &[Named], terms: &OnTerms, now: Time) -> Result<Vec<Entry>, Failure> {
    let at = Failure::AtStart;
    let moment = |flag: &str, text: &Option<String>| {
        text.as_deref().map(|text| when::parse(flag, text, now)).transpose().map_err(at)
    };
    let issued_before = moment("--issued-before", &terms.issued_before)?;
    let until = moment("--until", &terms.until)?;
    if let Some(until) = until.filter(|until| *until <= now) {
        let sentence = format!("--until {}: this has passed, the entry would deny nobody", revocation::show(until));
        return Err(at(format!("{sentence}; name a later moment, like +24h")));
    }
    let reason = terms.reason.as_deref().map(reason).transpose()?;
    let mode = terms.mode.as_deref().map_or(Ok(Mode::Enforce), |text| mode("--mode", text))?;
    let one = |named: &Named| {
        if named.by.starts_with("--cert ") && issued_before.is_some() {
            let sentence = "--issued-before says nothing with --cert, which names one certificate; leave it out";
            return Err(at(sentence.to_owned()));
        }
        let mut entry = Entry::of(named.selector.clone());
        entry.mode = mode;
        entry.issued_before = issued_before;
        entry.until = until;
        entry.reason = reason;
        if let Some(note) = &terms.note {
            entry.set_note(note).map_err(|why| at(format!("--note: {why}")))?;
        }
        Ok(entry)
    };
    named.iter().map(one).collect()
}

fn reason(text: &str) -> Result<Reason, Failure> {
    Reason::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = trust::REASONS.iter().map(|row| row.2).collect();
        Failure::AtStart(format!("--reason {text:?}: unknown; write one of {}", names.join(", ")))
    })
}

/// `enforce` or `observe`.
pub(crate) fn mode(flag: &str, text: &str) -> Result<Mode, Failure> {
    match text {
        "enforce" => Ok(Mode::Enforce),
        "observe" => Ok(Mode::Observe),
        _ => Err(Failure::AtStart(format!("{flag} {text:?}: write enforce or observe"))),
    }
}

/// The word for it.
pub(crate) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}
