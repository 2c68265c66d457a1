//! What all workers have in common to hand out: connections, connections of one identity, connections to the apps.
//!
//! Made by [`crate::start`], asked by `entrance.rs`, `handshake.rs` and `app.rs`. Whoever holds a share gives it back by
//! dropping it. It must never make anybody wait: there is a share, or there is none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::redirect::OwnDials;

/// The shares of all workers.
#[derive(Clone)]
pub(crate) struct Shares {
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) app_connections: Arc<Semaphore>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) own_dials: Arc<OwnDials>,
}

/// A share of the connections to the apps.
pub(crate) type AppShare = OwnedSemaphorePermit;

impl Shares {
    pub(crate) fn new(limits: &Limits) -> Shares {
        let semaphore = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Shares {
            connections: semaphore(limits.connections),
            app_connections: semaphore(limits.app_connections),
            identities: Arc::new(Identities { most: limits.connections_per_identity, open: Mutex::default() }),
            own_dials: Arc::default(),
        }
    }
}

/// How many connections each identity has open. Asked once for each handshake and each close, so one lock serves all.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    most: usize,
    open: Mutex<HashMap<Arc<str>, usize>>,
}

impl Identities {
    /// Whether one more connection of `identity` would be one too many. Asked before its key is proved, so nothing is
    /// counted yet: whoever shows somebody's certificate without having the key must not use up their connections.
    pub(crate) fn is_full(&self, identity: &str) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(identity).is_some_and(|count| *count >= self.most)
    }

    /// Counts one more connection, until the share is dropped; `None` if that would be one too many.
    pub(crate) fn enter(self: &Arc<Identities>, identity: &str) -> Option<IdentityShare> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One copy of the name for all its connections.
        let name = open.get_key_value(identity).map_or_else(|| Arc::from(identity), |(name, _)| Arc::clone(name));
        let count = open.entry(Arc::clone(&name)).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(IdentityShare { identities: Arc::clone(self), name })
    }
}

/// One open connection of an identity.
#[derive(Debug)]
pub(crate) struct IdentityShare {
    identities: Arc<Identities>,
    name: Arc<str>,
}

impl Drop for IdentityShare {
    fn drop(&mut self) {
        let mut open = self.identities.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.name) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_identity_has_its_share_and_no_more_and_nothing_is_kept_of_one_that_is_gone() {
        let identities = Shares::new(&Limits { connections_per_identity: 2, ..Limits::default() }).identities;
        let first = identities.enter("uri:spiffe://td/a").unwrap();
        assert!(!identities.is_full("uri:spiffe://td/a"));
        let second = identities.enter("uri:spiffe://td/a").unwrap();
        assert!(identities.is_full("uri:spiffe://td/a") && identities.enter("uri:spiffe://td/a").is_none());
        assert!(identities.enter("uri:spiffe://td/b").is_some(), "another's connections are its own");
        drop(first);
        assert!(identities.enter("uri:spiffe://td/a").is_some());
        drop(second);
        assert!(identities.open.lock().unwrap().is_empty());
    }
}
