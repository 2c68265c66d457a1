//! Material on offer: read, described, not taken in yet.
//!
//! Made by `revocations.rs` of a file and by `desk.rs` of what is pushed; taken in by `holdings.rs`. It must never
//! decide: whether the material is in force is `revocation`'s to say.

use std::path::PathBuf;
use std::sync::Arc;

use revocation::{Material, ReadError, ReadList, Requirements};
use trust::{Mode, Sha256};

use crate::desk_error::DeskError;

/// What a list says of itself; nothing for CRLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// The list's name.
    pub(crate) list: Option<String>,
    /// The list's mode.
    pub(crate) mode: Option<Mode>,
    /// The list's number.
    pub(crate) sequence: Option<u64>,
    /// The list's entries, those that only observe included.
    pub(crate) entries: Option<usize>,
    /// A signed header confirms that it may cut more than a fraction.
    pub(crate) confirms: bool,
}

impl About {
    /// For sentences: `list prod, sequence 12`.
    pub(crate) fn what(&self) -> String {
        match (&self.list, self.sequence) {
            (Some(list), Some(sequence)) => format!("list {list}, sequence {sequence}"),
            _ => "CRL".to_owned(),
        }
    }
}

/// Material and where it comes from.
#[derive(Debug)]
pub(crate) struct Offer {
    /// As read.
    pub(crate) material: Material,
    /// What it says of itself.
    pub(crate) about: About,
    /// Of all its bytes.
    pub(crate) digest: Sha256,
    /// All of them, if somebody may need them again.
    pub(crate) bytes: Option<Arc<[u8]>>,
    /// The path of `--revocations`, if it comes from one.
    pub(crate) path: Option<PathBuf>,
    /// The file, or who pushed it; for people.
    pub(crate) from: String,
}

impl Offer {
    /// Reads `bytes`; `keep` says whether they are kept beside what is made of them. Their digest is taken if it is
    /// not `known`.
    pub(crate) fn read(
        bytes: Vec<u8>,
        requirements: &Requirements,
        keep: bool,
        known: Option<Sha256>,
    ) -> Result<Offer, ReadError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        // What is too large is refused by `read_under`; it need not be copied first.
        let kept = (keep && size <= requirements.max_bytes).then(|| Arc::<[u8]>::from(bytes.as_slice()));
        let digest = known.unwrap_or_else(|| Sha256::of(&bytes));
        let material = revocation::read_under(bytes, requirements)?;
        let about = describe(&material);
        Ok(Offer { material, about, digest, bytes: kept, path: None, from: String::new() })
    }
}

/// What material says of itself.
fn describe(material: &Material) -> About {
    match material {
        Material::List(ReadList { list, provenance }) => About {
            list: Some(list.name.to_string()),
            mode: Some(list.mode),
            sequence: Some(list.sequence),
            entries: Some(list.selectors.len().saturating_add(list.observed.len())),
            confirms: provenance.confirms,
        },
        Material::Crls(_) => About::default(),
    }
}

/// The word for a mode.
pub(crate) fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

/// For the desk, where no flag and no path is named.
pub(crate) fn unreadable(error: ReadError) -> DeskError {
    DeskError::Unreadable { label: error.label(), line: error.line, column: error.column, sentence: error.to_string() }
}
