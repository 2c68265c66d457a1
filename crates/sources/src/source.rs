//! One path of `--revocations`: its files, and what became of each.
//!
//! Part of `revocations.rs`. A file is read again only when it may have changed, and the same failure is told once. It
//! must never take anything in.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use revocation::Accepted;
use trust::Sha256;

use crate::file::{Named, Stamp, Unread, list};
use crate::refusal::Again;
use crate::revocations::{Due, FLAG, Found, Outcome, Seen, Wish};

/// The label of a file that cannot be opened or listed.
pub(crate) const UNREAD: &str = "unread";
/// The label of a file beyond the limit.
pub(crate) const TOO_LARGE: &str = "too_large";

/// What became of the content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Accepted,
    /// A CRL waits for its issuer, or did.
    Waiting,
    Refused {
        label: &'static str,
        again: Again,
    },
    Malformed,
    /// It waits to be confirmed.
    Held,
    Unread(String),
}

impl Standing {
    fn heals(&self, by: Again) -> bool {
        match self {
            // It may turn out not to be its issuer's, and with another bundle it may be again.
            Standing::Waiting => by == Again::WithBundle,
            Standing::Refused { again, .. } => by == *again,
            Standing::Accepted | Standing::Malformed | Standing::Held | Standing::Unread(_) => false,
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
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    records: BTreeMap<PathBuf, Record>,
    /// Something was accepted from it; before, "nothing is revoked" would be a guess.
    pub(crate) yielded: bool,
    failure: Option<Unread>,
}

impl Source {
    /// Of which nothing was read yet.
    pub(crate) fn new(path: PathBuf) -> Source {
        Source { path, records: BTreeMap::new(), yielded: false, failure: None }
    }

    /// Forgets what became of a file.
    pub(crate) fn forget(&mut self, file: &Path) {
        self.records.remove(file);
    }

    /// What this may have healed is to be tried again.
    pub(crate) fn retry(&mut self, healed: Again) {
        for record in self.records.values_mut() {
            record.retry |= record.standing.heals(healed);
        }
    }

    /// Which of its files are to be read, and what was found without reading.
    pub(crate) fn look(&mut self, position: usize, wish: &Wish, (due, found): (&mut Vec<Due>, &mut Vec<Found>)) {
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
                    let failure = Named { flag: FLAG, path: &self.path }.failure(&why);
                    found.push(Found::Failed(label_of(&why), failure));
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
    pub(crate) fn unread(&mut self, file: &Path, why: &Unread) -> Outcome {
        let standing = Standing::Unread(why.to_string());
        let known = self.records.get(file).is_some_and(|record| record.standing == standing);
        let digest = Sha256([0; 32]);
        self.records.insert(file.to_owned(), Record { stamp: None, digest, settled: true, retry: false, standing });
        if known {
            return Outcome::Silence;
        }
        let remedy = if label_of(why) == TOO_LARGE { ", or raise --revocation-max-bytes" } else { "" };
        Outcome::Failed(label_of(why), Named { flag: FLAG, path: file }.failure(format_args!("{why}{remedy}")))
    }

    /// What to say about content that was seen before; `None` if it is new, or to be tried again.
    pub(crate) fn recognise(&mut self, due: &Due, seen: &Seen) -> Option<Outcome> {
        let record = self.records.get_mut(&due.file).filter(|record| record.digest == seen.digest)?;
        let moved = record.stamp != seen.stamp;
        record.stamp.clone_from(&seen.stamp);
        record.settled = true;
        // What waits to be confirmed and is offered again is weighed again: fewer may be concerned, or it gave way to
        // something else that waits.
        let offered_again = moved && record.standing == Standing::Held;
        if std::mem::take(&mut record.retry) || record.standing.heals(Again::AtPoll) || offered_again {
            return None;
        }
        let same = moved && matches!(record.standing, Standing::Accepted | Standing::Waiting);
        Some(if same { Outcome::Same } else { Outcome::Silence })
    }

    /// What is remembered of a file whose content was accepted.
    pub(crate) fn standing_of(&self, due: &Due, digest: Sha256, accepted: &Accepted) -> Standing {
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
    pub(crate) fn remember(&mut self, due: &Due, Seen { stamp, digest }: Seen, standing: Standing) -> bool {
        let before = self.records.get(&due.file).filter(|record| record.digest == digest);
        let settled = before.is_some();
        let repeated = before.is_some_and(|record| record.standing == standing);
        self.records.insert(due.file.clone(), Record { stamp, digest, settled, retry: false, standing });
        repeated
    }
}

/// One fixed word for a file that cannot be read.
fn label_of(why: &Unread) -> &'static str {
    match why {
        Unread::TooLarge(_) => TOO_LARGE,
        Unread::Missing | Unread::Because(_) => UNREAD,
    }
}
