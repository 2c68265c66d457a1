//! What is revoked: every `--revocations` file, read when it changed, and all that was accepted.
//!
//! Called by `load.rs` and `knowledge.rs`. Each file is taken in or refused by itself, and nothing refused, vanished
//! or unreadable takes back what is in force. It must never publish: that is the caller's.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use revocation::{Accepted, Refused, Requirements};
use trust::{Bundle, Knowledge, Sha256};

use crate::file::{Failure, Named, Stamp, Unread, read};
use crate::held::Held;
use crate::holdings::{Holdings, Trial};
use crate::offer::{About, Offer};
use crate::records::HeldRecord;
use crate::refusal::{Again, again, is_tolerable, yields};
use crate::source::{Source, Standing};

pub(crate) const FLAG: &str = "--revocations";

/// Which files are read although they look as before.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    /// The poll: what was read only once is read once more, for a file can change twice within one tick of the
    /// clock that stamps it; and what was refused as too early is tried again.
    pub(crate) poll: bool,
    /// All of them.
    pub(crate) everything: bool,
    /// Those with these names: somebody told that they changed.
    pub(crate) names: HashSet<OsString>,
}

impl Wish {
    /// Whether somebody told that this file changed.
    pub(crate) fn names(&self, file: &Path) -> bool {
        let named = |path: &Path| path.file_name().is_some_and(|name| self.names.contains(name));
        // A link is told of by the name of what it points at.
        !self.names.is_empty() && (named(file) || file.canonicalize().is_ok_and(|target| named(&target)))
    }
}

/// A file to be read.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) source: usize,
    pub(crate) file: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
}

impl Due {
    /// Its path.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// What was found before any file is read.
#[derive(Debug)]
pub(crate) enum Found {
    /// This path cannot be read, and could before; with one fixed word.
    Failed(&'static str, Failure),
    /// This file is gone; what it said stays in force.
    Vanished(PathBuf),
}

/// A file's content as it was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) stamp: Option<Stamp>,
    pub(crate) digest: Sha256,
}

/// What a look into a file gave.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Nothing to take in.
    Done(Outcome),
    /// This, to be taken in, refused or held.
    Offer(Box<Offer>, Seen),
}

/// What became of a file that was read.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Taken in, or known already.
    Accepted { accepted: Accepted, about: About },
    /// Nothing of it can be read; with one fixed word.
    Failed(&'static str, Failure),
    /// It can be read, and was not taken in, or not all.
    Refused { label: &'static str, failure: Failure, tolerable: bool, changed: bool },
    /// It waits to be confirmed.
    Held(HeldRecord),
    /// The same bytes in a new file.
    Same,
    /// The same as told before.
    Silence,
}

/// The files and all that was accepted, from them or otherwise.
#[derive(Debug)]
pub(crate) struct Revocations {
    sources: Vec<Source>,
    /// What was accepted.
    pub(crate) holdings: Holdings,
    /// Whether the bytes of what is read are kept until it is clear that nobody needs them.
    keep_bytes: bool,
}

impl Revocations {
    /// Of these paths; nothing is read yet. `keep_bytes`: there is a state folder, or things may be held.
    pub(crate) fn new(paths: &[PathBuf], holdings: Holdings, keep_bytes: bool) -> Revocations {
        Revocations { sources: paths.iter().cloned().map(Source::new).collect(), holdings, keep_bytes }
    }

    /// The state folder holds what this path once said: it need not say it again.
    pub(crate) fn has_said(&mut self, path: &Path) {
        for source in self.sources.iter_mut().filter(|source| source.path == path) {
            source.yielded = true;
        }
    }

    /// Whether a failure at this path leaves knowledge of it in force.
    pub(crate) fn has_yielded(&self, path: &Path) -> bool {
        self.sources.iter().any(|source| source.yielded && path.starts_with(&source.path))
    }

    /// Which files are to be read, by name within each path.
    pub(crate) fn due(&mut self, wish: &Wish) -> (Vec<Due>, Vec<Found>) {
        let (mut due, mut found) = (Vec::new(), Vec::new());
        for (position, source) in self.sources.iter_mut().enumerate() {
            source.look(position, wish, (&mut due, &mut found));
        }
        (due, found)
    }

    /// Reads one file, if there is something new in it.
    pub(crate) fn open(&mut self, due: &Due) -> Opened {
        let requirements = self.holdings.requirements();
        let Some(source) = self.sources.get_mut(due.source) else { return Opened::Done(Outcome::Silence) };
        let content = match read(&due.file, requirements.max_bytes) {
            Ok(content) => content,
            // It vanished since it was listed: the next look tells.
            Err(Unread::Missing) => return Opened::Done(Outcome::Silence),
            Err(why) => return Opened::Done(source.unread(&due.file, &why)),
        };
        let seen = Seen { digest: content.digest(), stamp: Some(content.stamp.clone()) };
        if let Some(outcome) = source.recognise(due, &seen) {
            return Opened::Done(outcome);
        }
        match offer(source, due, (content.bytes, requirements), (self.keep_bytes, seen.digest)) {
            Ok(offer) => Opened::Offer(Box::new(offer), seen),
            Err((label, failure)) => {
                source.remember(due, seen, Standing::Malformed);
                Opened::Done(Outcome::Failed(label, failure))
            }
        }
    }

    /// Takes in what was tried out, and remembers what became of the file.
    pub(crate) fn settle(&mut self, due: &Due, seen: Seen, trial: Trial) -> Outcome {
        let about = trial.about.clone();
        let verdict = self.holdings.adopt(trial);
        let Some(source) = self.sources.get_mut(due.source) else { return Outcome::Silence };
        match verdict {
            Ok(accepted) => {
                source.yielded = true;
                let standing = source.standing_of(due, seen.digest, &accepted);
                let repeated = source.remember(due, seen, standing);
                if repeated && !accepted.changed() {
                    return Outcome::Silence;
                }
                Outcome::Accepted { accepted, about }
            }
            Err(refused) => {
                source.yielded |= yields(&refused);
                let label = refused.label();
                let standing = Standing::Refused { label, again: again(&refused) };
                let changed = refused.changed();
                if source.remember(due, seen, standing) && !changed {
                    return Outcome::Silence;
                }
                let tolerable = is_tolerable(&refused);
                let failure = Named { flag: FLAG, path: &due.file }.failure(refused);
                Outcome::Refused { label, failure, tolerable, changed }
            }
        }
    }

    /// Takes in nothing, and remembers that the file's content waits to be confirmed; with what is held no longer, for
    /// want of room.
    pub(crate) fn hold(&mut self, due: &Due, seen: Seen, held: Held) -> (Outcome, Vec<HeldRecord>) {
        let record = held.record.clone();
        let gone = self.holdings.shelf.put(held);
        if let Some(source) = self.sources.get_mut(due.source) {
            source.remember(due, seen, Standing::Held);
        }
        (Outcome::Held(record), gone)
    }

    /// Forgets what became of a file that was refused, so that it is told again.
    pub(crate) fn forget(&mut self, due: &Due) {
        if let Some(source) = self.sources.get_mut(due.source) {
            source.forget(&due.file);
        }
    }

    /// The bundle is another one. Returns why CRLs that had waited were refused. Files that it may have healed are
    /// due again.
    pub(crate) fn rebase(&mut self, bundle: &Bundle) -> Vec<Refused> {
        self.retry(Again::WithBundle);
        self.holdings.rebase(bundle)
    }

    /// Files that this may have healed are due again.
    pub(crate) fn retry(&mut self, healed: Again) {
        self.sources.iter_mut().for_each(|source| source.retry(healed));
    }

    /// What is known, if that is new since this was last asked. Nothing is, until every path yielded something.
    pub(crate) fn news(&mut self) -> Option<Knowledge> {
        if self.sources.iter().any(|source| !source.yielded) {
            return None;
        }
        self.holdings.news()
    }

    /// Paths that yielded nothing so far.
    pub(crate) fn silent(&self) -> impl Iterator<Item = Named<'_>> {
        let silent = self.sources.iter().filter(|source| !source.yielded);
        silent.map(|source| Named { flag: FLAG, path: &source.path })
    }
}

/// What the bytes of one file offer.
fn offer(
    source: &Source,
    due: &Due,
    (bytes, requirements): (Vec<u8>, &Requirements),
    (keep, digest): (bool, Sha256),
) -> Result<Offer, (&'static str, Failure)> {
    let named = Named { flag: FLAG, path: &due.file };
    match Offer::read(bytes, requirements, keep, Some(digest)) {
        Ok(offer) => Ok(Offer { path: Some(source.path.clone()), from: due.file.display().to_string(), ..offer }),
        Err(error) => {
            let (line, column, label) = (error.line, error.column, error.label());
            Err((label, Failure { line, column, ..named.failure(error) }))
        }
    }
}
