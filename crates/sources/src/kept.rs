//! What the folder of `--state-dir` holds: places, labels, and how they are read.
//!
//! Read by `restored.rs` before anything is written. One file holds one thing; its first line says what it is, with
//! length and digest of all that follows. It must never change the folder, and never believe what it reads: lists are
//! verified again by whoever asks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trust::Sha256;

use crate::LoadFailure;
use crate::file::{Stamp, Unread, list, read};

pub(crate) const FLAG: &str = "--state-dir";
/// The one format there is.
pub(crate) const FORMAT: &str = "state/v1";
/// Bytes of the first line: a path of the flag and a few words.
const MAX_LABEL: u64 = 64 << 10;
/// Bytes of what is no list and no CRL.
const MAX_OTHER: u64 = 16 << 20;
/// What is set aside is called so: the first letter is one that no list's name has.
pub(crate) const DAMAGED: &str = "~damaged";

/// Where a thing lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Drawer {
    /// Lists in force, by mode and name.
    Lists,
    /// CRLs in force, by issuer and scope.
    Crls,
    /// Everything else.
    Desk,
}

impl Drawer {
    pub(crate) const ALL: [Drawer; 3] = [Drawer::Lists, Drawer::Crls, Drawer::Desk];

    /// The name of its folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Drawer::Lists => "lists",
            Drawer::Crls => "crls",
            Drawer::Desk => "desk",
        }
    }
}

/// One thing's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Its folder.
    pub(crate) drawer: Drawer,
    /// Its file: letters, digits, `.`, `_` and `-`, never a dot first.
    pub(crate) name: String,
}

/// The first line of a file: what the rest is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    /// The format.
    pub(crate) portcullis: String,
    /// Of all that follows.
    pub(crate) sha256: String,
    /// Of all that follows.
    pub(crate) bytes: u64,
    /// A list's number, for people who look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<u64>,
    /// The set of keys under which it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_set: Option<String>,
    /// The path of `--revocations` that said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathBuf>,
    /// The operator took the floor away.
    #[serde(default)]
    pub(crate) floor_reset: bool,
}

/// One thing read.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Where.
    pub(crate) place: Place,
    /// What its first line says.
    pub(crate) label: Label,
    /// Of the rest.
    pub(crate) digest: Sha256,
    /// The rest.
    pub(crate) bytes: Vec<u8>,
}

/// A file that is not what was written.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) path: PathBuf,
    /// Flag, path, reason.
    pub(crate) sentence: String,
}

impl Damage {
    /// Of the file at a place.
    pub(crate) fn at(root: &Path, place: &Place, why: &str) -> Damage {
        let path = root.join(place.drawer.folder()).join(&place.name);
        let sentence = format!(
            "{FLAG} {}: {why}; it is set aside as {}{DAMAGED}, and what it held is not in force",
            path.display(),
            place.name
        );
        Damage { path, sentence }
    }
}

/// What the folder holds; nothing was changed by reading it.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// What is whole.
    pub(crate) kept: Vec<Kept>,
    /// What is not.
    pub(crate) damages: Vec<Damage>,
}

/// Reads all of it; a folder that does not exist holds nothing. A file that may be whole and cannot be read prevents the
/// start: what it denies would be let in, and the next of its name would be written over it.
pub(crate) fn contents(root: &Path, max_bytes: u64) -> Result<Contents, LoadFailure> {
    let mut contents = Contents::default();
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(failure(root, "is no folder; name a folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(contents),
        Err(error) => {
            return Err(failure(root, format_args!("cannot be read ({error}); let the proxy's user read it")));
        }
    }
    for drawer in Drawer::ALL {
        let folder = root.join(drawer.folder());
        let files = match list(&folder) {
            Ok(files) => files,
            Err(Unread::Missing) => continue,
            Err(why) => return Err(failure(&folder, why)),
        };
        let limit = if drawer == Drawer::Desk { MAX_OTHER } else { max_bytes };
        for file in files {
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(DAMAGED) {
                continue;
            }
            let place = Place { drawer, name: name.to_owned() };
            match open(&file, limit) {
                Ok((label, digest, bytes)) => contents.kept.push(Kept { place, label, digest, bytes }),
                Err(Flaw::Damaged(why)) => contents.damages.push(Damage::at(root, &place, &why)),
                // Another process, which `check` runs beside, needs it no longer.
                Err(Flaw::Unread(_)) if !file.exists() => {}
                Err(Flaw::Unread(why)) => return Err(failure(&file, unread(&why))),
            }
        }
    }
    Ok(contents)
}

fn unread(why: &str) -> String {
    format!("{why}; what it holds would be lost, so if it is not needed any more, move it away")
}

/// What lies in the folder now, by what a changed file is noticed.
pub(crate) fn stamps(root: &Path) -> Result<Vec<(PathBuf, Stamp)>, LoadFailure> {
    let mut stamps = Vec::new();
    for drawer in Drawer::ALL.into_iter().filter(|_| root.is_dir()) {
        let folder = root.join(drawer.folder());
        match list(&folder) {
            Ok(files) => {
                stamps.extend(files.into_iter().filter_map(|file| Some((file.clone(), Stamp::at(&file).ok()?))))
            }
            Err(Unread::Missing) => {}
            Err(why) => return Err(failure(&folder, why)),
        }
    }
    Ok(stamps)
}

/// A start failure about a path of the folder.
pub(crate) fn failure(path: &Path, why: impl std::fmt::Display) -> LoadFailure {
    LoadFailure(format!("{FLAG} {}: {why}", path.display()))
}

/// Why a file gives nothing.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// It is not what was written.
    Damaged(String),
    /// Nobody can tell.
    Unread(String),
}

/// Reads one file of at most `limit` bytes behind its first line.
pub(crate) fn open(file: &Path, limit: u64) -> Result<(Label, Sha256, Vec<u8>), Flaw> {
    let content = read(file, limit.saturating_add(MAX_LABEL)).map_err(|why| {
        let remedy = if matches!(why, Unread::TooLarge(_)) { "; raise --revocation-max-bytes" } else { "" };
        Flaw::Unread(format!("{why}{remedy}"))
    })?;
    let mut bytes = content.bytes;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| Flaw::Damaged("its first line has no end".to_owned()))?;
    let label: Label = serde_json::from_slice(bytes.get(..end).unwrap_or_default())
        .map_err(|error| Flaw::Damaged(format!("its first line is not what was written ({error})")))?;
    if label.portcullis != FORMAT {
        let why = format!(
            "its format {:?} is unknown, this program reads {FORMAT:?}; start the version that wrote it",
            label.portcullis
        );
        return Err(Flaw::Unread(why));
    }
    bytes.drain(..=end);
    let digest = Sha256::of(&bytes);
    if u64::try_from(bytes.len()) != Ok(label.bytes) || digest.to_string() != label.sha256 {
        return Err(Flaw::Damaged("its content is not what was written, the disk or somebody changed it".to_owned()));
    }
    Ok((label, digest, bytes))
}
