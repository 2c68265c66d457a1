//! A session: the verified facts about one client since its handshake.
//!
//! Made by `proxy::handshake`, judged by [`crate::judge`]. It stays in the worker that made it (hence `Cell`).

use std::cell::Cell;

use rustls_pki_types::CertificateDer;

use crate::{Chain, Memo, Time};

/// One authenticated connection's facts.
#[derive(Debug)]
pub struct Session {
    /// The path that verified.
    pub chain: Chain,
    /// What the client presented, leaf first: for headers, and to find another path when an anchor goes.
    pub presented: Box<[CertificateDer<'static>]>,
    /// When the handshake was done.
    pub opened_at: Time,
    /// Since when no request is open; `None` while one is.
    idle_since: Cell<Option<Time>>,
    /// The last permit's range; see [`Memo`].
    pub(crate) memo: Cell<Memo>,
}

impl Session {
    /// A session that begins at `opened_at`, idle.
    #[must_use]
    pub fn new(chain: Chain, presented: Box<[CertificateDer<'static>]>, opened_at: Time) -> Session {
        let idle_since = Cell::new(Some(opened_at));
        Session { chain, presented, opened_at, idle_since, memo: Cell::new(Memo::NONE) }
    }

    /// The same session over another path.
    #[must_use]
    pub fn over(&self, chain: Chain) -> Session {
        Session {
            chain,
            presented: self.presented.clone(),
            opened_at: self.opened_at,
            idle_since: self.idle_since.clone(),
            memo: Cell::new(Memo::NONE),
        }
    }

    /// Since when no request is open.
    #[must_use]
    pub fn idle_since(&self) -> Option<Time> {
        self.idle_since.get()
    }

    /// A request is open: the session is not idle.
    pub fn busy(&self) {
        self.idle_since.set(None);
    }

    /// The last open request ended.
    pub fn idle(&self, now: Time) {
        self.idle_since.set(Some(now));
        self.memo.set(self.memo.get().idle_from(now));
    }
}
