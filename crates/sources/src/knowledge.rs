//! Revocations on their way into force: weighed, taken in, published together with the overlay, kept.
//!
//! Part of [`Watch`]; everything that may change what is in force comes through here, from files, pushes and clients'
//! chains. It must never publish knowledge without the denials that it does not make up for.

use std::sync::Arc;
use std::time::Instant;

use proxy::ReloadSource;
use trust::{Bundle, Knowledge};

use crate::denials::Denials;
use crate::held::Held;
use crate::holdings::Trial;
use crate::offer::{Offer, word};
use crate::records::HeldRecord;
use crate::restored::{DAMAGED, Restored};
use crate::revocations::{Due, Found, Opened, Outcome, Wish};
use crate::watch::Watch;

impl Watch {
    /// Before the thread starts: what was restored is in force, kept and told.
    pub(crate) fn begin(&mut self, restored: Restored) {
        for (label, sentence, from) in &restored.told {
            self.report.refused(label, (sentence, from));
            if *label == DAMAGED {
                self.report.state_dir_failed(sentence, true);
            }
        }
        restored.brought.iter().for_each(|sentence| self.report.restored(sentence));
        self.denials = restored.denials;
        let restored_denials = self.denials.len();
        let now = self.live.now();
        for gone in self.denials.lapse(now) {
            self.report.denial_lapsed(&gone);
        }
        let absorbed = self.live.current().state.snapshot().map(|snapshot| self.denials.absorb(snapshot));
        for (denial, list) in absorbed.unwrap_or_default() {
            self.report.denial_absorbed(&denial, &list);
        }
        if !self.denials.is_empty() {
            let overlay = self.denials.overlay();
            self.live.publish(|state| state.overlay = overlay);
        }
        self.denials_unsaved = restored_denials != self.denials.len();
        let shelf = &self.revocations.holdings.shelf;
        let held = |record: &HeldRecord| shelf.records().iter().any(|one| one.digest == record.digest);
        restored.held.iter().filter(|one| !held(one)).for_each(|one| self.report.held_lost(one));
        self.held_changed();
        self.keep();
    }

    /// Reads what is due and takes it in.
    pub(crate) async fn look_at_revocations(&mut self, wish: &Wish) {
        let (mut due, found) = self.revocations.due(wish);
        // An urgent list does not wait for a large CRL.
        due.sort_by_key(|one| one.size);
        for one in found {
            match one {
                Found::Failed(label, failure) => {
                    self.report.failed(ReloadSource::Revocations, (&failure, Instant::now()));
                    self.report.refused(label, (&failure.sentence, &failure.path.display().to_string()));
                }
                Found::Vanished(path) => self.report.vanished(&path),
            }
        }
        for one in due {
            let began = Instant::now();
            let outcome = self.look_into(&one).await;
            self.publish(None);
            self.report.revocations(one.file(), (&outcome, began));
            self.keep();
        }
    }

    async fn look_into(&mut self, due: &Due) -> Outcome {
        let (offer, seen) = match self.revocations.open(due) {
            Opened::Done(outcome) => return outcome,
            Opened::Offer(offer, seen) => (offer, seen),
        };
        let trial = self.attempt(*offer);
        if let Some(held) = self.weigh(&trial, false).await {
            let (outcome, gone) = self.revocations.hold(due, seen, held);
            gone.iter().for_each(|one| self.report.held_no_longer(one));
            self.held_changed();
            return outcome;
        }
        let from = due.file().display().to_string();
        self.outdate_held(&trial, Some(&from));
        self.revocations.settle(due, seen, trial)
    }

    /// What taking an offer in would be.
    pub(crate) fn attempt(&self, offer: Offer) -> Trial {
        let bundle = Arc::clone(&self.live.current().state.bundle);
        self.revocations.holdings.attempt(offer, &bundle, self.live.now())
    }

    /// What to hold, if taking it in would cut more than `--max-cut-fraction` of the live sessions and nobody
    /// confirmed it.
    ///
    /// Workers that do not answer within the preview's time are left out of the measure: their sessions cannot be
    /// told to be many or few, and a revocation that waits for a stuck worker would be one that fails open.
    pub(crate) async fn weigh(&self, trial: &Trial, confirmed: bool) -> Option<Held> {
        let fraction = self.paths.max_cut_fraction?;
        if confirmed || trial.about.confirms {
            return None;
        }
        let (snapshot, bytes) = (trial.news()?, trial.bytes.clone()?);
        let preview = self.live.preview(|state| state.knowledge = Knowledge::Known(snapshot)).await;
        if preview.unheard > 0 {
            self.report.uncertain_share(preview.unheard);
        }
        let (cut, live) = (preview.sessions_cut(), preview.live);
        if !exceeds(cut, live, fraction) {
            return None;
        }
        let record = HeldRecord {
            what: trial.about.what(),
            digest: trial.digest.to_string(),
            list: trial.about.list.clone(),
            mode: trial.about.mode.map(|mode| word(mode).to_owned()),
            sequence: trial.about.sequence,
            cut,
            live,
            since: revocation::show(self.live.now()),
            from: trial.from.clone(),
        };
        Some(Held { digest: trial.digest, bytes, in_file: trial.in_file, record })
    }

    /// Something is about to be taken in: what is held and older than it is pointless from now on.
    pub(crate) fn outdate_held(&mut self, trial: &Trial, file: Option<&str>) {
        if trial.verdict.is_err() {
            return;
        }
        let about = &trial.about;
        let list = (about.list.as_deref(), about.mode.map(word), about.sequence);
        let shelf = &mut self.revocations.holdings.shelf;
        let confirmed = shelf.take(&trial.digest).is_some();
        if shelf.outdate(list, file) || confirmed {
            self.held_changed();
        }
    }

    /// What is held is another than before.
    pub(crate) fn held_changed(&mut self) {
        let records = self.revocations.holdings.shelf.records();
        self.report.metrics.snapshot_held(records.len());
        self.counter.set_held(records.len());
        if self.paths.max_cut_fraction.is_some() {
            self.keeper.held(&records, &self.report);
        }
    }

    /// Publishes what is new: the bundle if one is given, knowledge, and the overlay without what that makes up for.
    /// True if there was new knowledge.
    pub(crate) fn publish(&mut self, bundle: Option<Arc<Bundle>>) -> bool {
        let knowledge = self.revocations.news();
        if knowledge.is_none() && bundle.is_none() {
            return false;
        }
        let absorbed = match &knowledge {
            Some(Knowledge::Known(snapshot)) => self.denials.absorb(snapshot),
            Some(Knowledge::Missing | Knowledge::NotWanted) | None => Vec::new(),
        };
        let overlay = (!absorbed.is_empty()).then(|| self.denials.overlay());
        let news = knowledge.is_some();
        self.live.publish(|state| {
            if let Some(bundle) = bundle {
                state.bundle = bundle;
            }
            if let Some(knowledge) = knowledge {
                state.knowledge = knowledge;
            }
            if let Some(overlay) = overlay {
                state.overlay = overlay;
            }
        });
        for (denial, list) in &absorbed {
            self.report.denial_absorbed(denial, list);
        }
        self.denials_unsaved |= !absorbed.is_empty();
        news
    }

    /// Brings the state folder up to date; true if it is. A denial that a list makes up for leaves the folder only
    /// when that list is in it: after a kill in between there are both, never none.
    pub(crate) fn keep(&mut self) -> bool {
        let saved = self.keeper.save(&mut self.revocations.holdings, &self.report);
        if saved || self.keeper.state_dir().is_none() {
            self.denials.forget_absorbed();
        }
        if self.denials_unsaved {
            self.keep_denials();
        }
        if self.keeper.owes_held() {
            self.held_changed();
        }
        saved && !self.denials_unsaved
    }

    /// Writes the denials; true if a restart would find them.
    pub(crate) fn keep_denials(&mut self) -> bool {
        let kept = self.keeper.denials(&self.denials, &self.report);
        // What a list absorbed leaves the folder later.
        self.denials_unsaved = !kept || self.denials.remembers_absorbed();
        kept
    }

    /// An issuer became known: CRLs that wait for it may be taken in.
    pub(crate) fn introduce(&mut self, der: &[u8]) {
        let bundle = Arc::clone(&self.live.current().state.bundle);
        let refusals = self.revocations.holdings.introduce(der, &bundle, self.live.now());
        if self.publish(None) {
            self.report.introduced();
            self.keep();
        }
        refusals.iter().for_each(|refused| self.report.refused_after_waiting(refused));
    }

    /// Ends denials whose time has come, and tells of those that end soon.
    pub(crate) fn end_denials(&mut self) {
        let now = self.live.now();
        let gone = self.denials.lapse(now);
        if !gone.is_empty() {
            let overlay = self.denials.overlay();
            self.live.publish(|state| state.overlay = overlay);
            gone.iter().for_each(|one| self.report.denial_lapsed(one));
            self.denials_unsaved = true;
            self.keep();
        }
        let Watch { denials, report, .. } = self;
        denials.alarm(now).iter().for_each(|one| report.denial_lapsing(one));
        report.metrics.overlay_lapsing(Denials::lapsing(denials, now));
    }
}

/// Whether `cut` of `live` is more than `fraction`.
pub(crate) fn exceeds(cut: usize, live: usize, fraction: f64) -> bool {
    // Counts of sessions are far below 2⁵³, where the conversion begins to round.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let (cut, allowed) = (cut as f64, live as f64 * fraction);
    cut > allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_too_large_only_when_it_exceeds_the_fraction() {
        for (cut, live, fraction, too_many) in
            [(0, 0, 0.0, false), (1, 2, 0.5, false), (2, 3, 0.5, true), (1, 1000, 0.0, true), (5, 5, 1.0, false)]
        {
            assert_eq!(exceeds(cut, live, fraction), too_many, "{cut} of {live}, {fraction}");
        }
    }
}
