//! The desk: where the operator's side asks the sources' thread.
//!
//! Used by `control`, from its own runtime. What is pushed is read here, on a blocking thread of the caller's, so that
//! parsing delays no file; everything else is answered by `clerk.rs`, in order. Bounded in every direction: one push
//! and one preview at a time, a short queue, a deadline. It must never touch what is in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use revocation::Requirements;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::desk_error::DeskError;
use crate::offer::{Offer, unreadable};
use crate::records::{DenialRecord, FloorReset, NewDenial, Preview, Push, Pushed, State};

/// Questions that wait: each is a person or a script, and the answer takes milliseconds.
const QUEUE: usize = 64;
/// How long one waits for an answer: reading and indexing ten million entries takes a few seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, DeskError>>;

/// An offer, and the room it takes: whoever gives up waiting does not make room for another such heap of memory while
/// this one is still in use.
#[derive(Debug)]
pub(crate) struct Pushing {
    /// As read.
    pub(crate) offer: Offer,
    /// Dropped when it is done with.
    pub(crate) room: OwnedSemaphorePermit,
}

/// A question.
#[derive(Debug)]
pub(crate) enum Ask {
    /// See [`Desk::state`].
    State(Reply<State>),
    /// See [`Desk::push`].
    Push(Pushing, Push, Reply<Pushed>),
    /// Something that was pushed could not be read: to be counted and told.
    Unreadable {
        /// One fixed word.
        label: &'static str,
        /// Why.
        sentence: String,
        /// Who pushed it.
        from: String,
    },
    /// See [`Desk::preview`].
    Preview(Pushing, Reply<Preview>),
    /// See [`Desk::confirm`].
    Confirm(Option<String>, String, Reply<Pushed>),
    /// See [`Desk::reset_floor`].
    ResetFloor(String, String, Reply<FloorReset>),
    /// See [`Desk::deny`].
    Deny(NewDenial, Reply<DenialRecord>),
    /// See [`Desk::undeny`].
    Undeny(String, String, Reply<DenialRecord>),
    /// See [`Desk::denials`].
    Denials(Reply<Vec<DenialRecord>>),
}

/// What the desk knows without asking.
#[derive(Debug)]
pub(crate) struct Counter {
    requirements: Requirements,
    max_denial_ttl: Duration,
    held: AtomicUsize,
    pushes: Arc<Semaphore>,
    previews: Arc<Semaphore>,
}

impl Counter {
    /// So much is held now.
    pub(crate) fn set_held(&self, held: usize) {
        self.held.store(held, Ordering::Relaxed);
    }
}

/// A handle to the sources' thread; clones are the same desk.
#[derive(Clone, Debug)]
pub struct Desk {
    asks: mpsc::Sender<Ask>,
    counter: Arc<Counter>,
}

impl Desk {
    /// The desk, and where its questions arrive.
    pub(crate) fn open(requirements: Requirements, max_denial_ttl: Duration) -> (Desk, mpsc::Receiver<Ask>) {
        let (asks, questions) = mpsc::channel(QUEUE);
        let counter = Counter {
            requirements,
            max_denial_ttl,
            held: AtomicUsize::new(0),
            pushes: Arc::new(Semaphore::new(1)),
            previews: Arc::new(Semaphore::new(1)),
        };
        (Desk { asks, counter: Arc::new(counter) }, questions)
    }

    pub(crate) fn counter(&self) -> Arc<Counter> {
        Arc::clone(&self.counter)
    }

    /// Bytes of one push or preview (`--revocation-max-bytes`).
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.counter.requirements.max_bytes
    }

    /// How long a denial may live (`--max-denial-ttl`).
    #[must_use]
    pub fn max_denial_ttl(&self) -> Duration {
        self.counter.max_denial_ttl
    }

    /// How much is held and waits to be confirmed; known without asking.
    #[must_use]
    pub fn held(&self) -> usize {
        self.counter.held.load(Ordering::Relaxed)
    }

    /// Everything that is known now.
    pub async fn state(&self) -> Result<State, DeskError> {
        self.ask(Ask::State).await
    }

    /// Takes in a list, in any encoding, or CRLs, as if they stood in a file. Answered when what is accepted is in
    /// force and, with a state folder, kept.
    pub async fn push(&self, bytes: Vec<u8>, push: Push) -> Result<Pushed, DeskError> {
        let pushing = self.read(bytes, &self.counter.pushes, Some(&push.who)).await?;
        self.ask(|reply| Ask::Push(pushing, push, reply)).await
    }

    /// Who would be cut by it, now; nothing changes.
    pub async fn preview(&self, bytes: Vec<u8>) -> Result<Preview, DeskError> {
        let pushing = self.read(bytes, &self.counter.previews, None).await?;
        self.ask(|reply| Ask::Preview(pushing, reply)).await
    }

    /// Puts in force what is held under this digest; without a digest the only thing that is held.
    pub async fn confirm(&self, digest: Option<String>, who: String) -> Result<Pushed, DeskError> {
        self.ask(|reply| Ask::Confirm(digest, who, reply)).await
    }

    /// Takes the floor of the lists of this name away: the next valid one is accepted whatever its number, and so is a
    /// file at hand that was refused because of the floor.
    pub async fn reset_floor(&self, list: String, who: String) -> Result<FloorReset, DeskError> {
        self.ask(|reply| Ask::ResetFloor(list, who, reply)).await
    }

    /// Adds a denial to the overlay. Answered when it is in force and, with a state folder, kept.
    pub async fn deny(&self, denial: NewDenial) -> Result<DenialRecord, DeskError> {
        self.ask(|reply| Ask::Deny(denial, reply)).await
    }

    /// Takes a denial back; its last record is the answer.
    pub async fn undeny(&self, id: String, who: String) -> Result<DenialRecord, DeskError> {
        self.ask(|reply| Ask::Undeny(id, who, reply)).await
    }

    /// The overlay's denials, oldest first.
    pub async fn denials(&self) -> Result<Vec<DenialRecord>, DeskError> {
        self.ask(Ask::Denials).await
    }

    /// Reads on a blocking thread.
    async fn read(&self, bytes: Vec<u8>, room: &Arc<Semaphore>, who: Option<&str>) -> Result<Pushing, DeskError> {
        let from = who.map(|who| format!("push by {who}")).unwrap_or_default();
        let reading = async {
            let room = Arc::clone(room).acquire_owned().await.map_err(|_| DeskError::Ended)?;
            let requirements = self.counter.requirements.clone();
            let read = move || Offer::read(bytes, &requirements, true, None).map(|offer| Pushing { offer, room });
            tokio::task::spawn_blocking(read).await.map_err(|_| DeskError::Ended)
        };
        match tokio::time::timeout(DEADLINE, reading).await.map_err(|_| DeskError::Busy)?? {
            Ok(Pushing { offer, room }) => Ok(Pushing { offer: Offer { from, ..offer }, room }),
            Err(error) => {
                let label = error.label();
                // A preview is a question: what it finds wrong was offered to nobody.
                if who.is_some() {
                    let sentence = error.to_string();
                    // If the queue is full this one is not counted; the caller is told all the same.
                    let _ = self.asks.try_send(Ask::Unreadable { label, sentence, from });
                }
                Err(unreadable(error))
            }
        }
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, DeskError> {
        let (reply, answer) = oneshot::channel();
        self.asks.try_send(ask(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DeskError::Busy,
            mpsc::error::TrySendError::Closed(_) => DeskError::Ended,
        })?;
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(DeskError::Ended),
            Err(_) => Err(DeskError::Busy),
        }
    }
}
