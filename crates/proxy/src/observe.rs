//! Observe before enforce: who would be denied by an entry that only observes, told once.
//!
//! Called by `worker.rs` about sessions that were just permitted, never by a request: once for each session and
//! epoch. It must never end anything.

use std::cell::{Cell, RefCell};

use tokio::task::yield_now;
use trust::Denial;

use crate::audit;
use crate::clock::monotonic;
use crate::connection::Connection;
use crate::sweep::SLICE;
use crate::worker::Worker;

/// What was last observed of one session.
#[derive(Default)]
pub(crate) struct Observation {
    epoch: Cell<u64>,
    told: RefCell<Option<Box<Denial>>>,
}

impl Observation {
    /// Whether `found` is news: somebody would be denied who would not, or by another entry.
    fn is_news(&self, found: Option<&Denial>) -> bool {
        let mut told = self.told.borrow_mut();
        if told.as_deref() == found {
            return false;
        }
        *told = found.cloned().map(Box::new);
        found.is_some()
    }
}

/// How far a worker has come with its observations.
#[derive(Default)]
pub(crate) struct Observations {
    /// The epoch under which every session was looked at.
    complete: Cell<u64>,
    /// Some session was told of: if nothing observes any more, that has to be forgotten.
    any: Cell<bool>,
}

/// Looks for an entry that would deny the session under the epoch that it was permitted under, unless that was done.
pub(crate) fn observe(worker: &Worker, connection: &Connection) {
    let observation = &connection.observation;
    let (epoch, _) = connection.judged();
    if observation.epoch.get() == epoch || connection.cut_reason().is_some() {
        return;
    }
    let published = worker.live.current();
    if published.state.epoch != epoch {
        // Published meanwhile: the sweep comes by, permits it again or cuts it.
        return;
    }
    observation.epoch.set(epoch);
    let look = || trust::observe(&connection.session(), &published.state, worker.live.now());
    let found = if published.observes { look() } else { None };
    if observation.is_news(found.as_ref())
        && let Some(denial) = found
    {
        worker.observations.any.set(true);
        worker.metrics.observed(&denial);
        audit::would_deny(connection, &denial, &worker.live);
    }
}

/// Looks at every session once for each epoch, after the sweep: who is to be cut does not wait for this, and a
/// publish ends it.
pub(crate) async fn observe_all(worker: &Worker) {
    let (epoch, observes) = {
        let published = worker.live.current();
        (published.state.epoch, published.observes)
    };
    let done = &worker.observations;
    if done.complete.get() == epoch {
        return;
    }
    let (mut key, mut began) = (0, monotonic());
    while (observes || done.any.get())
        && let Some(connection) = worker.connection_from(&mut key)
    {
        if worker.live.epoch() != epoch {
            return;
        }
        observe(worker, &connection);
        if began.elapsed() >= SLICE {
            yield_now().await;
            began = monotonic();
        }
    }
    if !observes {
        done.any.set(false);
    }
    done.complete.set(epoch);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trust::{Place, Selector};

    use super::*;

    #[test]
    fn the_same_entry_is_news_once_and_again_after_it_was_gone() {
        let by = |selector| Denial::Revoked { selector, place: Place::Leaf, reason: None, list: Arc::from("watch") };
        let (id, serial) = (by(Selector::Id), by(Selector::Serial));
        let observation = Observation::default();
        let told = [None, Some(&id), Some(&id), Some(&serial), None, None, Some(&serial), Some(&id)];
        let news = told.map(|found| observation.is_news(found));
        assert_eq!(news, [false, true, false, true, false, false, true, true]);
    }
}
