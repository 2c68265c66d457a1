//! What the state folder holds, taken in again at the start.
//!
//! Called by `load.rs`, before any file of `--revocations` is read. Lists are verified again under the keys of this
//! start. It must never change the folder.

use std::path::{Path, PathBuf};

use trust::{Bundle, Time};

use crate::LoadFailure;
use crate::denials::Denials;
use crate::file::Stamp;
use crate::holdings::{Brought, Unrestored};
use crate::kept::{self, Contents, Damage, Drawer, Kept, Place, contents};
use crate::records::HeldRecord;
use crate::revocations::Revocations;

/// The label of a damaged file.
pub(crate) const DAMAGED: &str = "damaged_state";
/// The file of the overlay's denials.
pub(crate) const DENIALS: &str = "denials";
/// The file that says what is held.
pub(crate) const HELD: &str = "held";

/// A refusal at start, for the counters and the operator's side: label, sentence, and where it comes from.
pub(crate) type Told = (&'static str, String, String);

/// The place of one of the two.
pub(crate) fn desk(name: &str) -> Place {
    Place { drawer: Drawer::Desk, name: name.to_owned() }
}

/// Everything but the lists and CRLs, which went into the holdings.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// Of the overlay; some may have ended meanwhile.
    pub(crate) denials: Denials,
    /// What waited to be confirmed.
    pub(crate) held: Vec<HeldRecord>,
    /// What lay there when it was read.
    pub(crate) stamps: Vec<(PathBuf, Stamp)>,
    /// Sentences about what was.
    pub(crate) brought: Vec<String>,
    /// What could not be restored, and what else was refused at the start.
    pub(crate) told: Vec<Told>,
    /// Files to be set aside.
    pub(crate) damages: Vec<Damage>,
}

impl Restored {
    /// Reads the folder; lists and CRLs go into `revocations`, if they are wanted.
    pub(crate) fn read(
        root: &Path,
        revocations: &mut Revocations,
        (bundle, now): (&Bundle, Time),
        wanted: bool,
    ) -> Result<Restored, LoadFailure> {
        // Before the rest: whatever changes from here on shows as another stamp.
        let stamps = kept::stamps(root)?;
        let Contents { mut kept, damages } = contents(root, revocations.holdings.requirements().max_bytes)?;
        let mut restored = Restored { stamps, ..Restored::default() };
        for damage in damages {
            restored.damage(root, damage);
        }
        let from = root.display().to_string();
        // A floor is taken away by name, from the list that acts and the one that observes. So those without a floor
        // come first: what comes after them keeps its own.
        kept.sort_by_key(|one| !revocations.holdings.has_no_floor(&one.label));
        for one in kept {
            let (drawer, name) = (one.place.drawer, one.place.name.clone());
            match (drawer, name.as_str()) {
                (Drawer::Desk, DENIALS) => restored.denials(root, one),
                (Drawer::Desk, HELD) => match serde_json::from_slice(&one.bytes) {
                    Ok(held) => restored.held = held,
                    Err(error) => restored.damage(root, Damage::at(root, &one.place, &error.to_string())),
                },
                (Drawer::Desk, _) => {}
                (Drawer::Lists | Drawer::Crls, _) if !wanted => {}
                (Drawer::Lists | Drawer::Crls, _) => match revocations.holdings.restore(one, bundle, now) {
                    Ok(Brought { path, sentence }) => {
                        path.iter().for_each(|path| revocations.has_said(path));
                        restored.brought.push(sentence);
                    }
                    Err(Unrestored { label, why }) => {
                        let root = root.display();
                        let sentence =
                            format!("{} {root}: {name} was in force before and is not now: {why}", kept::FLAG);
                        restored.told.push((label, sentence, from.clone()));
                    }
                },
            }
        }
        Ok(restored)
    }

    fn denials(&mut self, root: &Path, kept: Kept) {
        match Denials::from_bytes(&kept.bytes) {
            Ok((denials, sentences)) => {
                self.denials = denials;
                let tell = |sentence| (DAMAGED, sentence, root.display().to_string());
                self.told.extend(sentences.into_iter().map(tell));
            }
            Err(why) => self.damage(root, Damage::at(root, &kept.place, &why)),
        }
    }

    fn damage(&mut self, root: &Path, damage: Damage) {
        self.told.push((DAMAGED, damage.sentence.clone(), root.display().to_string()));
        self.damages.push(damage);
    }
}
