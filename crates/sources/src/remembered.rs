//! What is remembered of certificate files: our own, and the anchors'.
//!
//! Filled by `load.rs`, asked by `watch.rs` at each look. It must never open a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trust::{Sha256, Time};

use crate::bell::Heard;
use crate::file::{Failure, Stamp};
use crate::trail::Trail;

/// A file written less than this ago may be written still, and a part of a PEM file is PEM as whole as all of it:
/// it is taken in once its writer is heard to close it, or was silent for half a poll.
const SETTLES: Duration = Duration::from_secs(5);

/// Files that are loaded together, as they were when they were last looked at.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// Of the content in force.
    pub(crate) good: Sha256,
    stamps: Vec<Stamp>,
    /// The failure told last, with its content's digest.
    failure: Option<(Sha256, Failure)>,
    /// Files that came there whole, or whose writer was heard to close them, as they were then.
    closed: BTreeMap<PathBuf, Stamp>,
}

impl Remembered {
    pub(crate) fn new(good: Sha256, stamps: Vec<Stamp>) -> Remembered {
        Remembered { good, stamps, failure: None, closed: BTreeMap::new() }
    }

    /// Whether this failure was not told yet.
    pub(crate) fn is_news(&mut self, digest: Sha256, failure: &Failure) -> bool {
        let failure = Some((digest, failure.clone()));
        let news = self.failure != failure;
        self.failure = failure;
        news
    }

    /// The content in force was read again; whether from another file.
    pub(crate) fn same(&mut self, stamps: Vec<Stamp>) -> bool {
        self.failure = None;
        let moved = self.stamps != stamps;
        self.stamps = stamps;
        moved
    }

    /// What happened to files at or in these paths: each that is told of is whole as it is now. Kept until it is
    /// read, which another file that is bad may delay.
    pub(crate) fn hear(&mut self, paths: &[&Path], heard: &Heard) {
        let mut trail = Trail::default();
        paths.iter().for_each(|path| trail.follow(path));
        self.closed.retain(|file, stamp| Stamp::at(file).is_ok_and(|now| now == *stamp));
        for path in heard.paths.iter().filter(|path| trail.concerns(path)) {
            self.closed.extend(Stamp::at(path).ok().map(|stamp| (path.clone(), stamp)));
        }
    }

    /// Whether one of these files may be written still.
    pub(crate) fn may_be_half(&mut self, (files, stamps): (&[&Path], &[Stamp]), heard: &Heard, now: Time) -> bool {
        let mut half = false;
        for (file, stamp) in files.iter().zip(stamps) {
            let known = self.stamps.contains(stamp) || self.closed.get(*file) == Some(stamp);
            if known || heard.tells_of(file) {
                self.closed.insert(file.to_path_buf(), stamp.clone());
            } else {
                half |= now < stamp.modified().plus(SETTLES);
            }
        }
        half
    }
}
