//! The decision: may this session act at this moment?
//!
//! Called by `proxy` (every handshake, every request, every publish) and by `revocation`, which makes the
//! [`List`]s and [`Crl`]s that a [`Snapshot`] unites.
//!
//! Invariants, by what is absent: nothing here reads a clock, a file, a socket or the environment; nothing
//! awaits, logs, counts or panics; no answer depends on the order of a hash map. Time is always an argument.

mod bundle;
mod certificate;
mod chain;
mod delta;
mod denial;
mod digest;
mod ends;
mod identity;
mod judge;
mod key_set;
mod name;
mod overlay;
mod policy;
mod session;
mod signatures;
mod snapshot;
mod state;
mod terms;
mod time;
mod twin;

pub use bundle::{Anchor, Bundle, BundleError, Speaks};
pub use certificate::{Certificate, Malformed};
pub use chain::{Chain, Flaw, Link, MAX_CHAIN_LENGTH, verify};
pub use delta::Delta;
pub use denial::{DENIAL_LABELS, Denial, Place};
pub use digest::{Sha256, serial_key, trimmed_serial};
pub use ends::{Limit, ends, first_end, planned_end};
pub use identity::{Identity, IdentityError, IdentityPattern, SpiffeId};
pub use judge::{Memo, Permit, judge, observe, preview};
pub use key_set::KeySet;
pub use overlay::{OVERLAY, Overlay};
pub use policy::{Allow, CrlCoverage, Policy, Stale};
pub use session::Session;
pub use snapshot::{Crl, CrlForm, CrlScope, List, Mode, Snapshot};
pub use state::{Knowledge, TrustState};
pub use terms::{REASONS, Reason, Selector, Selectors, Terms};
pub use time::Time;
