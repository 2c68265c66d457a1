//! Who is connected, and the end of sessions that an operator names: the asker's side.
//!
//! Asked through [`crate::Live::sessions`] and [`crate::Live::end`] by `control`; each worker answers about its own
//! sessions in `roll_call.rs`, one slice for each question. Between two of them it holds nothing for the asker, so that
//! one who reads slowly, or went away, costs a worker nothing. It must never hold a whole list.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use trust::{Chain, IdentityPattern, Limit, Sha256, Time};

use crate::negotiated::Negotiated;
use crate::preview::PATIENCE;

/// Which sessions are meant: those that fit every part that is given, and all if none is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The session of this id.
    pub id: Option<u64>,
    /// Of this client, or of these.
    pub identity: Option<IdentityPattern>,
    /// The leaf's serial number, without leading zeros.
    pub serial: Option<Box<[u8]>>,
    /// Digest of a public key that signed one of the chain's links.
    pub issuer: Option<Sha256>,
    /// Sessions of this age and older ones.
    pub older_than: Option<Duration>,
}

impl Wanted {
    /// Whether nothing narrows it.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        *self == Wanted::default()
    }

    /// Whether a session is meant.
    pub(crate) fn fits(&self, id: u64, chain: &Chain, age: Duration) -> bool {
        let issued = |key: &Sha256| {
            let links = std::iter::once(&chain.leaf).chain(&chain.intermediates);
            links.into_iter().any(|link| link.issuer_key == *key)
        };
        self.id.is_none_or(|wanted| wanted == id)
            && self.older_than.is_none_or(|least| age >= least)
            && self.serial.as_ref().is_none_or(|serial| *serial == chain.leaf.serial)
            && self.identity.as_ref().is_none_or(|pattern| pattern.matches(&chain.identity))
            && self.issuer.as_ref().is_none_or(issued)
    }
}

/// One session, as it is at the moment of the answer.
#[derive(Clone, Debug)]
pub struct Row {
    /// As in the audit.
    pub id: u64,
    /// The client's typed identity.
    pub identity: String,
    /// The leaf's serial number, without leading zeros.
    pub serial: Box<[u8]>,
    /// Digest of the public key that signed the leaf.
    pub issuer_key: Sha256,
    /// The earliest `notAfter` of the chain, anchor included.
    pub chain_not_after: Time,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Which of the configuration's inbounds it came in by.
    pub inbound: usize,
    /// Protocol and TLS parameters.
    pub negotiated: Negotiated,
    /// When the handshake was done.
    pub opened_at: Time,
    /// How long ago that is.
    pub age: Duration,
    /// Requests so far.
    pub requests: u64,
    /// Of those, open now: requests, streams, tunnels.
    pub open: u32,
    /// Application bytes from the client.
    pub received: u64,
    /// Application bytes to the client.
    pub sent: u64,
    /// Idle, its buffers given back.
    pub parked: bool,
    /// Asked to end when its open requests have.
    pub leaving: bool,
    /// The epoch of the last judgement.
    pub epoch: u64,
    /// Which limit ends it first, and the first moment at which it does, if nothing is published meanwhile.
    pub ends: Option<(Limit, Time)>,
}

/// Who ends sessions, and why: for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The operator.
    pub by: String,
    /// In the operator's words, fit for a log.
    pub why: String,
}

/// A session that was ended, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSession {
    /// As in the audit.
    pub id: u64,
    /// The client's typed identity.
    pub identity: String,
}

/// What became of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whom it met.
    pub sessions: Vec<EndedSession>,
    /// Workers that gave no answer in time; what they ended is not among the sessions.
    pub unheard: usize,
}

/// What a worker shall do with the sessions that are meant.
#[derive(Clone)]
pub(crate) enum Task {
    /// Tell everything about them.
    Tell,
    /// Tell who they are.
    Name,
    /// End them and tell who they were; the order was given at this moment.
    End(Arc<Order>, Instant),
}

/// A question about some of a worker's sessions, from this place in its list on.
pub(crate) struct Question {
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) task: Task,
    pub(crate) from: usize,
    pub(crate) answer: oneshot::Sender<Slice>,
}

/// A worker's answer: what it found within one slice.
#[derive(Default)]
pub(crate) struct Slice {
    pub(crate) rows: Vec<Row>,
    pub(crate) names: Vec<EndedSession>,
    /// Where to go on; `None` at the end of the list.
    pub(crate) next: Option<usize>,
    /// How long the worker was at it.
    pub(crate) took: Duration,
}

/// A worker's end of its mailbox.
pub(crate) type Mailbox = mpsc::Receiver<Question>;

/// A worker's mailbox, from the asker's side.
#[derive(Clone)]
struct Door {
    questions: mpsc::Sender<Question>,
    patience: Duration,
}

/// Questions that wait at a worker; each asker has one.
const WAITING: usize = 8;

/// Those of all workers.
pub(crate) struct Doors {
    all: Mutex<Vec<Door>>,
    /// How long each is waited for.
    patience: Duration,
}

impl Default for Doors {
    fn default() -> Doors {
        Doors { all: Mutex::default(), patience: PATIENCE }
    }
}

impl Doors {
    /// A mailbox for one more worker.
    pub(crate) fn open(&self) -> Mailbox {
        let (questions, mailbox) = mpsc::channel(WAITING);
        let door = Door { questions, patience: self.patience };
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(door);
        mailbox
    }

    fn all(&self) -> Vec<Door> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|door| !door.questions.is_closed());
        all.clone()
    }

    /// See [`crate::Live::sessions`].
    pub(crate) fn roster(&self, wanted: Wanted) -> Roster {
        Roster {
            wanted: Arc::new(wanted),
            doors: self.all().into_iter(),
            at: None,
            unheard: 0,
            longest: Duration::ZERO,
        }
    }

    /// Asks all workers at once, each from the beginning of its list to the end.
    pub(crate) async fn carry_out(&self, wanted: Wanted, task: Task) -> Ended {
        let (wanted, mut working, mut ended) = (Arc::new(wanted), JoinSet::new(), Ended::default());
        for door in self.all() {
            working.spawn(to_the_end(door, wanted.clone(), task.clone()));
        }
        while let Some(done) = working.join_next().await {
            let Ended { sessions, unheard } = done.unwrap_or(Ended { sessions: Vec::new(), unheard: 1 });
            ended.sessions.extend(sessions);
            ended.unheard += unheard;
        }
        ended.sessions.sort_unstable_by_key(|session| session.id);
        ended
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
enum Silence {
    /// The worker has ended, and with it every session of its.
    Gone,
    /// It does not answer in time.
    Stuck,
}

async fn ask(door: &Door, (wanted, task): (&Arc<Wanted>, &Task), from: usize) -> Result<Slice, Silence> {
    let (answer, told) = oneshot::channel();
    let question = Question { wanted: wanted.clone(), task: task.clone(), from, answer };
    let asking = async {
        door.questions.send(question).await.map_err(|_| Silence::Gone)?;
        told.await.map_err(|_| Silence::Gone)
    };
    timeout(door.patience, asking).await.unwrap_or(Err(Silence::Stuck))
}

async fn to_the_end(door: Door, wanted: Arc<Wanted>, task: Task) -> Ended {
    let (mut ended, mut from) = (Ended::default(), Some(0));
    while let Some(key) = from {
        match ask(&door, (&wanted, &task), key).await {
            Ok(slice) => {
                ended.sessions.extend(slice.names);
                from = slice.next;
            }
            Err(silence) => {
                ended.unheard = usize::from(silence == Silence::Stuck);
                return ended;
            }
        }
    }
    ended
}

/// A list of sessions on its way, a few at a time. Dropped, it is over.
pub struct Roster {
    wanted: Arc<Wanted>,
    doors: std::vec::IntoIter<Door>,
    /// The worker whose turn it is, and the place in its list.
    at: Option<(Door, usize)>,
    unheard: usize,
    longest: Duration,
}

impl Roster {
    /// The next few, at least one; `None` at the end. A session that opens or ends meanwhile may be among them or not,
    /// and none is told twice. Needs a runtime of tokio with time.
    pub async fn next(&mut self) -> Option<Vec<Row>> {
        loop {
            let (door, from) = match self.at.take() {
                Some(at) => at,
                None => (self.doors.next()?, 0),
            };
            match ask(&door, (&self.wanted, &Task::Tell), from).await {
                Ok(Slice { rows, next, took, .. }) => {
                    self.at = next.map(|key| (door, key));
                    self.longest = self.longest.max(took);
                    if !rows.is_empty() {
                        return Some(rows);
                    }
                }
                Err(Silence::Stuck) => self.unheard += 1,
                Err(Silence::Gone) => {}
            }
        }
    }

    /// Workers that gave no answer in time, so far: their sessions, or some of them, are missing.
    #[must_use]
    pub fn unheard(&self) -> usize {
        self.unheard
    }

    /// The longest that a worker was kept from its other work, so far.
    #[must_use]
    pub fn longest_slice(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A worker with so many sessions, who tells them in twos.
    async fn in_twos(mut mailbox: Mailbox, first: u64, sessions: usize) -> usize {
        let mut asked = 0;
        while let Some(Question { from, answer, .. }) = mailbox.recv().await {
            asked += 1;
            let end = (from + 2).min(sessions);
            let name = |key: usize| EndedSession { id: first + key as u64, identity: "dns:a".to_owned() };
            let next = (end < sessions).then_some(end);
            let _ = answer.send(Slice {
                rows: Vec::new(),
                names: (from..end).map(name).collect(),
                next,
                ..Slice::default()
            });
        }
        asked
    }

    fn order() -> Task {
        let order = Order { by: "anna".to_owned(), why: "incident 7".to_owned() };
        Task::End(Arc::new(order), crate::clock::monotonic())
    }

    #[tokio::test]
    async fn an_order_goes_through_every_workers_whole_list() {
        let doors = Doors::default();
        let workers = [(doors.open(), 10, 5), (doors.open(), 20, 2)]
            .map(|(mailbox, first, sessions)| tokio::spawn(in_twos(mailbox, first, sessions)));
        let ended = doors.carry_out(Wanted::default(), order()).await;
        let ids: Vec<_> = ended.sessions.iter().map(|session| session.id).collect();
        assert_eq!((ids, ended.unheard), (vec![10, 11, 12, 13, 14, 20, 21], 0));
        drop(doors);
        for (worker, asked) in workers.into_iter().zip([3, 1]) {
            assert_eq!(worker.await.unwrap(), asked);
        }
    }

    #[tokio::test]
    async fn a_worker_that_gives_no_answer_in_time_is_told_and_one_that_ended_is_not() {
        let doors = Doors { patience: Duration::from_millis(50), ..Doors::default() };
        let (stuck, gone, lively) = (doors.open(), doors.open(), doors.open());
        drop(gone);
        let lively = tokio::spawn(in_twos(lively, 1, 1));
        let ended = doors.carry_out(Wanted::default(), order()).await;
        assert_eq!((ended.sessions.len(), ended.unheard), (1, 1));
        let mut roster = doors.roster(Wanted::default());
        assert!(roster.next().await.is_none());
        assert_eq!(roster.unheard(), 1);
        drop((doors, roster, stuck));
        lively.await.unwrap();
    }
}
