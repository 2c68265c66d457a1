//! The doorstep: a worker's handshakes under way, and who has to go when there are too many.
//!
//! Called by `entrance.rs`. Whoever waits silently goes first, the longest wait first: a thousand connections that say
//! nothing keep nobody out. It must never end a handshake while there is room.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::bounds::Bound;
use crate::worker::Vitals;

/// Set when a client's whole ClientHello was read; by rustls, which wants it to be `Sync`.
pub(crate) type Spoke = Arc<AtomicBool>;

/// Those whose handshake is under way, oldest first.
pub(crate) struct Doorstep {
    most: usize,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    last: Cell<u64>,
    /// Where others see how many there are.
    vitals: Arc<Vitals>,
}

struct Waiting {
    spoke: Spoke,
    /// Asks to go, and says for which limit.
    go: oneshot::Sender<Bound>,
}

/// One handshake's place, given back by dropping it.
pub(crate) struct Place {
    doorstep: Rc<Doorstep>,
    number: u64,
    pub(crate) spoke: Spoke,
    asked_to_go: oneshot::Receiver<Bound>,
}

impl Place {
    /// Returns when its place is needed for somebody else.
    pub(crate) async fn asked_to_go(&mut self) -> Bound {
        (&mut self.asked_to_go).await.unwrap_or(Bound::Handshakes)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.doorstep.waiting.borrow_mut().remove(&self.number);
        self.doorstep.tell();
    }
}

impl Doorstep {
    pub(crate) fn new(most: usize, vitals: Arc<Vitals>) -> Rc<Doorstep> {
        Rc::new(Doorstep { most: most.max(1), waiting: RefCell::default(), last: Cell::new(0), vitals })
    }

    fn tell(&self) {
        self.vitals.handshakes.store(self.waiting.borrow().len(), Ordering::Relaxed);
    }

    /// A place for one more. If there is none, the one that has been silent for longest goes, else the oldest.
    pub(crate) fn enter(self: &Rc<Doorstep>) -> Place {
        if self.waiting.borrow().len() >= self.most && !self.make_room(Bound::Handshakes) {
            // All have spoken, and each has cost us a signature: the one that got nowhere for longest.
            self.waiting.borrow_mut().pop_first();
        }
        let number = self.last.get() + 1;
        self.last.set(number);
        let (go, asked_to_go) = oneshot::channel();
        let spoke = Spoke::default();
        self.waiting.borrow_mut().insert(number, Waiting { spoke: spoke.clone(), go });
        self.tell();
        Place { doorstep: self.clone(), number, spoke, asked_to_go }
    }

    /// Asks the one that has been silent for longest to go, for the sake of this limit; whether there was one.
    pub(crate) fn make_room(&self, bound: Bound) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let silent = waiting.iter().find(|(_, one)| !one.spoke.load(Ordering::Relaxed)).map(|(number, _)| *number);
        // Told when its place is given back.
        silent.and_then(|number| waiting.remove(&number)).is_some_and(|one| one.go.send(bound).is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn gone(places: &mut [Place]) -> Vec<bool> {
        let empty = Err(oneshot::error::TryRecvError::Empty);
        places.iter_mut().map(|place| place.asked_to_go.try_recv() != empty).collect()
    }

    #[test]
    fn the_silent_go_first_the_longest_wait_first_and_then_the_oldest() {
        let doorstep = Doorstep::new(3, Arc::default());
        let mut places: Vec<_> = (0..3).map(|_| doorstep.enter()).collect();
        assert_eq!(gone(&mut places), [false; 3]);
        places[0].spoke.store(true, Ordering::Relaxed);
        places.push(doorstep.enter());
        assert_eq!(gone(&mut places), [false, true, false, false]);
        places[2].spoke.store(true, Ordering::Relaxed);
        places[3].spoke.store(true, Ordering::Relaxed);
        assert!(!doorstep.make_room(Bound::Connections), "nobody is silent");
        places.push(doorstep.enter());
        assert_eq!(gone(&mut places), [true, true, false, false, false]);
        drop(places);
        assert!(doorstep.waiting.borrow().is_empty());
        assert_eq!(doorstep.vitals.handshakes.load(Ordering::Relaxed), 0);
    }
}
