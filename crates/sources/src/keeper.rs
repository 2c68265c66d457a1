//! The hand that writes into the state folder, and tells when it cannot.
//!
//! Held by `watch.rs`. A failure to write never takes anything out of force: it is told once, counted each time, and
//! tried again at every poll.

use crate::LoadFailure;
use crate::denials::Denials;
use crate::holdings::Holdings;
use crate::kept::{Damage, Label};
use crate::records::{HeldRecord, StateDirRecord};
use crate::report::Report;
use crate::restored::{DENIALS, HELD, desk};
use crate::state_dir::StateDir;

/// The folder, if there is one, and what went wrong with it last.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    state_dir: Option<StateDir>,
    failure: Option<String>,
}

impl Keeper {
    /// Claims the folder and sets aside what is damaged in it.
    pub(crate) fn claim(path: Option<&std::path::Path>, damages: &[Damage]) -> Result<Keeper, LoadFailure> {
        let state_dir = path.map(StateDir::claim).transpose()?;
        if let Some(state_dir) = &state_dir {
            for damage in damages {
                state_dir.set_aside(damage).map_err(|error| {
                    LoadFailure(format!("{} (it cannot be set aside: {error}; remove it)", damage.sentence))
                })?;
            }
        }
        Ok(Keeper { state_dir, failure: None })
    }

    /// The folder.
    pub(crate) fn state_dir(&self) -> Option<&StateDir> {
        self.state_dir.as_ref()
    }

    /// Writes what was accepted and is not kept yet; true if all of it is kept then.
    pub(crate) fn save(&mut self, holdings: &mut Holdings, report: &Report) -> bool {
        let Some(state_dir) = &self.state_dir else { return false };
        let saved = holdings.save(state_dir);
        self.tell(saved, report) && holdings.unsaved() == 0
    }

    /// Writes the denials; true if they are kept then.
    pub(crate) fn denials(&mut self, denials: &Denials, report: &Report) -> bool {
        self.put(DENIALS, &denials.to_bytes(), report)
    }

    /// Writes what is held; true if it is kept then.
    pub(crate) fn held(&mut self, held: &[HeldRecord], report: &Report) -> bool {
        serde_json::to_vec(held).is_ok_and(|bytes| self.put(HELD, &bytes, report))
    }

    fn put(&mut self, name: &str, bytes: &[u8], report: &Report) -> bool {
        let Some(state_dir) = &self.state_dir else { return false };
        let written = state_dir.write(&desk(name), &Label::default(), bytes);
        self.tell(written, report)
    }

    fn tell(&mut self, result: std::io::Result<()>, report: &Report) -> bool {
        match result {
            Ok(()) => {
                self.failure = None;
                true
            }
            Err(error) => {
                let root = self.state_dir.as_ref().map(|one| one.root().display().to_string()).unwrap_or_default();
                let sentence = format!(
                    "--state-dir {root}: cannot be written ({error}); what is in force stays in force, and a restart \
                     would not find it: make room, or let the proxy's user write there"
                );
                report.state_dir_failed(&sentence, self.failure.as_ref() != Some(&sentence));
                self.failure = Some(sentence);
                false
            }
        }
    }

    /// For the operator.
    pub(crate) fn record(&self, holdings: &Holdings) -> Option<StateDirRecord> {
        let state_dir = self.state_dir.as_ref()?;
        Some(StateDirRecord {
            path: state_dir.root().display().to_string(),
            failure: self.failure.clone(),
            unsaved: holdings.unsaved(),
        })
    }
}
