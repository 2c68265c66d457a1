//! What is revoked: every `--revocations` file, read when it changed, and all that was accepted.
//!
//! Called by `load.rs` and `watch.rs`. Each file is taken in or refused by itself, and nothing refused, vanished or
//! unreadable takes back what is in force. It must never publish: that is the caller's.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use revocation::{Accepted, Library, Material, ReadError, Refused};
use trust::{Bundle, Knowledge, Sha256, Snapshot, Time};

use crate::file::{Failure, Named, REVOCATIONS_LIMIT, Stamp, Unread, list, read};
use crate::refusal::{Again, again, is_tolerable, yields};

const FLAG: &str = "--revocations";

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
    fn names(&self, file: &Path) -> bool {
        let named = |path: &Path| path.file_name().is_some_and(|name| self.names.contains(name));
        // A link is told of by the name of what it points at.
        !self.names.is_empty() && (named(file) || file.canonicalize().is_ok_and(|target| named(&target)))
    }
}

/// What became of the content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Accepted,
    /// A CRL waits for its issuer, or did.
    Waiting,
    Refused {
        label: &'static str,
        again: Again,
    },
    Malformed,
    Unread(String),
}

impl Standing {
    fn heals(&self, by: Again) -> bool {
        match self {
            // It may turn out not to be its issuer's, and with another bundle it may be again.
            Standing::Waiting => by == Again::WithBundle,
            Standing::Refused { again, .. } => by == *again,
            Standing::Accepted | Standing::Malformed | Standing::Unread(_) => false,
        }
    }
}

/// What is remembered of a file.
#[derive(Debug)]
struct Record {
    stamp: Option<Stamp>,
    digest: Sha256,
    /// It was read twice and was the same.
    settled: bool,
    /// To be tried again with the bundle that is new.
    retry: bool,
    standing: Standing,
}

/// One path of the flag.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    records: BTreeMap<PathBuf, Record>,
    /// Something was accepted from it; before, "nothing is revoked" would be a guess.
    yielded: bool,
    failure: Option<Unread>,
}

/// A file to be read.
#[derive(Debug)]
pub(crate) struct Due {
    source: usize,
    file: PathBuf,
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
    /// This path cannot be read, and could before.
    Failed(Failure),
    /// This file is gone; what it said stays in force.
    Vanished(PathBuf),
}

/// What became of a file that was read.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Taken in, or known already.
    Accepted { accepted: Accepted, list: Option<String>, sequence: Option<u64>, entries: Option<usize> },
    /// Nothing of it can be read.
    Failed(Failure),
    /// It can be read, and was not taken in, or not all.
    Refused { failure: Failure, tolerable: bool, changed: bool },
    /// The same bytes in a new file.
    Same,
    /// The same as told before.
    Silence,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Revocations {
    sources: Vec<Source>,
    library: Library,
    told: Option<Arc<Snapshot>>,
}

impl Revocations {
    /// Of these paths; nothing is read yet.
    pub(crate) fn new(paths: &[PathBuf]) -> Revocations {
        let source =
            |path: &PathBuf| Source { path: path.clone(), records: BTreeMap::new(), yielded: false, failure: None };
        Revocations { sources: paths.iter().map(source).collect(), library: Library::new(), told: None }
    }

    /// Which files are to be read, by name within each path.
    pub(crate) fn due(&mut self, wish: &Wish) -> (Vec<Due>, Vec<Found>) {
        let (mut due, mut found) = (Vec::new(), Vec::new());
        for (position, source) in self.sources.iter_mut().enumerate() {
            source.look(position, wish, (&mut due, &mut found));
        }
        (due, found)
    }

    /// Reads one file and takes in what it holds.
    pub(crate) fn take(&mut self, due: &Due, bundle: &Bundle, now: Time) -> Outcome {
        let Some(source) = self.sources.get_mut(due.source) else { return Outcome::Silence };
        let content = match read(&due.file, REVOCATIONS_LIMIT) {
            Ok(content) => content,
            // It vanished since it was listed: the next look tells.
            Err(Unread::Missing) => return Outcome::Silence,
            Err(why) => return source.unread(&due.file, &why),
        };
        let digest = content.digest();
        let stamp = Some(content.stamp.clone());
        if let Some(outcome) = source.recognise(due, (&stamp, digest)) {
            return outcome;
        }
        let named = Named { flag: FLAG, path: &due.file };
        let material = match revocation::read(content.bytes) {
            Ok(material) => material,
            Err(error) => {
                source.remember(due, (stamp, digest), Standing::Malformed);
                let ReadError { line, column, .. } = error;
                return Outcome::Failed(Failure { line, column, ..named.failure(error) });
            }
        };
        let (list, sequence, entries) = describe(&material);
        match self.library.accept(material, bundle, now) {
            Ok(accepted) => {
                source.yielded = true;
                let standing = source.standing_of(due, digest, &accepted);
                let repeated = source.remember(due, (stamp, digest), standing);
                if repeated && !accepted.changed() {
                    return Outcome::Silence;
                }
                Outcome::Accepted { accepted, list, sequence, entries }
            }
            Err(refused) => {
                source.yielded |= yields(&refused);
                let standing = Standing::Refused { label: refused.label(), again: again(&refused) };
                let changed = refused.changed();
                if source.remember(due, (stamp, digest), standing) && !changed {
                    return Outcome::Silence;
                }
                let tolerable = is_tolerable(&refused);
                Outcome::Refused { failure: named.failure(refused), tolerable, changed }
            }
        }
    }

    /// Forgets what became of a file that was refused, so that it is told again.
    pub(crate) fn forget(&mut self, due: &Due) {
        if let Some(source) = self.sources.get_mut(due.source) {
            source.records.remove(&due.file);
        }
    }

    /// An issuer became known. Returns why CRLs that had waited for it were refused.
    pub(crate) fn introduce(&mut self, der: &[u8], bundle: &Bundle, now: Time) -> Vec<Refused> {
        self.library.introduce(der, bundle, now);
        self.library.take_refusals()
    }

    /// The bundle is another one. Returns why CRLs that had waited were refused. Files that it may have healed are
    /// due again.
    pub(crate) fn rebase(&mut self, bundle: &Bundle) -> Vec<Refused> {
        self.library.rebase(bundle);
        for record in self.sources.iter_mut().flat_map(|source| source.records.values_mut()) {
            record.retry |= record.standing.heals(Again::WithBundle);
        }
        self.library.take_refusals()
    }

    /// What is known, if that is new since this was last asked. Nothing is, until every path yielded something.
    pub(crate) fn news(&mut self) -> Option<Knowledge> {
        if self.sources.iter().any(|source| !source.yielded) {
            return None;
        }
        let snapshot = self.library.snapshot()?;
        if self.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &snapshot)) {
            return None;
        }
        self.told = Some(Arc::clone(&snapshot));
        Some(Knowledge::Known(snapshot))
    }

    /// Paths that yielded nothing so far.
    pub(crate) fn silent(&self) -> impl Iterator<Item = Named<'_>> {
        let silent = self.sources.iter().filter(|source| !source.yielded);
        silent.map(|source| Named { flag: FLAG, path: &source.path })
    }
}

impl Source {
    fn look(&mut self, position: usize, wish: &Wish, (due, found): (&mut Vec<Due>, &mut Vec<Found>)) {
        let files = match list(&self.path) {
            Ok(files) => {
                self.failure = None;
                files
            }
            Err(why) => {
                // What vanished is told of by file, and is no failure.
                let vanished = why == Unread::Missing && !self.records.is_empty();
                if vanished {
                    self.vanish(|_| true, found);
                } else if self.failure.as_ref() != Some(&why) {
                    found.push(Found::Failed(Named { flag: FLAG, path: &self.path }.failure(&why)));
                }
                self.failure = Some(why);
                return;
            }
        };
        let present: HashSet<&PathBuf> = files.iter().collect();
        self.vanish(|file| !present.contains(file), found);
        for file in files {
            let stamp = Stamp::at(&file).ok();
            let wanted = match self.records.get(&file) {
                None => true,
                Some(record) => {
                    let again = record.standing.heals(Again::AtPoll);
                    stamp.is_none()
                        || record.stamp != stamp
                        || record.retry
                        || wish.everything
                        || (wish.poll && (!record.settled || again))
                        || wish.names(&file)
                }
            };
            if wanted {
                due.push(Due { source: position, file, size: stamp.map_or(0, |stamp| stamp.size) });
            }
        }
    }

    fn vanish(&mut self, gone: impl Fn(&PathBuf) -> bool, found: &mut Vec<Found>) {
        self.records.retain(|file, _| {
            let keep = !gone(file);
            if !keep {
                found.push(Found::Vanished(file.clone()));
            }
            keep
        });
    }

    /// A file that cannot be read; told once.
    fn unread(&mut self, file: &Path, why: &Unread) -> Outcome {
        let standing = Standing::Unread(why.to_string());
        let known = self.records.get(file).is_some_and(|record| record.standing == standing);
        let digest = Sha256([0; 32]);
        self.records.insert(file.to_owned(), Record { stamp: None, digest, settled: true, retry: false, standing });
        if known { Outcome::Silence } else { Outcome::Failed(Named { flag: FLAG, path: file }.failure(why)) }
    }

    /// What to say about content that was seen before; `None` if it is new, or to be tried again.
    fn recognise(&mut self, due: &Due, (stamp, digest): (&Option<Stamp>, Sha256)) -> Option<Outcome> {
        let record = self.records.get_mut(&due.file).filter(|record| record.digest == digest)?;
        let moved = record.stamp != *stamp;
        record.stamp.clone_from(stamp);
        record.settled = true;
        if std::mem::take(&mut record.retry) || record.standing.heals(Again::AtPoll) {
            return None;
        }
        let same = moved && matches!(record.standing, Standing::Accepted | Standing::Waiting);
        Some(if same { Outcome::Same } else { Outcome::Silence })
    }

    fn standing_of(&self, due: &Due, digest: Sha256, accepted: &Accepted) -> Standing {
        match accepted {
            Accepted::Waiting(_) => Standing::Waiting,
            Accepted::Changed(_) => Standing::Accepted,
            // A CRL that waits is "unchanged" when it is offered again.
            Accepted::Unchanged(_) => {
                let before = self.records.get(&due.file).filter(|record| record.digest == digest);
                let waits = before.is_some_and(|record| record.standing == Standing::Waiting);
                if waits { Standing::Waiting } else { Standing::Accepted }
            }
        }
    }

    /// Keeps what became of a file; true if the same became of the same content before.
    fn remember(&mut self, due: &Due, (stamp, digest): (Option<Stamp>, Sha256), standing: Standing) -> bool {
        let before = self.records.get(&due.file).filter(|record| record.digest == digest);
        let settled = before.is_some();
        let repeated = before.is_some_and(|record| record.standing == standing);
        self.records.insert(due.file.clone(), Record { stamp, digest, settled, retry: false, standing });
        repeated
    }
}

fn describe(material: &Material) -> (Option<String>, Option<u64>, Option<usize>) {
    match material {
        Material::List(list) => (Some(list.name.to_string()), Some(list.sequence), Some(list.selectors.len())),
        Material::Crls(_) => (Some("crl".to_owned()), None, None),
    }
}
