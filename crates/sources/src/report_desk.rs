//! What is said of pushes, denials, floors and what is held: one log line each, with who asked for it.
//!
//! Called by `clerk.rs`, `knowledge.rs` and `keeper.rs`. Part of [`Report`]; it must never decide anything.

use std::time::Instant;

use proxy::{ReloadResult, ReloadSource};

use crate::denials::Denial;
use crate::offer::{About, word};
use crate::records::{FloorReset, HeldRecord};
use crate::report::{Report, milliseconds};

impl Report {
    /// Something pushed or confirmed was taken in, or known already; `sentence` says which.
    pub(crate) fn pushed(
        &self,
        result: &'static str,
        (about, who): (&About, &str),
        (sentence, began): (&str, Instant),
    ) {
        let counted = if result == "unchanged" { ReloadResult::Unchanged } else { ReloadResult::Changed };
        tracing::info!(
            target: "portcullis",
            event = "reload",
            source = "push",
            who,
            result,
            list = about.list.as_deref().unwrap_or("crl"),
            mode = about.mode.map(word),
            sequence = about.sequence,
            entries = about.entries,
            epoch = self.live.epoch(),
            took_ms = milliseconds(began),
            "{sentence}"
        );
        self.metrics.reloaded(ReloadSource::Revocations, counted);
    }

    /// Something pushed cannot be read, or was refused.
    pub(crate) fn push_refused(&self, label: &'static str, (sentence, from): (&str, &str)) {
        self.refused(label, (sentence, from));
        tracing::error!(
            target: "portcullis",
            event = "reload",
            source = "push",
            from,
            result = "failed",
            label,
            sequence = self.sequence(),
            epoch = self.live.epoch(),
            "{sentence}"
        );
        self.metrics.reloaded(ReloadSource::Revocations, ReloadResult::Failed);
    }

    /// It would cut too many: what was in force stays.
    pub(crate) fn held(&self, record: &HeldRecord) {
        tracing::error!(
            target: "portcullis",
            event = "held",
            from = record.from,
            digest = record.digest,
            list = record.list,
            sequence = record.sequence,
            cut = record.cut,
            live = record.live,
            epoch = self.live.epoch(),
            "{} would cut {} of {} live sessions, more than --max-cut-fraction allows: it is held, what was in force \
             stays; look at a preview, then confirm it or publish another",
            record.what,
            record.cut,
            record.live
        );
        self.metrics.reloaded(ReloadSource::Revocations, ReloadResult::Failed);
    }

    /// There was no room for it any more.
    pub(crate) fn held_no_longer(&self, record: &HeldRecord) {
        tracing::error!(
            target: "portcullis",
            event = "held_dropped",
            digest = record.digest,
            "{} from {} is held no longer, because too much is held; offer it again if it is still wanted",
            record.what,
            record.from
        );
    }

    /// Not every worker answered, so the share that would be cut is not known.
    pub(crate) fn uncertain_share(&self, unheard: usize) {
        tracing::warn!(
            target: "portcullis",
            event = "share_uncertain",
            unheard,
            "{unheard} workers did not tell how many of their sessions would be cut; --max-cut-fraction was measured \
             without them"
        );
    }

    /// It was held before the start and is not any more.
    pub(crate) fn held_lost(&self, record: &HeldRecord) {
        tracing::error!(
            target: "portcullis",
            event = "held_dropped",
            digest = record.digest,
            "{} from {}, held since {}, is held no longer after the start: its file holds something else, or what was \
             pushed ended with the process; offer it again if it is still wanted",
            record.what,
            record.from,
            record.since
        );
    }

    /// A denial is in force.
    pub(crate) fn denial_added(&self, denial: &Denial, persisted: bool) {
        tracing::warn!(
            target: "portcullis",
            event = "denial_added",
            id = denial.id,
            who = denial.who,
            entry = shown(denial),
            until = revocation::show(denial.until),
            persisted,
            epoch = self.live.epoch(),
            "the denial {} is in force{}",
            denial.id,
            if persisted { "" } else { ", and a restart would not find it" }
        );
    }

    /// A denial was taken back.
    pub(crate) fn denial_removed(&self, denial: &Denial, who: &str) {
        tracing::warn!(
            target: "portcullis",
            event = "denial_removed",
            id = denial.id,
            who,
            entry = shown(denial),
            epoch = self.live.epoch(),
            "the denial {} was taken back",
            denial.id
        );
    }

    /// A list makes up for a denial.
    pub(crate) fn denial_absorbed(&self, denial: &Denial, list: &str) {
        tracing::info!(
            target: "portcullis",
            event = "denial_absorbed",
            id = denial.id,
            list,
            entry = shown(denial),
            epoch = self.live.epoch(),
            "the list {list} makes up for the denial {}, which ends",
            denial.id
        );
    }

    /// A denial ends soon.
    pub(crate) fn denial_lapsing(&self, denial: &Denial) {
        tracing::warn!(
            target: "portcullis",
            event = "denial_lapsing",
            id = denial.id,
            who = denial.who,
            entry = shown(denial),
            until = revocation::show(denial.until),
            "the denial {} ends soon, and no list makes up for it: publish one that names the client, with this id in \
             \"absorbs\", or whom it denies comes in again",
            denial.id
        );
    }

    /// A denial ended, and nothing makes up for it.
    pub(crate) fn denial_lapsed(&self, denial: &Denial) {
        tracing::warn!(
            target: "portcullis",
            event = "denial_lapsed",
            id = denial.id,
            who = denial.who,
            entry = shown(denial),
            epoch = self.live.epoch(),
            "the denial {} has ended, and no list makes up for it: whom it denied may come in again",
            denial.id
        );
    }

    /// The floor of a list was taken away.
    pub(crate) fn floor_reset(&self, reset: &FloorReset, who: &str) {
        let floors = reset.floors.iter().map(|floor| format!("{} {}", floor.mode, floor.sequence));
        tracing::warn!(
            target: "portcullis",
            event = "floor_reset",
            list = reset.list,
            who,
            floors = floors.collect::<Vec<_>>().join(" "),
            persisted = reset.persisted,
            epoch = self.live.epoch(),
            "the floor of the list {} was taken away: the next valid one is accepted whatever its sequence",
            reset.list
        );
    }

    /// Something in the state folder is in force again.
    pub(crate) fn restored(&self, sentence: &str) {
        tracing::info!(target: "portcullis", event = "restored", "from the state folder: {sentence}");
    }

    /// The state folder cannot be written; `news`: it was not told yet.
    pub(crate) fn state_dir_failed(&self, sentence: &str, news: bool) {
        self.metrics.state_dir_failed();
        if news {
            tracing::error!(target: "portcullis", event = "state_dir_failed", "{sentence}");
        }
    }
}

fn shown(denial: &Denial) -> String {
    serde_json::Value::Object(denial.entry.clone()).to_string()
}
