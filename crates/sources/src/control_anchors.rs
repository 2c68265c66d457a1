//! The anchors of `--control-ca`: who vouches for operators.
//!
//! Read once at start by `portcullis`, looked at again by `control` while it runs. It must never let a file that
//! cannot be read take an anchor away.

use std::path::PathBuf;
use std::sync::Arc;

use trust::{Bundle, Sha256, Speaks, Time};

use crate::LoadFailure;
use crate::anchors::AnchorFiles;
use crate::told::Told;

const FLAG: &str = "--control-ca";

/// Where they are, and what was found there last.
#[derive(Debug)]
pub struct ControlAnchors {
    paths: [(Speaks, PathBuf); 1],
    bundle: Arc<Bundle>,
    /// Of the bytes that were looked at last, good or bad.
    seen: Sha256,
    told: Told,
}

impl ControlAnchors {
    /// Reads a PEM file or a folder of them; with sentences about what works, and deserves a look.
    pub fn load(path: PathBuf, now: Time) -> Result<(ControlAnchors, Vec<String>), LoadFailure> {
        let paths = [(Speaks::ForAnybody, path)];
        let files = AnchorFiles::read_for(FLAG, &paths);
        let seen = files.digest();
        let (bundle, warnings) = files.build(now)?;
        Ok((ControlAnchors { paths, bundle: Arc::new(bundle), seen, told: Told::default() }, warnings))
    }

    /// The anchors that were good last.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.bundle)
    }

    /// Looks again: new anchors, or why what is there now cannot be used; each once.
    pub fn look(&mut self, now: Time) -> Option<Result<Arc<Bundle>, LoadFailure>> {
        let files = AnchorFiles::read_for(FLAG, &self.paths);
        let (digest, whole) = (files.digest(), files.is_whole());
        if whole && !self.told.is_failing() && digest == self.seen {
            return None;
        }
        match files.build(now) {
            Ok((bundle, _)) => {
                let is_news = self.told.healed() || digest != self.seen;
                self.seen = digest;
                self.bundle = Arc::new(bundle);
                is_news.then(|| Ok(self.bundle()))
            }
            Err(failure) => self.told.failed(failure).map(Err),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use testkit::Authority;

    use super::*;

    #[test]
    fn new_anchors_are_found_once_and_a_bad_file_leaves_the_last_good_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ops.pem");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let (one, two) = (Authority::root("one"), Authority::root("two"));
        let now = Time::from_seconds(time_now());
        write(&one.pem());
        let (mut anchors, _) = ControlAnchors::load(path.clone(), now).unwrap();
        assert!(anchors.look(now).is_none());
        write(&format!("{}{}", one.pem(), two.pem()));
        assert_eq!(anchors.look(now).unwrap().unwrap().len(), 2);
        assert!(anchors.look(now).is_none());
        write("");
        assert!(anchors.look(now).unwrap().unwrap_err().0.starts_with("--control-ca "));
        assert!(anchors.look(now).is_none(), "told once");
        assert_eq!(anchors.bundle().len(), 2);
        write(&two.pem());
        assert_eq!(anchors.look(now).unwrap().unwrap().len(), 1);
        std::fs::remove_file(&path).unwrap();
        assert!(anchors.look(now).unwrap().is_err());
    }

    fn time_now() -> i64 {
        i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
    }
}
