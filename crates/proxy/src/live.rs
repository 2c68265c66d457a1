//! The hot-swapped things: the trust state under its epoch, and our own certificate.
//!
//! `sources` publishes here; workers watch, and read one state per decision. On a failure to load nothing is
//! called here: the last good state stays.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use rustls::sign::CertifiedKey;
use tokio::sync::{mpsc, watch};
use trust::{Bundle, Knowledge, Policy, Stale, Time, TrustState};

use crate::clock::{Clock, monotonic};
use crate::preview::{self, Mailboxes, PATIENCE, Preview};
use crate::roster::{self, Doors, Ended, Order, Roster, Task, Wanted};

/// A trust state and the moment it became current.
#[derive(Debug)]
pub struct Published {
    /// The state.
    pub state: TrustState,
    /// When it was stored: where the stopwatch of every cut it causes begins.
    pub at: Instant,
    /// Whether any entry only observes: known here once, so that no session is looked through for nothing.
    pub(crate) observes: bool,
}

impl Published {
    fn new(state: TrustState) -> Published {
        let observes = state.snapshot().is_some_and(|snapshot| snapshot.observed_entries() > 0);
        Published { state, at: monotonic(), observes }
    }
}

/// An issuer that a verified path showed while CRLs wait for an issuer of its name: DER of its certificate.
#[derive(Debug)]
pub struct Introduction {
    /// The certificate.
    pub der: Vec<u8>,
}

/// Our own certificate chain and key, with the end of its validity.
#[derive(Debug)]
pub struct Credential {
    /// For rustls.
    pub key: Arc<CertifiedKey>,
    /// First moment of the leaf's validity.
    pub not_before: Time,
    /// Last moment of the leaf's validity.
    pub not_after: Time,
}

/// What is current now.
pub struct Live {
    published: ArcSwap<Published>,
    epoch: AtomicU64,
    credential: ArcSwap<Credential>,
    wake: watch::Sender<u64>,
    publishing: Mutex<()>,
    introductions: mpsc::Sender<Introduction>,
    mailboxes: Mailboxes,
    doors: Doors,
    clock: Clock,
}

impl Live {
    /// The first state, epoch 1. Introductions are sent to `introductions`, whose other end `sources` holds; a full
    /// channel drops them (the handshake's client is then denied as of unknown status and may try again).
    #[must_use]
    pub fn new(
        (bundle, knowledge, policy): (Arc<Bundle>, Knowledge, Arc<Policy>),
        credential: Credential,
        introductions: mpsc::Sender<Introduction>,
        clock: Clock,
    ) -> Arc<Live> {
        let state = TrustState { epoch: 1, bundle, knowledge, overlay: Arc::default(), policy };
        Arc::new(Live {
            published: ArcSwap::from_pointee(Published::new(state)),
            epoch: AtomicU64::new(1),
            credential: ArcSwap::from_pointee(credential),
            wake: watch::Sender::new(1),
            publishing: Mutex::new(()),
            introductions,
            mailboxes: Mailboxes::default(),
            doors: Doors::default(),
            clock,
        })
    }

    /// The state that is current now.
    pub fn current(&self) -> Guard<Arc<Published>> {
        self.published.load()
    }

    /// The epoch that is current now: one atomic load, the fast path of every request.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Makes a changed state current: stores it under the next epoch, then wakes every worker to sweep. Returns the
    /// new epoch. Publishers queue; readers never wait.
    pub fn publish(&self, change: impl FnOnce(&mut TrustState)) -> u64 {
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.published.load().state.clone();
        change(&mut state);
        state.epoch = self.epoch().saturating_add(1);
        let epoch = state.epoch;
        // The state is stored before the epoch: whoever sees the new epoch sees the new state.
        let before = self.published.swap(Arc::new(Published::new(state)));
        self.epoch.store(epoch, Ordering::Release);
        self.wake.send_replace(epoch);
        // To free a list of 1,000,000 entries takes milliseconds: nobody waits for it, or passes under the old epoch.
        drop(before);
        epoch
    }

    /// Whom [`Live::publish`] of the same change would cut, now. Nothing is published and no session is touched; each
    /// worker looks through its sessions between its other work, and is waited for five seconds. Previews queue.
    /// Needs a runtime of tokio with time.
    pub async fn preview(&self, change: impl FnOnce(&mut TrustState)) -> Preview {
        let changed = || {
            let mut state = self.published.load().state.clone();
            change(&mut state);
            state
        };
        self.mailboxes.ask(changed, PATIENCE).await
    }

    /// The sessions that are meant, a few at a time, worker by worker. Nothing is asked before the first is wanted.
    #[must_use]
    pub fn sessions(&self, wanted: Wanted) -> Roster {
        self.doors.roster(wanted)
    }

    /// Cuts the sessions that are meant, for [`trust::Denial::Ended`], and tells who they were. Whoever comes in
    /// meanwhile may be met or not, and may come back at once: only a denial keeps a client out. Needs a runtime of
    /// tokio with time.
    pub async fn end(&self, wanted: Wanted, order: Order) -> Ended {
        self.doors.carry_out(wanted, Task::End(Arc::new(order), monotonic())).await
    }

    /// Whom [`Live::end`] would meet, now.
    pub async fn would_end(&self, wanted: Wanted) -> Ended {
        self.doors.carry_out(wanted, Task::Name).await
    }

    /// A worker's mailboxes: for previews, and for operators' questions about its sessions.
    pub(crate) fn mailboxes(&self) -> (preview::Mailbox, roster::Mailbox) {
        (self.mailboxes.open(), self.doors.open())
    }

    /// Whether something in force is past its expiry, and serves only because of `--stale`.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let published = self.published.load();
        let (snapshot, policy) = (published.state.snapshot(), &published.state.policy);
        policy.stale != Stale::Deny && snapshot.is_some_and(|snapshot| snapshot.is_stale(policy, self.now()))
    }

    /// Wakes every worker to look at the time again.
    pub fn nudge(&self) {
        self.wake.send_modify(|_| ());
    }

    /// A receiver that changes with each publish and nudge.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    /// Our certificate for handshakes from now on; sessions keep what they have.
    pub fn renew(&self, credential: Credential) {
        self.credential.store(Arc::new(credential));
    }

    /// Our certificate.
    pub fn credential(&self) -> Guard<Arc<Credential>> {
        self.credential.load()
    }

    /// Tells `sources` about an issuer; `false` if its queue is full or closed.
    pub fn introduce(&self, der: &[u8]) -> bool {
        self.introductions.try_send(Introduction { der: der.to_vec() }).is_ok()
    }
}
