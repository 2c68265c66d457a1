//! The overlay's denials: asked for, listed, taken back, absorbed by a list, lapsed.
//!
//! Held by `clerk.rs` on the sources' thread, which publishes and keeps them. Time is an argument. It must never let
//! one end unnoticed: whatever leaves is returned to be told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use revocation::show;
use serde::{Deserialize, Serialize};
use trust::{Mode, Overlay, Selectors, Snapshot, Time};

use crate::desk_error::DeskError;
use crate::records::{DenialRecord, Entry, NewDenial};

/// Denials at one time: each is a decision by hand, and a list holds any number.
pub(crate) const MAX_DENIALS: usize = 1024;
/// Somebody on call needs a few minutes to publish a list that makes up for a denial.
const ALARM: Duration = Duration::from_secs(600);

/// One denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Short and unique.
    pub(crate) id: String,
    /// Whom it names.
    pub(crate) entry: Entry,
    /// Who asked for it.
    pub(crate) who: String,
    created_at: Time,
    /// It has no force from then on.
    pub(crate) until: Time,
    told_lapsing: bool,
}

impl Denial {
    fn ttl(&self) -> Duration {
        self.until.since(self.created_at)
    }

    /// Whether it ends soon: within ten minutes, or half of its life if that is shorter.
    fn is_lapsing(&self, now: Time) -> bool {
        self.until.since(now) <= ALARM.min(self.ttl() / 2)
    }

    /// For the operator's side.
    pub(crate) fn record(&self, now: Time, persisted: bool) -> DenialRecord {
        DenialRecord {
            id: self.id.clone(),
            entry: self.entry.clone(),
            who: self.who.clone(),
            created_at: show(self.created_at),
            until: show(self.until),
            ttl_seconds: self.ttl().as_secs(),
            lapsing: self.is_lapsing(now),
            persisted,
        }
    }

    /// The line of a list that says the same until its end.
    fn line(&self) -> String {
        let mut entry = self.entry.clone();
        entry.insert("until".to_owned(), show(self.until).into());
        serde_json::Value::Object(entry).to_string()
    }
}

/// As it lies in the state folder.
#[derive(Serialize, Deserialize)]
struct Written {
    id: String,
    entry: Entry,
    who: String,
    /// Milliseconds since 1970.
    created_at: i64,
    /// Milliseconds since 1970.
    until: i64,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    all: Vec<Denial>,
    /// Ended because a list makes up for them, and that list may not be in the state folder yet.
    absorbed: Vec<Denial>,
}

impl Denials {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Denial> {
        self.all.iter()
    }

    /// How many end soon.
    pub(crate) fn lapsing(&self, now: Time) -> usize {
        self.all.iter().filter(|one| one.is_lapsing(now)).count()
    }

    /// Adds one. `taken` are ids that lists in force name: a new denial under such an id would be absorbed at once.
    pub(crate) fn add(
        &mut self,
        new: NewDenial,
        (max_ttl, taken): (Duration, &HashSet<Arc<str>>),
        now: Time,
    ) -> Result<Denial, DeskError> {
        let invalid = |sentence: String| Err(DeskError::Invalid { sentence });
        if self.all.len() >= MAX_DENIALS {
            let sentence = format!(
                "there are {MAX_DENIALS} denials, which is the limit; publish a list that holds them and names their \
                 ids in \"absorbs\""
            );
            return Err(DeskError::TooMany { sentence });
        }
        if new.ttl.as_millis() == 0 || new.ttl > max_ttl {
            return invalid(format!(
                "a denial lives from 1 ms to {} s (--max-denial-ttl), not {} s; what must last longer belongs into a list",
                max_ttl.as_secs(),
                new.ttl.as_secs()
            ));
        }
        if let Some(key) = ["until", "mode"].into_iter().find(|key| new.entry.contains_key(*key)) {
            return invalid(format!(
                "a denial has no {key:?}: it denies, for as long as its time to live; leave it out"
            ));
        }
        let denial = Denial {
            id: self.free_id(taken)?,
            entry: new.entry,
            who: new.who,
            created_at: now,
            until: now.plus(new.ttl),
            told_lapsing: false,
        };
        if let Err(why) = selectors(std::slice::from_ref(&denial)) {
            return invalid(format!("the denial cannot be used: {why}"));
        }
        self.all.push(denial.clone());
        Ok(denial)
    }

    fn free_id(&self, taken: &HashSet<Arc<str>>) -> Result<String, DeskError> {
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        let used = |id: &str| taken.contains(id) || self.all.iter().any(|one| one.id == id);
        // At most one in some thousands of the ids is in use: a second try is rare, a tenth never comes.
        for _ in 0..64 {
            let mut bytes = [0; 3];
            if random.fill(&mut bytes).is_err() {
                break;
            }
            let [first, second, third] = bytes;
            let id = format!("d-{first:02x}{second:02x}{third:02x}");
            if !used(&id) {
                return Ok(id);
            }
        }
        Err(DeskError::Refused {
            label: "no_id",
            sentence: "no free id was found for the denial; the system's source of randomness does not work".to_owned(),
        })
    }

    /// Takes one back.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Denial> {
        let position = self.all.iter().position(|one| one.id == id)?;
        Some(self.all.remove(position))
    }

    /// Takes out those whose end has come.
    pub(crate) fn lapse(&mut self, now: Time) -> Vec<Denial> {
        let (gone, kept) = std::mem::take(&mut self.all).into_iter().partition(|one| one.until <= now);
        self.all = kept;
        self.absorbed.retain(|one| one.until > now);
        gone
    }

    /// Takes out those that a list in force makes up for, with that list's name. A list that only observes denies
    /// nobody, and so makes up for nothing.
    pub(crate) fn absorb(&mut self, snapshot: &Snapshot) -> Vec<(Denial, Arc<str>)> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let mut by: HashMap<&str, &Arc<str>> = HashMap::new();
        for list in snapshot.lists().iter().filter(|list| list.mode == Mode::Enforce) {
            by.extend(list.absorbs.iter().map(|id| (&**id, &list.name)));
        }
        let mut absorbed = Vec::new();
        self.all.retain(|one| match by.get(&*one.id) {
            Some(list) => {
                absorbed.push((one.clone(), Arc::clone(list)));
                false
            }
            None => true,
        });
        self.absorbed.extend(absorbed.iter().map(|(one, _)| one.clone()));
        // As bounded as the others: while a disk stays full lists may come and go.
        let beyond = self.absorbed.len().saturating_sub(MAX_DENIALS);
        self.absorbed.drain(..beyond);
        absorbed
    }

    /// The lists that absorbed some are kept, or nothing ever is.
    pub(crate) fn forget_absorbed(&mut self) {
        self.absorbed.clear();
    }

    /// Whether [`Denials::to_bytes`] holds some that have ended.
    pub(crate) fn remembers_absorbed(&self) -> bool {
        !self.absorbed.is_empty()
    }

    /// Those that end soon and were not told of yet.
    pub(crate) fn alarm(&mut self, now: Time) -> Vec<Denial> {
        let due = self.all.iter_mut().filter(|one| !one.told_lapsing && one.is_lapsing(now));
        due.map(|one| {
            one.told_lapsing = true;
            one.clone()
        })
        .collect()
    }

    /// For the trust state.
    pub(crate) fn overlay(&self) -> Arc<Overlay> {
        // Each was read by itself when it came, so all of them together can be read.
        Arc::new(Overlay::new(selectors(&self.all).unwrap_or_default()))
    }

    /// For the state folder: with those whose list may not be there, so that a restart finds one or the other.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let written = self.absorbed.iter().chain(&self.all).map(|one| Written {
            id: one.id.clone(),
            entry: one.entry.clone(),
            who: one.who.clone(),
            created_at: one.created_at.as_millis(),
            until: one.until.as_millis(),
        });
        serde_json::to_vec(&written.collect::<Vec<_>>()).unwrap_or_default()
    }

    /// From the state folder; with a sentence for each that cannot be used any more.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Denials, Vec<String>), String> {
        let written: Vec<Written> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let (mut denials, mut sentences) = (Denials::default(), Vec::new());
        for one in written {
            let id = one.id.clone();
            match read(one) {
                Ok(denial) => denials.all.push(denial),
                Err(why) => sentences.push(format!("the denial {id} cannot be used any more: {why}")),
            }
        }
        Ok((denials, sentences))
    }
}

fn read(written: Written) -> Result<Denial, String> {
    let denial = Denial {
        created_at: Time::from_millis(written.created_at),
        until: Time::from_millis(written.until),
        id: written.id,
        entry: written.entry,
        who: written.who,
        told_lapsing: false,
    };
    selectors(std::slice::from_ref(&denial)).map(|_| denial)
}

/// What the denials select: read by the very reader of lists, so that a denial means what a line of a list means.
fn selectors(denials: &[Denial]) -> Result<Selectors, String> {
    let header = format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"{}\",\"sequence\":1,\"entries\":{},\
         \"issued_at\":\"1970-01-01T00:00:00Z\",\"expires_at\":\"9999-12-31T23:59:59Z\"}}",
        trust::OVERLAY,
        denials.len()
    );
    let lines = denials.iter().map(Denial::line);
    let text = std::iter::once(header).chain(lines).collect::<Vec<_>>().join("\n");
    match revocation::read(text.into_bytes()) {
        Ok(revocation::Material::List(read)) => Ok(read.list.selectors),
        Ok(revocation::Material::Crls(_)) => Err("it is no entry of a list".to_owned()),
        Err(error) => Err(error.why),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use trust::{List, Sha256};

    use super::*;

    const NOW: Time = Time::from_seconds(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn new(entry: &str, ttl: Duration) -> NewDenial {
        NewDenial { entry: serde_json::from_str(entry).unwrap(), ttl, who: "somebody".to_owned() }
    }

    fn add(denials: &mut Denials, entry: &str, ttl: Duration) -> Result<Denial, DeskError> {
        denials.add(new(entry, ttl), (HOUR, &HashSet::new()), NOW)
    }

    fn after(seconds: u64) -> Time {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn absorbing(mode: Mode, id: &str) -> Snapshot {
        let list = List {
            name: Arc::from("prod"),
            mode,
            sequence: 1,
            digest: Sha256([0; 32]),
            issued_at: NOW,
            expires_at: after(10),
            selectors: Selectors::default(),
            observed: Selectors::default(),
            absorbs: Box::new([Arc::from(id)]),
        };
        Snapshot::new(vec![Arc::new(list)], Vec::new(), HashSet::new(), HashSet::new())
    }

    #[test]
    fn a_denial_that_names_nobody_or_lives_too_long_is_refused_in_one_sentence() {
        let mut denials = Denials::default();
        for (entry, ttl, part) in [
            ("{}", HOUR, "selects nobody"),
            ("{\"id\":\"*\"}", HOUR, "names nobody"),
            ("{\"ip\":\"10.0.0.1\"}", HOUR, "unknown key"),
            ("{\"id\":\"spiffe://td/a\",\"reason\":\"because\"}", HOUR, "unknown reason"),
            ("{\"id\":\"spiffe://td/a\",\"until\":\"2026-01-31T12:00:00Z\"}", HOUR, "\"until\""),
            ("{\"id\":\"spiffe://td/a\",\"mode\":\"observe\"}", HOUR, "\"mode\""),
            ("{\"id\":\"spiffe://td/a\"}", HOUR + Duration::from_secs(1), "--max-denial-ttl"),
            ("{\"id\":\"spiffe://td/a\"}", Duration::ZERO, "--max-denial-ttl"),
        ] {
            let error = add(&mut denials, entry, ttl).unwrap_err();
            assert!(error.to_string().contains(part) && error.label() == "invalid", "{entry}: {error}");
        }
        assert!(denials.is_empty());
    }

    #[test]
    fn ids_are_short_and_unique_and_never_one_that_a_list_already_absorbs() {
        let mut denials = Denials::default();
        for number in 0..MAX_DENIALS {
            add(&mut denials, &format!("{{\"id\":\"spiffe://td/{number}\"}}"), HOUR).unwrap();
        }
        let ids: HashSet<&String> = denials.iter().map(|one| &one.id).collect();
        assert_eq!(ids.len(), MAX_DENIALS);
        assert!(ids.iter().all(|id| id.len() == 8 && id.starts_with("d-")));
        assert_eq!(denials.overlay().len(), MAX_DENIALS);
        let error = add(&mut denials, "{\"id\":\"spiffe://td/more\"}", HOUR).unwrap_err();
        assert_eq!(error.label(), "too_many");
    }

    #[test]
    fn a_denial_is_alarmed_once_ten_minutes_before_its_end_or_at_half_of_a_shorter_life() {
        let mut denials = Denials::default();
        let long = add(&mut denials, "{\"id\":\"spiffe://td/long\"}", HOUR).unwrap();
        let short = add(&mut denials, "{\"id\":\"spiffe://td/short\"}", Duration::from_secs(100)).unwrap();
        assert!(denials.alarm(after(49)).is_empty());
        assert_eq!(denials.alarm(after(50))[0].id, short.id);
        assert!(denials.alarm(after(99)).is_empty());
        assert_eq!(denials.lapse(after(99)).len(), 0);
        assert_eq!(denials.lapse(after(100))[0].id, short.id);
        assert!(denials.alarm(after(2999)).is_empty());
        assert_eq!(denials.alarm(after(3000))[0].id, long.id);
        assert_eq!((denials.lapsing(after(2999)), denials.lapsing(after(3000))), (0, 1));
    }

    #[test]
    fn a_list_that_acts_absorbs_a_denial_by_its_id_and_one_that_observes_does_not() {
        let mut denials = Denials::default();
        let one = add(&mut denials, "{\"id\":\"spiffe://td/a\"}", HOUR).unwrap();
        let other = add(&mut denials, "{\"id\":\"spiffe://td/b\"}", HOUR).unwrap();
        assert!(denials.absorb(&absorbing(Mode::Observe, &one.id)).is_empty());
        let absorbed = denials.absorb(&absorbing(Mode::Enforce, &one.id));
        assert_eq!((absorbed[0].0.id.as_str(), &*absorbed[0].1), (one.id.as_str(), "prod"));
        assert_eq!(denials.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [other.id]);
    }

    #[test]
    fn denials_come_back_from_the_state_folder_as_they_were() {
        let mut denials = Denials::default();
        add(&mut denials, "{\"id\":\"spiffe://td/a/*\",\"reason\":\"keyCompromise\",\"note\":\"job 812\"}", HOUR)
            .unwrap();
        add(&mut denials, "{\"trust_domain\":\"td\"}", Duration::from_millis(1)).unwrap();
        let (back, sentences) = Denials::from_bytes(&denials.to_bytes()).unwrap();
        assert_eq!((back.all, sentences), (denials.all, Vec::<String>::new()));
        let (none, sentences) =
            Denials::from_bytes(b"[{\"id\":\"d-1\",\"entry\":{},\"who\":\"w\",\"created_at\":1,\"until\":2}]").unwrap();
        assert!(none.is_empty() && sentences[0].contains("d-1"), "{sentences:?}");
        assert!(Denials::from_bytes(b"{}").is_err());
    }
}
