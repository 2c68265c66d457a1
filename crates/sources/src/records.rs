//! What the operator's side is told: plain values, ready to be JSON.
//!
//! Made by `desk.rs` and `clerk.rs` on the sources' thread, serialised by `control`. Times are RFC 3339, digests
//! hexadecimal. It must never hold key material.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One entry as a line of a list holds it.
pub type Entry = serde_json::Map<String, serde_json::Value>;

/// Everything that is known about revocations now.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// Of the trust state.
    pub epoch: u64,
    /// By the gate's clock.
    pub now: String,
    /// `known`, `missing` (everybody is denied) or `not_wanted`.
    pub knowledge: &'static str,
    /// Something is past its expiry and in force all the same (`--stale`).
    pub stale: bool,
    /// The highest among the lists that act.
    pub sequence: u64,
    /// That revoke.
    pub entries: usize,
    /// That only observe.
    pub observed_entries: usize,
    /// Of the oldest part.
    pub issued_at: Option<String>,
    /// Of the part that expires first.
    pub expires_at: Option<String>,
    /// By name.
    pub lists: Vec<ListRecord>,
    /// By issuer's key.
    pub crls: Vec<CrlRecord>,
    /// A CRL waits for its issuer's certificate.
    pub crls_wait: bool,
    /// Of the overlay.
    pub denials: usize,
    /// Of those, about to lapse unabsorbed.
    pub denials_lapsing: usize,
    /// Waits to be confirmed.
    pub held: Vec<HeldRecord>,
    /// The newest first, a few dozen at most.
    pub refusals: Vec<RefusalRecord>,
    /// Refusals since the start, by label.
    pub refused_by_label: BTreeMap<&'static str, u64>,
    /// What lists and compiled files must meet.
    pub requirements: RequirementsRecord,
    /// Where accepted knowledge is kept.
    pub state_dir: Option<StateDirRecord>,
    /// `--max-cut-fraction`.
    pub max_cut_fraction: Option<f64>,
    /// `--max-denial-ttl`.
    pub max_denial_ttl_seconds: u64,
}

/// A list in force.
#[derive(Clone, Debug, Serialize)]
pub struct ListRecord {
    /// Its name.
    pub name: String,
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// Its number.
    pub sequence: u64,
    /// Of its bytes.
    pub digest: String,
    /// That revoke.
    pub entries: usize,
    /// That only observe.
    pub observed_entries: usize,
    /// When it was issued.
    pub issued_at: String,
    /// When it expires.
    pub expires_at: String,
    /// Since it was issued.
    pub age_seconds: u64,
    /// It is past its expiry.
    pub expired: bool,
    /// Denials of the overlay that it makes up for.
    pub absorbs: Vec<String>,
    /// Ids of the keys whose signatures were verified.
    pub signed_by: Vec<String>,
    /// The set of keys under which it was accepted.
    pub key_set: Option<String>,
    /// Whether a restart would find it.
    pub persisted: bool,
}

/// A CRL in force.
#[derive(Clone, Debug, Serialize)]
pub struct CrlRecord {
    /// Digest of the issuer's public key.
    pub issuer_key: String,
    /// CRLNumber in hexadecimal.
    pub number: String,
    /// Of its bytes.
    pub digest: String,
    /// How many.
    pub entries: usize,
    /// When it was issued.
    pub this_update: String,
    /// When it expires.
    pub next_update: String,
    /// Since it was issued.
    pub age_seconds: u64,
    /// It is past its expiry.
    pub expired: bool,
    /// Of whom it speaks, in words.
    pub scope: String,
    /// Whether a restart would find it.
    pub persisted: bool,
}

/// Knowledge that would cut more than `--max-cut-fraction` allows, and waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRecord {
    /// As `list prod, sequence 12`.
    pub what: String,
    /// Of the bytes; names it when it is confirmed.
    pub digest: String,
    /// The list's name.
    pub list: Option<String>,
    /// The list's mode.
    pub mode: Option<String>,
    /// The list's number.
    pub sequence: Option<u64>,
    /// Sessions that it would have cut.
    pub cut: usize,
    /// Sessions that were live.
    pub live: usize,
    /// When it came.
    pub since: String,
    /// The file, or who pushed it.
    pub from: String,
}

/// Something that was refused.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalRecord {
    /// When.
    pub at: String,
    /// One fixed word.
    pub label: &'static str,
    /// Why, and the remedy.
    pub sentence: String,
    /// The file, or who pushed it.
    pub from: String,
}

/// What lists and compiled files must meet.
#[derive(Clone, Debug, Serialize)]
pub struct RequirementsRecord {
    /// Signatures needed; none without `--revocation-key`.
    pub threshold: Option<usize>,
    /// Id of the set of keys.
    pub key_set: Option<String>,
    /// `--revocation-scope`.
    pub scope: Option<String>,
    /// `--revocation-max-bytes`.
    pub max_bytes: u64,
}

/// The folder that survives a restart.
#[derive(Clone, Debug, Serialize)]
pub struct StateDirRecord {
    /// `--state-dir`.
    pub path: String,
    /// Why something could not be written, if so.
    pub failure: Option<String>,
    /// Lists and CRLs in force that a restart would not find.
    pub unsaved: usize,
}

/// How something is pushed.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// Only if this sequence of the same list and mode is in force; 0: only if none is.
    pub if_match: Option<u64>,
    /// Whatever `--max-cut-fraction` says.
    pub confirm: bool,
    /// For the log.
    pub who: String,
}

/// What taking a list or CRL in did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct Taken {
    /// `changed`, `unchanged`, `waiting` (a CRL whose issuer is not known yet) or, of a push, `held`.
    pub result: &'static str,
    /// In words.
    pub sentence: String,
    /// The list's name.
    pub list: Option<String>,
    /// The list's mode.
    pub mode: Option<&'static str>,
    /// The list's number.
    pub sequence: Option<u64>,
    /// The list's entries.
    pub entries: Option<usize>,
}

impl Taken {
    /// For sentences: `list prod, sequence 12`.
    #[must_use]
    pub fn what(&self) -> String {
        match (&self.list, self.sequence) {
            (Some(list), Some(sequence)) => format!("list {list}, sequence {sequence}"),
            (Some(_) | None, Some(_) | None) => "CRL".to_owned(),
        }
    }
}

/// What became of something pushed or confirmed.
#[derive(Clone, Debug, Serialize)]
pub struct Pushed {
    /// What it did.
    #[serde(flatten)]
    pub taken: Taken,
    /// That is current now.
    pub epoch: u64,
    /// Whether a restart would find it.
    pub persisted: bool,
    /// Why it waits for a confirmation.
    pub held: Option<HeldRecord>,
}

/// Who would be cut.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// What a push would answer.
    #[serde(flatten)]
    pub taken: Taken,
    /// Sessions that are live.
    pub live: usize,
    /// Of them, those that would be cut.
    pub cut: usize,
    /// By `--max-cut-fraction`.
    pub would_be_held: bool,
    /// Sessions that would be cut, by the label of the denial.
    pub by_reason: BTreeMap<String, usize>,
    /// Those with most sessions first.
    pub identities: Vec<PreviewedIdentity>,
    /// Identities beyond those.
    pub more: usize,
    /// Workers that did not answer in time: their sessions are in none of these numbers. 0 normally.
    pub unheard: usize,
}

/// Sessions of one client that would be cut for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct PreviewedIdentity {
    /// As in the log.
    pub identity: String,
    /// How many.
    pub sessions: usize,
    /// The denial's label.
    pub reason: String,
    /// The denial in words.
    pub sentence: String,
}

/// A denial that is asked for.
#[derive(Clone, Debug)]
pub struct NewDenial {
    /// Whom it names, as a line of a list would, without `until` and `mode`.
    pub entry: Entry,
    /// How long it lives.
    pub ttl: Duration,
    /// For the log.
    pub who: String,
}

/// A denial of the overlay.
#[derive(Clone, Debug, Serialize)]
pub struct DenialRecord {
    /// Short and unique, as `d-7f3a9c`.
    pub id: String,
    /// Whom it names.
    pub entry: Entry,
    /// Who asked for it.
    pub who: String,
    /// When.
    pub created_at: String,
    /// It has no force from then on.
    pub until: String,
    /// From the one to the other.
    pub ttl_seconds: u64,
    /// It ends soon, and no list makes up for it.
    pub lapsing: bool,
    /// Whether a restart would find it.
    pub persisted: bool,
}

/// A floor that was taken away.
#[derive(Clone, Debug, Serialize)]
pub struct FloorReset {
    /// The list's name.
    pub list: String,
    /// What the floors were.
    pub floors: Vec<Floor>,
    /// Whether a restart would remember it.
    pub persisted: bool,
}

/// The lowest sequence that was accepted.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// The number.
    pub sequence: u64,
}
