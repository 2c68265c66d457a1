//! What a file must meet before it is believed.
//!
//! Set once by whoever reads: `portcullis run` from its flags, the commands on files from theirs. It must never depend
//! on what the file says.

use std::sync::Arc;

use trust::Stale;

use crate::Keys;

/// The largest file by default: over thirty million entries in the binary form, four million as lines.
pub const DEFAULT_MAX_BYTES: u64 = 512 << 20;

/// Requirements on one file.
#[derive(Clone, Debug)]
pub struct Requirements {
    /// Whose signatures lists and compiled lists need; without, none. CRLs have their issuer's in any case.
    pub keys: Option<Arc<Keys>>,
    /// The scope that a list's header must name.
    pub scope: Option<String>,
    /// No file is larger.
    pub max_bytes: u64,
    /// A list past its expiry is accepted as long as it may serve; CRLs always are.
    pub stale: Stale,
}

impl Default for Requirements {
    fn default() -> Requirements {
        Requirements { keys: None, scope: None, max_bytes: DEFAULT_MAX_BYTES, stale: Stale::Deny }
    }
}
