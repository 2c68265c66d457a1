//! A projected volume as kubelet lays it out: every name is a link through `..data`, which one rename moves.
//! Called by tests of files. It must never write into a generation that is visible.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

pub(crate) struct Volume {
    folder: PathBuf,
    generation: u32,
}

impl Volume {
    /// An empty volume at this path.
    pub(crate) fn at(folder: impl AsRef<Path>) -> Volume {
        fs::create_dir(&folder).unwrap();
        Volume { folder: folder.as_ref().to_owned(), generation: 0 }
    }

    /// Makes exactly these files visible at once, and removes those from before.
    pub(crate) fn put(&mut self, files: &[(&str, String)]) {
        let old = self.folder.join(format!("..generation_{}", self.generation));
        self.generation += 1;
        let name = format!("..generation_{}", self.generation);
        fs::create_dir(self.folder.join(&name)).unwrap();
        for (file, text) in files {
            fs::write(self.folder.join(&name).join(file), text).unwrap();
        }
        symlink(&name, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        for (file, _) in files {
            let link = self.folder.join(file);
            if !link.is_symlink() {
                symlink(format!("..data/{file}"), link).unwrap();
            }
        }
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }
}
