//! Answers what the desk is asked.
//!
//! Part of [`Watch`], on the sources' thread, one question at a time. Whatever changes something is in force and, as
//! far as there is a state folder, kept before the answer goes out. It must never answer for a caller who may not ask:
//! that is `control`'s to know.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use revocation::Refused;
use trust::{Knowledge, List, Mode, Sha256};

use crate::desk::{Ask, Pushing, Reply};
use crate::desk_error::DeskError;
use crate::holdings::Trial;
use crate::knowledge::exceeds;
use crate::offer::{About, Offer, word};
use crate::records::{DenialRecord, Floor, FloorReset, NewDenial, Preview, PreviewedIdentity, Push, Pushed, Taken};
use crate::refusal::Again;
use crate::revocations::Wish;
use crate::watch::Watch;

/// Identities that a preview names: more than anybody reads, and bounded for whoever must carry the answer.
const NAMED: usize = 1000;

impl Watch {
    /// Answers one question. A caller who went away meanwhile changes nothing about what was done.
    pub(crate) async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::State(reply) => send(reply, Ok(self.state())),
            Ask::Push(pushing, push, reply) => {
                let Pushing { offer, room } = pushing;
                let answer = self.push(offer, &push).await;
                drop(room);
                send(reply, answer);
            }
            Ask::Unreadable { label, sentence, from } => self.report.push_refused(label, (&sentence, &from)),
            Ask::Preview(pushing, reply) => self.preview(pushing, reply),
            Ask::Confirm(digest, who, reply) => {
                let answer = self.confirm(digest.as_deref(), &who);
                send(reply, answer);
            }
            Ask::ResetFloor(list, who, reply) => {
                let answer = self.reset_floor(list, &who).await;
                send(reply, answer);
            }
            Ask::Deny(denial, reply) => {
                let answer = self.deny(denial);
                send(reply, answer);
            }
            Ask::Undeny(id, who, reply) => {
                let answer = self.undeny(&id, &who);
                send(reply, answer);
            }
            Ask::Denials(reply) => {
                let now = self.live.now();
                let records = self.denials.iter().map(|one| one.record(now, self.keeps_denials())).collect();
                send(reply, Ok(records));
            }
        }
    }

    async fn push(&mut self, offer: Offer, push: &Push) -> Result<Pushed, DeskError> {
        let began = Instant::now();
        self.wants_revocations()?;
        self.matches(&offer.about, push.if_match)?;
        let trial = self.attempt(offer);
        if let Some(held) = self.weigh(&trial, push.confirm).await {
            let about = trial.about;
            let record = held.record.clone();
            for gone in self.revocations.holdings.shelf.put(held) {
                self.report.held_no_longer(&gone);
            }
            self.held_changed();
            self.report.held(&record);
            let sentence = format!(
                "held: {} would cut {} of {} live sessions, more than --max-cut-fraction allows; what was in force \
                 stays until this is confirmed",
                record.what, record.cut, record.live
            );
            return Ok(self.pushed(("held", sentence), about, (false, Some(record))));
        }
        self.take(trial, &push.who, began)
    }

    /// Once a list in force is outdated it denies everybody, until fresh knowledge comes: what is held may be that, and
    /// cuts nobody any more who is not cut already. So it is weighed again.
    pub(crate) async fn weigh_held_again(&mut self) {
        if self.revocations.holdings.shelf.len() == 0 || !self.is_outdated() {
            return;
        }
        for held in self.revocations.holdings.shelf.all() {
            let requirements = self.revocations.holdings.requirements();
            let Ok(offer) = Offer::read(held.bytes.to_vec(), requirements, true, Some(held.digest)) else { continue };
            let trial = self.attempt(Offer { from: held.record.from, ..offer });
            if trial.verdict.is_ok() && self.weigh(&trial, false).await.is_none() {
                // Whatever becomes of it is told.
                let _ = self.take(trial, "weighed again", Instant::now());
            }
        }
    }

    fn is_outdated(&self) -> bool {
        let (published, now) = (self.live.current(), self.live.now());
        let (snapshot, policy) = (published.state.snapshot(), &published.state.policy);
        snapshot.is_some_and(|snapshot| snapshot.enforcing().any(|list| list.current_until(policy) <= now))
    }

    /// Takes in what was tried out, publishes and keeps it.
    fn take(&mut self, trial: Trial, who: &str, began: Instant) -> Result<Pushed, DeskError> {
        self.outdate_held(&trial, None);
        let (about, from) = (trial.about.clone(), trial.from.clone());
        let verdict = self.revocations.holdings.adopt(trial);
        self.publish(None);
        let all_kept = self.keep();
        match verdict {
            Ok(accepted) => {
                self.report.pushed(accepted.label(), (&about, who), (&accepted.to_string(), began));
                // What is in force with one more signature is not kept itself.
                let list = about.list.as_deref().zip(about.mode).and_then(|(name, mode)| self.list(name, mode));
                let kept = list.map_or(all_kept, |list| self.revocations.holdings.is_saved(&list.digest));
                Ok(self.pushed((accepted.label(), accepted.to_string()), about, (kept, None)))
            }
            Err(refused) => {
                let (label, sentence) = (refused.label(), refused.to_string());
                self.report.push_refused(label, (&sentence, &from));
                Err(DeskError::Refused { label, sentence })
            }
        }
    }

    fn pushed(
        &self,
        (result, sentence): (&'static str, String),
        about: About,
        (persisted, held): (bool, Option<crate::records::HeldRecord>),
    ) -> Pushed {
        let told = persisted || held.is_some();
        let unkept = if told { "" } else { "; a restart would not find it, because there is no usable --state-dir" };
        let silent = self.revocations.silent().next().map(|named| {
            format!("; but everybody is denied until {named} says something too: put a list or CRL there")
        });
        Pushed {
            taken: taken(about, (result, sentence + unkept + &silent.unwrap_or_default())),
            epoch: self.live.epoch(),
            persisted,
            held,
        }
    }

    fn wants_revocations(&self) -> Result<(), DeskError> {
        if self.paths.no_revocations { Err(DeskError::NotWanted) } else { Ok(()) }
    }

    fn matches(&self, about: &About, if_match: Option<u64>) -> Result<(), DeskError> {
        let Some(wanted) = if_match else { return Ok(()) };
        let (Some(name), Some(mode)) = (&about.list, about.mode) else {
            let sentence = "a CRL has no sequence to match; push it without If-Match".to_owned();
            return Err(DeskError::Invalid { sentence });
        };
        let in_force = self.list(name, mode).map(|list| list.sequence);
        if in_force.unwrap_or(0) == wanted {
            return Ok(());
        }
        let there = in_force.map_or_else(|| "none".to_owned(), |sequence| format!("sequence {sequence}"));
        let sentence = format!(
            "of the list {name} {there} is in force, not sequence {wanted}: somebody published meanwhile; look at what \
             is in force, then push again"
        );
        Err(DeskError::Mismatch { sentence, in_force })
    }

    fn list(&self, name: &str, mode: Mode) -> Option<Arc<List>> {
        let snapshot = self.revocations.holdings.library().snapshot()?;
        snapshot.lists().iter().find(|list| &*list.name == name && list.mode == mode).cloned()
    }

    /// Asks the workers in a task of its own: files are watched meanwhile.
    fn preview(&self, pushing: Pushing, reply: Reply<Preview>) {
        if let Err(error) = self.wants_revocations() {
            return send(reply, Err(error));
        }
        let Pushing { offer, room } = pushing;
        let trial = self.attempt(offer);
        let (result, sentence) = match &trial.verdict {
            Ok(accepted) => (accepted.label(), accepted.to_string()),
            Err(refused) if refused.changed() => ("changed", refused.to_string()),
            Err(refused) => return send(reply, Err(refusal(refused))),
        };
        let (live, fraction) = (Arc::clone(&self.live), self.paths.max_cut_fraction);
        let (news, about) = (trial.news(), trial.about);
        tokio::spawn(async move {
            // Without news nothing would be published; whoever is denied now is cut by others' doing.
            let seen = match news {
                Some(snapshot) => live.preview(|state| state.knowledge = Knowledge::Known(snapshot)).await,
                None => proxy::Preview { cut: Vec::new(), ..live.preview(|_| ()).await },
            };
            let held = fraction.is_some_and(|fraction| exceeds(seen.sessions_cut(), seen.live, fraction));
            let would_be_held = held && !about.confirms;
            send(reply, Ok(preview((result, sentence), about, (&seen, would_be_held))));
            drop(room);
        });
    }

    fn confirm(&mut self, digest: Option<&str>, who: &str) -> Result<Pushed, DeskError> {
        let began = Instant::now();
        let shelf = &self.revocations.holdings.shelf;
        let not_found = |sentence: &str| DeskError::NotFound { sentence: sentence.to_owned() };
        let held = match digest {
            Some(text) => {
                let digest = Sha256::from_hex(text).ok_or_else(|| DeskError::Invalid {
                    sentence: format!("{text:?} is no digest; write the 64 hexadecimal digits that the state shows"),
                })?;
                shelf.find(&digest).ok_or_else(|| not_found("nothing is held under this digest; look at the state"))?
            }
            None if shelf.len() > 1 => {
                let sentence = "more than one is held; name one by its digest, which the state shows".to_owned();
                return Err(DeskError::Invalid { sentence });
            }
            None => shelf.only().ok_or_else(|| not_found("nothing is held; there is nothing to confirm"))?,
        };
        let (bytes, from) = (held.bytes.to_vec(), format!("{}, confirmed by {who}", held.record.from));
        let offer = Offer::read(bytes, self.revocations.holdings.requirements(), true, Some(held.digest));
        let offer = offer.map_err(crate::offer::unreadable)?;
        let digest = offer.digest;
        let trial = self.attempt(Offer { from, ..offer });
        let answer = self.take(trial, who, began);
        // What is refused now, because something newer came in, will not be accepted later.
        if self.revocations.holdings.shelf.take(&digest).is_some() {
            self.held_changed();
        }
        answer
    }

    async fn reset_floor(&mut self, list: String, who: &str) -> Result<FloorReset, DeskError> {
        self.wants_revocations()?;
        let (floors, persisted) = self.revocations.holdings.reset_floor(&list, self.keeper.state_dir());
        if floors.is_empty() {
            let sentence = format!("no list {list:?} is in force, so it has no floor; look at the state");
            return Err(DeskError::NotFound { sentence });
        }
        let floors = floors.into_iter().map(|(mode, sequence)| Floor { mode: word(mode), sequence }).collect();
        let reset = FloorReset { list, floors, persisted };
        self.report.floor_reset(&reset, who);
        // The right list may be at hand already, refused because of the floor.
        self.revocations.retry(Again::WithoutFloor);
        self.look_at_revocations(&Wish::default()).await;
        Ok(reset)
    }

    fn deny(&mut self, new: NewDenial) -> Result<DenialRecord, DeskError> {
        let now = self.live.now();
        let taken = self.absorbed_ids();
        let denial = self.denials.add(new, (self.paths.max_denial_ttl, &taken), now)?;
        let overlay = self.denials.overlay();
        self.live.publish(|state| state.overlay = overlay);
        let persisted = self.keep_denials();
        self.report.denial_added(&denial, persisted);
        Ok(denial.record(now, persisted))
    }

    fn undeny(&mut self, id: &str, who: &str) -> Result<DenialRecord, DeskError> {
        let Some(denial) = self.denials.remove(id) else {
            let sentence = format!("there is no denial {id:?}: it was taken back, absorbed or has ended; list them");
            return Err(DeskError::NotFound { sentence });
        };
        let overlay = self.denials.overlay();
        self.live.publish(|state| state.overlay = overlay);
        let persisted = self.keep_denials();
        self.report.denial_removed(&denial, who);
        Ok(denial.record(self.live.now(), persisted))
    }

    /// Whether a restart would find the denials.
    pub(crate) fn keeps_denials(&self) -> bool {
        self.keeper.state_dir().is_some() && !self.denials_unsaved
    }

    fn absorbed_ids(&self) -> HashSet<Arc<str>> {
        let Some(snapshot) = self.revocations.holdings.library().snapshot() else { return HashSet::new() };
        snapshot.lists().iter().flat_map(|list| list.absorbs.iter().cloned()).collect()
    }
}

fn send<T>(reply: Reply<T>, answer: Result<T, DeskError>) {
    // Whoever asked may have gone; what was done stays done, and is in the log.
    let _ = reply.send(answer);
}

fn refusal(refused: &Refused) -> DeskError {
    DeskError::Refused { label: refused.label(), sentence: refused.to_string() }
}

fn taken(about: About, (result, sentence): (&'static str, String)) -> Taken {
    let About { list, mode, sequence, entries, .. } = about;
    Taken { result, sentence, list, mode: mode.map(word), sequence, entries }
}

fn preview(
    (result, sentence): (&'static str, String),
    about: About,
    (seen, would_be_held): (&proxy::Preview, bool),
) -> Preview {
    let by_reason: BTreeMap<String, usize> =
        seen.by_reason().into_iter().map(|(reason, sessions)| (reason.to_owned(), sessions)).collect();
    let named = seen.cut.iter().take(NAMED).map(|one| PreviewedIdentity {
        identity: one.identity.clone(),
        sessions: one.sessions,
        reason: one.reason.to_owned(),
        sentence: one.sentence.clone(),
    });
    Preview {
        taken: taken(about, (result, sentence)),
        live: seen.live,
        cut: seen.sessions_cut(),
        would_be_held,
        by_reason,
        identities: named.collect(),
        more: seen.cut.len().saturating_sub(NAMED),
        unheard: seen.unheard,
    }
}
