//! The sweep: a worker looks at its sessions and ends those whose trust ended.
//!
//! Part of `worker.rs`, which starts it; woken by a publish, by the earliest end of any session, and by its own beat.
//! `gate.rs`, `http1.rs` and `http2.rs` ask the same questions about one session, wherever a byte of it would pass, so
//! that none waits for the sweep to come by. It must never keep the worker from its other tasks for long.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::yield_now;
use trust::{Denial, Time};

use crate::bounds::Bound;
use crate::clock::monotonic;
use crate::connection::{Connection, End};
use crate::drain::see_off;
use crate::observe::observe_all;
use crate::worker::Worker;

/// The longest that the sweep keeps a worker from its other tasks: some 500 sessions at 0.3 to 1 µs each, or the one
/// or two whose anchor left the bundle, whose certificates are verified again. No byte of a session that waits for its
/// turn passes meanwhile (`gate.rs`).
pub(crate) const SLICE: Duration = Duration::from_micros(500);
/// The longest sleep of the sweep: how late a jump of the wall clock is noticed, and the beat of a worker's heart.
const BEAT: Duration = Duration::from_secs(1);

/// The shortest: below it a worker would do nothing but look for sessions to park.
const PARK_BEAT: Duration = Duration::from_millis(10);

impl Worker {
    /// Whether a session is trusted now: an epoch and a time compared, or else judged, and cut if it is denied. Asked
    /// before hyper or h2 get their turn with it.
    pub(crate) fn is_trusted(&self, connection: &Rc<Connection>) -> bool {
        connection.still_holds(&self.live) || self.is_permitted(connection)
    }

    /// The same without a look at the clock, for every byte within such a turn: whether anything was published since.
    pub(crate) fn is_current(&self, connection: &Rc<Connection>) -> bool {
        connection.is_judged_under(self.live.epoch()) || self.is_permitted(connection)
    }

    fn is_permitted(&self, connection: &Rc<Connection>) -> bool {
        let judged = self.look_at(connection);
        let is_cut = connection.cut_reason().is_some();
        if judged && is_cut {
            connection.signal.notify_waiters();
        }
        !is_cut
    }

    /// Ends a session, once.
    pub(crate) fn cut(&self, connection: &Connection, denial: Denial) {
        self.mark(connection, denial);
        connection.signal.notify_waiters();
    }

    fn mark(&self, connection: &Connection, denial: Denial) {
        if connection.cut_reason().is_none() {
            self.metrics.cut(&denial);
            connection.cut(denial, self.trust_ended(connection));
        }
    }

    /// When the trust of a session that is denied now ended: by a publish since it was judged last, or else by a
    /// deadline that passed since. Of one that was denied at its beginning, then: no byte of it passed before.
    fn trust_ended(&self, connection: &Connection) -> Instant {
        let published = self.live.current();
        let (epoch, until) = connection.judged();
        let ended = if epoch == published.state.epoch {
            monotonic().checked_sub(self.live.now().since(until)).unwrap_or(published.at)
        } else {
            published.at
        };
        ended.max(connection.opened)
    }

    pub(crate) fn wake_for(&self, until: Time) {
        if until < self.wake_at.get() {
            self.wake_at.set(until);
            self.sooner.notify_one();
        }
    }

    pub(crate) async fn sweep_for_ever(self: Rc<Worker>, mut changes: watch::Receiver<u64>) {
        let (mut tidied, mut rest) = (monotonic(), BEAT);
        loop {
            self.vitals.beats.fetch_add(1, Ordering::Relaxed);
            changes.mark_unchanged();
            self.sweep().await;
            observe_all(&self).await;
            if tidied.elapsed() >= rest {
                tidied = monotonic();
                rest = if self.tidy().await { self.limits.park_after.clamp(PARK_BEAT, BEAT) } else { BEAT };
            }
            let wait = self.wake_at.get().since(self.live.now()).min(rest);
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                () = self.sooner.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Judges every session that the current state or time could have ended, and cuts those it did. Sessions that
    /// come in meanwhile are judged as they come.
    async fn sweep(&self) {
        self.wake_at.set(Time::NEVER);
        let (mut key, mut began) = (0, monotonic());
        while let Some(connection) = self.connection_from(&mut key) {
            if self.look_at(&connection) && connection.cut_reason().is_some() {
                self.parting.push(&connection);
            }
            drop(connection);
            rest_after(&mut began).await;
        }
    }

    /// The first session in the list from this key on; the key goes on behind it.
    pub(crate) fn connection_from(&self, key: &mut usize) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let bound = connections.capacity();
        while *key < bound && !connections.contains(*key) {
            *key += 1;
        }
        let found = connections.get(*key).cloned();
        *key += 1;
        found
    }

    /// Judges one session if need be; whether there was.
    fn look_at(&self, connection: &Rc<Connection>) -> bool {
        if connection.cut_reason().is_some() {
            return false;
        }
        let holds = connection.still_holds(&self.live);
        if !holds && let Err(denial) = connection.review(&self.live.current(), self.live.now()) {
            self.mark(connection, denial);
            return true;
        }
        let end = connection.judged().1.min(see_off(self, connection));
        self.wake_at.set(self.wake_at.get().min(end));
        !holds
    }

    /// Lets quiet sessions park or time out, and idle connections to the apps go; whether any session may have to
    /// be looked at again soon.
    async fn tidy(&self) -> bool {
        for app in self.doors.iter().flat_map(|doors| &doors.apps) {
            app.tidy();
        }
        let (mut restless, mut key, mut began) = (false, 0, monotonic());
        while let Some(connection) = self.connection_from(&mut key) {
            rest_after(&mut began).await;
            if connection.is_parked() {
                continue;
            }
            restless = true;
            self.end_if_stuck(&connection);
            let quiet = connection.quiet_since().is_some_and(|since| since.elapsed() >= self.limits.park_after);
            // A session that speaks HTTP/2 is never parked, and its frames tell how long a head has been under way.
            match connection.frames() {
                None if quiet => connection.signal.notify_waiters(),
                Some(_) if quiet => connection.slim(),
                None | Some(_) => {}
            }
        }
        restless
    }

    /// Ends a session whose client takes nothing, or does not bring to an end what it began.
    fn end_if_stuck(&self, connection: &Connection) {
        let bound = if connection.stuck_for() >= self.limits.body {
            Bound::BodyTimeout
        } else if connection.frames().is_some_and(|frames| frames.is_stuck_for(self.limits.request_head)) {
            Bound::RequestHeadTimeout
        } else {
            return;
        };
        if !connection.gate.is_shut() {
            self.limited_session(bound, connection);
            connection.end(End::Timeout);
            connection.gate.shut();
            connection.signal.notify_waiters();
        }
    }
}

/// Lets the worker's other tasks have their turn, once a slice is over.
async fn rest_after(began: &mut Instant) {
    if began.elapsed() >= SLICE {
        yield_now().await;
        *began = monotonic();
    }
}
