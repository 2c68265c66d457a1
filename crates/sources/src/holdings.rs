//! All that was accepted, what of it lies in the state folder, and what is held back.
//!
//! Held by `revocations.rs`. It must never put anything in force by itself: it makes snapshots, others publish.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use revocation::{Accepted, Library, Material, Refused, Requirements};
use trust::{Bundle, Knowledge, Mode, Sha256, Snapshot, Time};

use crate::held::Shelf;
use crate::kept::{Drawer, Kept, Label, Place};
use crate::offer::{About, Offer, word};
use crate::state_dir::StateDir;

/// Bytes of something accepted that the state folder does not hold yet.
#[derive(Debug)]
struct Unsaved {
    digest: Sha256,
    bytes: Arc<[u8]>,
    label: Label,
}

/// What would be the case if an offer were taken in; nothing is until [`Holdings::adopt`].
#[derive(Debug)]
pub(crate) struct Trial {
    library: Library,
    parts: Vec<Unsaved>,
    /// What the rules of accepting say.
    pub(crate) verdict: Result<Accepted, Refused>,
    /// What the offer says of itself.
    pub(crate) about: About,
    /// Of all its bytes.
    pub(crate) digest: Sha256,
    /// All of them.
    pub(crate) bytes: Option<Arc<[u8]>>,
    /// Where it comes from.
    pub(crate) from: String,
    /// That is a file of `--revocations`.
    pub(crate) in_file: bool,
}

impl Trial {
    /// The knowledge that there would be, if it is other than now.
    pub(crate) fn news(&self) -> Option<Arc<Snapshot>> {
        let changed = self.verdict.as_ref().map_or_else(Refused::changed, Accepted::changed);
        if changed { self.library.snapshot() } else { None }
    }
}

/// What the state folder holds at a place.
#[derive(Debug)]
struct Saved {
    digest: Sha256,
    /// The path of `--revocations` that once said it, or an earlier issue of it.
    path: Option<PathBuf>,
}

/// Something that a restart must bring back: in force, or a CRL that waits.
struct Current {
    place: Place,
    digest: Sha256,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Holdings {
    library: Library,
    requirements: Requirements,
    told: Option<Arc<Snapshot>>,
    /// Whether there is a state folder.
    keeps: bool,
    /// What it holds of what is in force.
    on_disk: HashMap<Place, Saved>,
    unsaved: Vec<Unsaved>,
    /// What waits to be confirmed.
    pub(crate) shelf: Shelf,
}

impl Holdings {
    /// Nothing, under these requirements; `keeps` says whether there is a state folder.
    pub(crate) fn new(requirements: Requirements, keeps: bool) -> Holdings {
        Holdings {
            library: Library::new(requirements.clone()),
            shelf: Shelf::new(requirements.max_bytes),
            requirements,
            told: None,
            keeps,
            on_disk: HashMap::new(),
            unsaved: Vec::new(),
        }
    }

    /// What lists and compiled files must meet.
    pub(crate) fn requirements(&self) -> &Requirements {
        &self.requirements
    }

    /// The accepted material.
    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    /// Tries an offer out.
    pub(crate) fn attempt(&self, offer: Offer, bundle: &Bundle, now: Time) -> Trial {
        let parts = if self.keeps { parts(&offer, self.key_set()) } else { Vec::new() };
        let mut library = self.library.clone();
        let Offer { material, about, digest, bytes, path, from } = offer;
        let verdict = library.accept(material, bundle, now);
        Trial { library, parts, verdict, about, digest, bytes, from, in_file: path.is_some() }
    }

    /// Makes true what was tried out. Nothing may have been taken in since.
    pub(crate) fn adopt(&mut self, trial: Trial) -> Result<Accepted, Refused> {
        self.library = trial.library;
        self.unsaved.extend(trial.parts);
        self.forget_settled();
        trial.verdict
    }

    /// Takes in what the state folder held.
    pub(crate) fn restore(&mut self, kept: Kept, bundle: &Bundle, now: Time) -> Result<Brought, Unrestored> {
        let Kept { place, label, digest, bytes } = kept;
        let offer = Offer::read(bytes, &self.requirements, false, Some(digest))
            .map_err(|error| Unrestored { label: error.label(), why: error.to_string() })?;
        let list = offer.about.list.clone();
        let accepted = self
            .library
            .restore(offer.material, bundle, now)
            .map_err(|refused| Unrestored { label: refused.label(), why: refused.to_string() })?;
        if let (true, Some(list)) = (self.has_no_floor(&label), list) {
            self.library.reset_floor(&list);
        }
        self.on_disk.insert(place, Saved { digest, path: label.path.clone() });
        Ok(Brought { path: label.path, sentence: accepted.to_string() })
    }

    /// Whether what bears this label binds no successor: its floor was taken away, or it was accepted under another
    /// set of keys, within which alone a floor binds.
    pub(crate) fn has_no_floor(&self, label: &Label) -> bool {
        label.floor_reset || label.key_set != self.key_set()
    }

    /// An issuer became known. Returns why CRLs that had waited for it were refused.
    pub(crate) fn introduce(&mut self, der: &[u8], bundle: &Bundle, now: Time) -> Vec<Refused> {
        self.library.introduce(der, bundle, now);
        self.library.take_refusals()
    }

    /// The bundle is another one. Returns why CRLs that had waited were refused.
    pub(crate) fn rebase(&mut self, bundle: &Bundle) -> Vec<Refused> {
        self.library.rebase(bundle);
        self.library.take_refusals()
    }

    /// What is known, if that is new since this was last asked.
    pub(crate) fn news(&mut self) -> Option<Knowledge> {
        let snapshot = self.library.snapshot()?;
        if self.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &snapshot)) {
            return None;
        }
        self.told = Some(Arc::clone(&snapshot));
        Some(Knowledge::Known(snapshot))
    }

    /// Takes the floor of a list away. Returns what the floors were, and whether the state folder knows too.
    pub(crate) fn reset_floor(&mut self, list: &str, state_dir: Option<&StateDir>) -> (Vec<(Mode, u64)>, bool) {
        let floors = self.library.reset_floor(list);
        let Some(state_dir) = state_dir else { return (floors, false) };
        let mut kept = true;
        for place in self.on_disk.keys().filter(|place| is_of(place, list)) {
            let rewritten = state_dir.read(place, self.requirements.max_bytes).and_then(|one| {
                let label = Label { floor_reset: true, ..one.label };
                state_dir.write(place, &label, &one.bytes).map_err(|error| error.to_string())
            });
            kept &= rewritten.is_ok();
        }
        (floors, kept)
    }

    /// Writes what the state folder does not hold yet, and removes what it need not hold any more. Returns the first
    /// failure.
    pub(crate) fn save(&mut self, state_dir: &StateDir) -> io::Result<()> {
        let mut failure = Ok(());
        let current = self.current();
        for Current { place, digest } in &current {
            if self.holds(place, digest) {
                continue;
            }
            match self.write(state_dir, place, digest) {
                Ok(Some(saved)) => {
                    self.on_disk.insert(place.clone(), saved);
                }
                Ok(None) => {}
                Err(error) => failure = failure.and(Err(error)),
            }
        }
        if failure.is_ok() {
            let places: HashSet<&Place> = current.iter().map(|one| &one.place).collect();
            let pointless: Vec<Place> = self.on_disk.keys().filter(|place| !places.contains(place)).cloned().collect();
            for place in pointless {
                failure = failure.and(state_dir.remove(&place));
                self.on_disk.remove(&place);
            }
        }
        self.forget_settled();
        failure
    }

    fn holds(&self, place: &Place, digest: &Sha256) -> bool {
        self.on_disk.get(place).is_some_and(|saved| saved.digest == *digest)
    }

    /// Writes one thing; `None` if its bytes are not at hand.
    fn write(&self, state_dir: &StateDir, place: &Place, digest: &Sha256) -> io::Result<Option<Saved>> {
        let (label, bytes) = if let Some(unsaved) = self.unsaved.iter().find(|one| one.digest == *digest) {
            (unsaved.label.clone(), Arc::clone(&unsaved.bytes))
        } else {
            // A CRL that waited lies under another name than one that is in force.
            let before = self.on_disk.iter().find(|(_, saved)| saved.digest == *digest);
            let Some((before, _)) = before else { return Ok(None) };
            let kept = state_dir.read(before, self.requirements.max_bytes).map_err(io::Error::other)?;
            (kept.label, Arc::from(kept.bytes))
        };
        // What is pushed takes the place of what a file said, and that file still has said something.
        let path = label.path.or_else(|| self.on_disk.get(place)?.path.clone());
        state_dir.write(place, &Label { path: path.clone(), ..label }, &bytes)?;
        Ok(Some(Saved { digest: *digest, path }))
    }

    /// How much of what a restart must bring back it would not find.
    pub(crate) fn unsaved(&self) -> usize {
        self.current().iter().filter(|one| !self.holds(&one.place, &one.digest)).count()
    }

    /// Whether a restart would find what has this digest.
    pub(crate) fn is_saved(&self, digest: &Sha256) -> bool {
        self.on_disk.values().any(|saved| saved.digest == *digest)
    }

    /// Id of the set of keys.
    pub(crate) fn key_set(&self) -> Option<String> {
        self.requirements.keys.as_ref().map(|keys| keys.id().to_string())
    }

    fn current(&self) -> Vec<Current> {
        let snapshot = self.library.snapshot();
        let lists = snapshot.iter().flat_map(|snapshot| snapshot.lists()).map(|list| Current {
            place: Place { drawer: Drawer::Lists, name: format!("{}-{}", word(list.mode), list.name) },
            digest: list.digest,
        });
        let crls = self
            .library
            .crls_in_force()
            .into_iter()
            .map(|(place, digest)| Current { place: Place { drawer: Drawer::Crls, name: place.to_string() }, digest });
        lists.chain(crls).collect()
    }

    /// Forgets bytes that nobody needs any more.
    fn forget_settled(&mut self) {
        let missing = self.current().into_iter().filter(|one| !self.holds(&one.place, &one.digest));
        let mut needed: HashSet<Sha256> = missing.map(|one| one.digest).collect();
        self.unsaved.retain(|one| needed.remove(&one.digest));
    }
}

/// What came of something in the state folder.
#[derive(Debug)]
pub(crate) struct Brought {
    /// The path of `--revocations` that once said it.
    pub(crate) path: Option<PathBuf>,
    /// What it is.
    pub(crate) sentence: String,
}

/// Why something in the state folder is not in force.
#[derive(Debug)]
pub(crate) struct Unrestored {
    /// One fixed word.
    pub(crate) label: &'static str,
    /// Completes "--state-dir …: ".
    pub(crate) why: String,
}

fn is_of(place: &Place, list: &str) -> bool {
    let name = |mode: &str| place.name.strip_prefix(mode).and_then(|rest| rest.strip_prefix('-'));
    place.drawer == Drawer::Lists && [name("enforce"), name("observe")].contains(&Some(list))
}

/// What of an offer the state folder keeps one by one: a list as it came, each CRL by itself.
fn parts(offer: &Offer, key_set: Option<String>) -> Vec<Unsaved> {
    let label = Label { path: offer.path.clone(), ..Label::default() };
    match &offer.material {
        Material::List(_) => {
            let Some(bytes) = offer.bytes.clone() else { return Vec::new() };
            let label = Label { sequence: offer.about.sequence, key_set, ..label };
            vec![Unsaved { digest: offer.digest, bytes, label }]
        }
        Material::Crls(crls) => {
            let one = |crl: &revocation::UnverifiedCrl| Unsaved {
                digest: crl.digest(),
                bytes: Arc::from(crl.der()),
                label: label.clone(),
            };
            crls.iter().map(one).collect()
        }
    }
}
