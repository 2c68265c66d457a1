//! Where trust comes from: files, read and checked, then published.
//!
//! `portcullis` calls [`load`] once at start (and for `check`), then [`watch`] for as long as it runs; `control` asks
//! at the [`Desk`]. What is good goes to [`proxy::Live`]; what is bad leaves the last good state in force, with one
//! error line and a counter.
//!
//! Invariants: files are read on a thread of their own, never on a worker; nothing half-read is published; what was
//! once in force is not taken back because a file vanished, nor because the process was restarted. It must never judge
//! a session.

mod anchors;
mod bell;
mod clerk;
mod control_anchors;
mod credential;
mod denials;
mod desk;
mod desk_error;
mod file;
mod held;
mod holdings;
mod inventory;
mod keeper;
mod kept;
mod keys;
mod knowledge;
mod load;
mod offer;
mod pem;
mod records;
mod refusal;
mod refusals;
mod remembered;
mod report;
mod report_desk;
mod restored;
mod revocations;
mod server_credential;
mod source;
mod state_dir;
mod told;
mod trail;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use trust::{Bundle, Knowledge, Speaks};

pub use control_anchors::ControlAnchors;
pub use desk::Desk;
pub use desk_error::DeskError;
pub use keys::read_keys;
pub use load::load;
pub use records::{
    CrlRecord, DenialRecord, Entry, Floor, FloorReset, HeldRecord, ListRecord, NewDenial, Preview, PreviewedIdentity,
    Push, Pushed, RefusalRecord, RequirementsRecord, State, StateDirRecord, Taken,
};
pub use revocation::{Requirements, show};
pub use server_credential::ServerCredential;
pub use watch::{Baseline, Watching, watch};

/// Where our own certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialPaths {
    /// `--cert` and `--key`.
    CertAndKey {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// `--credential-bundle`: both in one file.
    Bundle(PathBuf),
}

/// Every path that trust comes from.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Our own certificate.
    pub credential: CredentialPaths,
    /// `--client-ca`: files or folders of anchors, and for whom they speak.
    pub client_cas: Vec<(Speaks, PathBuf)>,
    /// `--revocations`: files or folders of lists and CRLs.
    pub revocations: Vec<PathBuf>,
    /// `--no-revocations`.
    pub no_revocations: bool,
    /// `--state-dir`: where accepted knowledge is kept over a restart.
    pub state_dir: Option<PathBuf>,
    /// `--revocation-key`, `--revocation-threshold`, `--revocation-scope` and `--revocation-max-bytes`.
    pub requirements: Requirements,
    /// `--max-cut-fraction`: knowledge that would cut a larger share of the live sessions is held.
    pub max_cut_fraction: Option<f64>,
    /// `--max-denial-ttl`.
    pub max_denial_ttl: Duration,
}

/// How long a denial may live if nothing else is said: a day, within which a list can be published.
pub const DEFAULT_MAX_DENIAL_TTL: Duration = Duration::from_secs(24 * 3600);

/// Why the first load failed: one sentence with the flag, the file and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure(pub String);

impl std::fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadFailure {}

/// What the first load found.
#[derive(Debug)]
pub struct Loaded {
    /// The anchors.
    pub bundle: Arc<Bundle>,
    /// What is known about revocations.
    pub knowledge: Knowledge,
    /// Our own certificate.
    pub credential: proxy::Credential,
    /// What was read, for [`watch`] to go on from.
    pub library: Baseline,
    /// Sentences about what works, and deserves a look.
    pub warnings: Vec<String>,
}
