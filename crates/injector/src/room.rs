//! Room for a bounded number of connections: in a full house those that rest leave.
//!
//! Called by `server.rs`. It must never send one away while a request of its is being answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// API servers keep a few connections each, and open more when many pods come at once.
const CONNECTIONS: usize = 256;
/// Whoever did nothing for so long gives way: more than an API server needs for a handshake or from it to a question.
const REST: Duration = Duration::from_secs(1);

/// The house.
#[derive(Debug)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    crowded: Notify,
}

/// Since when a connection rests; not at all while it is answered.
#[derive(Debug)]
pub(crate) struct Resting(Mutex<Option<Instant>>);

impl Room {
    pub(crate) fn new() -> Room {
        Room { places: Arc::new(Semaphore::new(CONNECTIONS)), crowded: Notify::new() }
    }

    /// A place, once there is one; it is given back when dropped. None only if the house is closed, which it never is.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return Some(place);
            }
            self.crowded.notify_waiters();
            if let Ok(place) = timeout(REST, Arc::clone(&self.places).acquire_owned()).await {
                return place.ok();
            }
        }
    }

    /// Ends when somebody waits for a place and this connection rests.
    pub(crate) async fn sent_away(&self, resting: &Resting) {
        loop {
            self.crowded.notified().await;
            let since = *resting.0.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_some_and(|since| since.elapsed() >= REST) {
                return;
            }
        }
    }
}

impl Resting {
    /// From now on.
    pub(crate) fn new() -> Resting {
        Resting(Mutex::new(Some(Instant::now())))
    }

    /// Answered from now on, or resting.
    pub(crate) fn is_answered(&self, answered: bool) {
        let since = (!answered).then(Instant::now);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}
