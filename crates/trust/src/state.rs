//! Everything trust depends on, published together under one epoch.
//!
//! Made by `proxy::live` for each publish; immutable, so that a request sees one state and never a mixture.

use std::sync::Arc;

use crate::{Bundle, Overlay, Policy, Snapshot};

/// What is known about revocations.
#[derive(Clone, Debug)]
pub enum Knowledge {
    /// Nothing, as the operator decided (`--no-revocations`).
    NotWanted,
    /// Nothing yet: everybody is denied.
    Missing,
    /// This.
    Known(Arc<Snapshot>),
}

/// Bundle, knowledge, overlay and policy at one moment.
#[derive(Clone, Debug)]
pub struct TrustState {
    /// Grows with each publish; never 0, so that a fresh memo fits no state.
    pub epoch: u64,
    /// The anchors.
    pub bundle: Arc<Bundle>,
    /// The revocations.
    pub knowledge: Knowledge,
    /// Denials on top of it.
    pub overlay: Arc<Overlay>,
    /// The operator's decisions.
    pub policy: Arc<Policy>,
}

impl TrustState {
    /// The snapshot, if there is one.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        match &self.knowledge {
            Knowledge::Known(snapshot) => Some(snapshot),
            Knowledge::NotWanted | Knowledge::Missing => None,
        }
    }
}
