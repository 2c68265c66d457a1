//! The hand that writes into the state folder, and tells when it cannot.
//!
//! Held by `watch.rs`. A failure to write never takes anything out of force: it is told once, counted each time, and
//! tried again at every poll.

use std::collections::BTreeMap;
use std::path::Path;

use crate::LoadFailure;
use crate::denials::Denials;
use crate::holdings::Holdings;
use crate::kept::{Label, failure, stamps};
use crate::records::{HeldRecord, StateDirRecord};
use crate::report::Report;
use crate::restored::{DENIALS, HELD, Restored, desk};
use crate::state_dir::StateDir;

/// Lists and CRLs.
const KNOWLEDGE: &str = "knowledge";

/// The folder, if there is one, and what went wrong with it last.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    state_dir: Option<StateDir>,
    /// Why something is not kept, by what it is: that denials can be written says nothing about a list.
    failures: BTreeMap<&'static str, String>,
}

impl Keeper {
    /// Claims the folder and sets aside what is damaged in it. Another process may have kept something after it was
    /// read and before it was claimed: that would be lost.
    pub(crate) fn claim(path: Option<&Path>, restored: &Restored) -> Result<Keeper, LoadFailure> {
        let state_dir = path.map(StateDir::claim).transpose()?;
        if let Some(state_dir) = &state_dir {
            if stamps(state_dir.root())? != restored.stamps {
                return Err(failure(state_dir.root(), "another process wrote there during the start; start again"));
            }
            for damage in &restored.damages {
                state_dir.set_aside(damage).map_err(|error| {
                    LoadFailure(format!("{} (it cannot be set aside: {error}; remove it)", damage.sentence))
                })?;
            }
        }
        Ok(Keeper { state_dir, failures: BTreeMap::new() })
    }

    /// The folder.
    pub(crate) fn state_dir(&self) -> Option<&StateDir> {
        self.state_dir.as_ref()
    }

    /// Writes what was accepted and is not kept yet; true if all of it is kept then.
    pub(crate) fn save(&mut self, holdings: &mut Holdings, report: &Report) -> bool {
        let Some(state_dir) = &self.state_dir else { return false };
        let saved = holdings.save(state_dir);
        self.tell((KNOWLEDGE, saved), report) && holdings.unsaved() == 0
    }

    /// Writes the denials; true if they are kept then.
    pub(crate) fn denials(&mut self, denials: &Denials, report: &Report) -> bool {
        self.put(DENIALS, &denials.to_bytes(), report)
    }

    /// Writes what is held; true if it is kept then.
    pub(crate) fn held(&mut self, held: &[HeldRecord], report: &Report) -> bool {
        serde_json::to_vec(held).is_ok_and(|bytes| self.put(HELD, &bytes, report))
    }

    /// Whether what is held could not be written last.
    pub(crate) fn owes_held(&self) -> bool {
        self.failures.contains_key(HELD)
    }

    fn put(&mut self, name: &'static str, bytes: &[u8], report: &Report) -> bool {
        let Some(state_dir) = &self.state_dir else { return false };
        let written = state_dir.write(&desk(name), &Label::default(), bytes);
        self.tell((name, written), report)
    }

    fn tell(&mut self, (what, result): (&'static str, std::io::Result<()>), report: &Report) -> bool {
        match result {
            Ok(()) => {
                self.failures.remove(what);
                true
            }
            Err(error) => {
                let root = self.state_dir.as_ref().map(|one| one.root().display().to_string()).unwrap_or_default();
                let sentence = format!(
                    "--state-dir {root}: cannot be written ({error}); what is in force stays in force, and a restart \
                     would not find it: make room, or let the proxy's user write there"
                );
                report.state_dir_failed(&sentence, !self.failures.values().any(|told| *told == sentence));
                self.failures.insert(what, sentence);
                false
            }
        }
    }

    /// For the operator.
    pub(crate) fn record(&self, holdings: &Holdings) -> Option<StateDirRecord> {
        let state_dir = self.state_dir.as_ref()?;
        Some(StateDirRecord {
            path: state_dir.root().display().to_string(),
            failure: self.failures.values().next().cloned(),
            unsaved: holdings.unsaved(),
        })
    }
}
