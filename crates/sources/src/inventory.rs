//! What is known now, as one record for the operator.
//!
//! Part of [`Watch`]; called by `clerk.rs`. It must never change anything.

use revocation::show;
use trust::{Crl, CrlScope, Knowledge, List, Snapshot, Time};

use crate::holdings::Holdings;
use crate::offer::word;
use crate::records::{CrlRecord, ListRecord, RequirementsRecord, State};
use crate::watch::Watch;

impl Watch {
    /// All of it.
    pub(crate) fn state(&self) -> State {
        let now = self.live.now();
        let published = self.live.current();
        let state = &published.state;
        let holdings = &self.revocations.holdings;
        let empty = Snapshot::default();
        let snapshot = state.snapshot().map_or(&empty, |snapshot| snapshot);
        let mut lists: Vec<_> = snapshot.lists().iter().map(|list| list_record(list, holdings, now)).collect();
        lists.sort_by(|one, other| (&one.name, one.mode).cmp(&(&other.name, other.mode)));
        let mut crls: Vec<_> = snapshot.crls().map(|crl| crl_record(crl, holdings, now)).collect();
        crls.sort_by(|one, other| (&one.issuer_key, &one.scope).cmp(&(&other.issuer_key, &other.scope)));
        State {
            epoch: state.epoch,
            now: show(now),
            knowledge: match &state.knowledge {
                Knowledge::NotWanted => "not_wanted",
                Knowledge::Missing => "missing",
                Knowledge::Known(_) => "known",
            },
            stale: self.live.is_stale(),
            sequence: snapshot.sequence(),
            entries: snapshot.entries(),
            observed_entries: snapshot.observed_entries(),
            issued_at: snapshot.issued_at().map(show),
            expires_at: snapshot.expires_at().map(show),
            lists,
            crls,
            crls_wait: snapshot.waits(),
            denials: self.denials.len(),
            denials_lapsing: self.denials.lapsing(now),
            held: holdings.shelf.records(),
            refusals: self.report.refusals(crate::refusals::Refusals::records),
            refused_by_label: self.report.refusals(crate::refusals::Refusals::by_label),
            requirements: requirements(holdings),
            state_dir: self.keeper.record(holdings),
            max_cut_fraction: self.paths.max_cut_fraction,
            max_denial_ttl_seconds: self.paths.max_denial_ttl.as_secs(),
        }
    }
}

fn requirements(holdings: &Holdings) -> RequirementsRecord {
    let requirements = holdings.requirements();
    RequirementsRecord {
        threshold: requirements.keys.as_ref().map(|keys| keys.threshold()),
        key_set: holdings.key_set(),
        scope: requirements.scope.clone(),
        max_bytes: requirements.max_bytes,
    }
}

fn list_record(list: &List, holdings: &Holdings, now: Time) -> ListRecord {
    let provenance = holdings.library().provenance(&list.name, list.mode);
    ListRecord {
        name: list.name.to_string(),
        mode: word(list.mode),
        sequence: list.sequence,
        digest: list.digest.to_string(),
        entries: list.selectors.len(),
        observed_entries: list.observed.len(),
        issued_at: show(list.issued_at),
        expires_at: show(list.expires_at),
        age_seconds: now.since(list.issued_at).as_secs(),
        expired: now >= list.expires_at,
        absorbs: list.absorbs.iter().map(ToString::to_string).collect(),
        signed_by: provenance.map(|one| one.signed_by.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        key_set: provenance.and_then(|one| one.key_set).map(|id| id.to_string()),
        persisted: holdings.is_saved(&list.digest),
    }
}

fn crl_record(crl: &Crl, holdings: &Holdings, now: Time) -> CrlRecord {
    CrlRecord {
        issuer_key: crl.issuer_key.to_string(),
        number: crl.number.iter().map(|octet| format!("{octet:02x}")).collect(),
        digest: crl.digest.to_string(),
        entries: crl.entries(),
        this_update: show(crl.this_update),
        next_update: show(crl.next_update),
        age_seconds: now.since(crl.this_update).as_secs(),
        expired: now >= crl.next_update,
        scope: scope(&crl.scope),
        persisted: holdings.is_saved(&crl.digest),
    }
}

fn scope(scope: &CrlScope) -> String {
    let whom = match (scope.users, scope.authorities) {
        (true, true) => "every certificate",
        (true, false) => "users' certificates",
        (false, true) => "authorities' certificates",
        (false, false) => "no certificate",
    };
    let points = scope.distribution_points.as_ref().map(|points| format!(" at {} distribution points", points.len()));
    let reasons = if scope.all_reasons { "" } else { ", for some reasons" };
    format!("{whom}{}{reasons}", points.unwrap_or_default())
}
