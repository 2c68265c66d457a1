//! Who would be cut if something were published: the question and its answer.
//!
//! Asked through [`crate::Live::preview`] by `sources`, before it publishes and for operators; answered by each
//! worker about its own sessions, in slices, between its other work. It must never change a session: no memo is
//! written, no path replaced, nobody cut.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::yield_now;
use trust::{Denial, Session, TrustState, preview};

use crate::anew::survived;
use crate::clock::monotonic;
use crate::path::over_any_path;
use crate::worker::Worker;

/// Sessions judged before other tasks of the worker get their turn, as in its sweep.
const SLICE: usize = 512;
/// And the longest that a slice may take, at which a request that waits for it is hardly slower: a session whose anchor
/// would go has its certificates read and verified again, at some 100 µs for each signature.
const SLICE_TIME: Duration = Duration::from_micros(250);
/// How long the workers are waited for: a hundred times what 10,000 sessions take, half of what counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Sessions of one client that would be cut for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewedCut {
    /// The client's typed identity.
    pub identity: String,
    /// The denial's label.
    pub reason: &'static str,
    /// The denial in words.
    pub sentence: String,
    /// How many sessions.
    pub sessions: usize,
}

/// Who would be cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The epoch of the state that was current when the workers were asked.
    pub epoch: u64,
    /// Sessions that were looked at: all that are open and not cut already.
    pub live: usize,
    /// Whose would be cut; most sessions first.
    pub cut: Vec<PreviewedCut>,
    /// Workers that gave no answer in time; their sessions are in none of the other numbers.
    pub unheard: usize,
}

impl Preview {
    /// How many sessions would be cut.
    #[must_use]
    pub fn sessions_cut(&self) -> usize {
        self.cut.iter().map(|cut| cut.sessions).sum()
    }

    /// How many sessions would be cut for each reason, by the denial's label.
    #[must_use]
    pub fn by_reason(&self) -> BTreeMap<&'static str, usize> {
        let mut reasons = BTreeMap::new();
        for cut in &self.cut {
            *reasons.entry(cut.reason).or_default() += cut.sessions;
        }
        reasons
    }
}

/// What one worker found.
#[derive(Default)]
struct Found {
    live: usize,
    /// By identity and sentence.
    cut: HashMap<(String, String), (&'static str, usize)>,
}

impl Found {
    fn add(&mut self, session: &Session, denial: &Denial) {
        let who = session.chain.identity.typed().to_owned();
        self.cut.entry((who, denial.to_string())).or_insert((denial.label(), 0)).1 += 1;
    }

    fn unite(&mut self, other: Found) {
        self.live += other.live;
        for (who, (reason, sessions)) in other.cut {
            self.cut.entry(who).or_insert((reason, 0)).1 += sessions;
        }
    }

    fn sorted(self) -> Vec<PreviewedCut> {
        let one = |((identity, sentence), (reason, sessions))| PreviewedCut { identity, reason, sentence, sessions };
        let mut cut: Vec<_> = self.cut.into_iter().map(one).collect();
        cut.sort_unstable_by(|a, b| {
            let most = b.sessions.cmp(&a.sessions);
            most.then_with(|| a.identity.cmp(&b.identity)).then_with(|| a.sentence.cmp(&b.sentence))
        });
        cut
    }
}

/// A question on its way to one worker, which answers by sending once.
pub(crate) struct Question {
    state: Arc<TrustState>,
    answer: mpsc::Sender<Found>,
}

/// A worker's end of its mailbox.
pub(crate) type Mailbox = mpsc::Receiver<Question>;

/// Every worker's mailbox, from the asker's side.
#[derive(Default)]
pub(crate) struct Mailboxes {
    all: Mutex<Vec<mpsc::Sender<Question>>>,
    /// One preview at a time: each costs every worker some milliseconds.
    asking: tokio::sync::Mutex<()>,
}

impl Mailboxes {
    /// A mailbox for one more worker.
    pub(crate) fn open(&self) -> Mailbox {
        // One question is under way at a time; a second waits only where the first was given up.
        let (sender, mailbox) = mpsc::channel(2);
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        mailbox
    }

    /// Whom the state that `changed` makes would cut. It is made when the turn comes, so that a question that waited
    /// is not about a past state.
    pub(crate) async fn ask(&self, changed: impl FnOnce() -> TrustState, patience: Duration) -> Preview {
        let _one_at_a_time = self.asking.lock().await;
        let state = Arc::new(changed());
        let workers = {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|worker| !worker.is_closed());
            all.clone()
        };
        let (answer, mut answers) = mpsc::channel(workers.len().max(1));
        let mut unheard = 0;
        for worker in workers {
            let question = Question { state: state.clone(), answer: answer.clone() };
            // Of one whose mailbox closed meanwhile every session is closed.
            unheard += usize::from(!matches!(worker.try_send(question), Err(TrySendError::Closed(_))));
        }
        drop(answer);
        let mut all = Found::default();
        let gathering = async {
            while let Some(found) = answers.recv().await {
                all.unite(found);
                unheard = unheard.saturating_sub(1);
            }
        };
        let _ = tokio::time::timeout(patience, gathering).await;
        Preview { epoch: state.epoch, live: all.live, cut: all.sorted(), unheard }
    }
}

/// A worker's part: answers each question until the last asker is gone.
pub(crate) async fn answer_for_ever(worker: Rc<Worker>, mut mailbox: Mailbox) {
    while let Some(Question { state, answer }) = mailbox.recv().await {
        // An asker who gave up misses nothing.
        if let Some(found) = survived(look_around(&worker, &state, &answer)).await {
            let _ = answer.try_send(found);
        }
    }
}

/// The same walk as the sweep's. Sessions that come in meanwhile may be met or not, as they may by a publish.
async fn look_around(worker: &Worker, state: &TrustState, answer: &mpsc::Sender<Found>) -> Found {
    let (mut found, mut key) = (Found::default(), 0);
    let (mut slice, mut began) = (0, monotonic());
    while let Some(connection) = worker.connection_from(&mut key) {
        if connection.cut_reason().is_none() {
            found.live += 1;
            let (session, now) = (connection.session(), worker.live.now());
            if let Err(denial) = over_any_path(&session, (state, now), |session| preview(session, state, now)) {
                found.add(&session, &denial);
            }
        }
        slice += 1;
        if slice >= SLICE || began.elapsed() >= SLICE_TIME {
            drop(connection);
            yield_now().await;
            if answer.is_closed() {
                break;
            }
            (slice, began) = (0, monotonic());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use trust::{Allow, Bundle, CrlCoverage, Knowledge, Policy, Stale};

    use super::*;

    fn state() -> TrustState {
        let policy = Policy {
            allow: Allow::Anybody,
            crl_coverage: CrlCoverage::All,
            stale: Stale::Deny,
            snapshot_max_age: None,
            max_session_age: None,
            max_certificate_age: None,
            idle_timeout: None,
        };
        let (bundle, knowledge) = (Arc::new(Bundle::default()), Knowledge::Missing);
        TrustState { epoch: 7, bundle, knowledge, overlay: Arc::default(), policy: Arc::new(policy) }
    }

    fn found(sessions: usize) -> Found {
        let key = |who: &str| (who.to_owned(), "expired (leaf)".to_owned());
        let cut = HashMap::from([(key("dns:a"), ("expired", sessions)), (key("dns:b"), ("expired", 2))]);
        Found { live: 10, cut }
    }

    async fn answer(mut mailbox: Mailbox, sessions: usize) -> Mailbox {
        if let Some(Question { answer, .. }) = mailbox.recv().await {
            let _ = answer.try_send(found(sessions));
        }
        mailbox
    }

    #[tokio::test]
    async fn the_answers_of_all_workers_are_one_answer_with_most_sessions_first() {
        let mailboxes = Mailboxes::default();
        let (one, two) = (mailboxes.open(), mailboxes.open());
        let asked = mailboxes.ask(state, PATIENCE);
        let (preview, _, _) = tokio::join!(asked, answer(one, 1), answer(two, 2));
        assert_eq!((preview.epoch, preview.live, preview.unheard), (7, 20, 0));
        let cut: Vec<_> = preview.cut.iter().map(|cut| (cut.identity.as_str(), cut.sessions)).collect();
        assert_eq!(cut, [("dns:b", 4), ("dns:a", 3)]);
        assert_eq!((preview.sessions_cut(), preview.by_reason()), (7, BTreeMap::from([("expired", 7)])));
    }

    #[tokio::test]
    async fn a_worker_that_gives_no_answer_in_time_is_told_and_holds_nobody_up() {
        let mailboxes = Mailboxes::default();
        let (lively, stuck) = (mailboxes.open(), mailboxes.open());
        let asked = mailboxes.ask(state, Duration::from_millis(50));
        let (preview, mut lively) = tokio::join!(asked, answer(lively, 1));
        assert_eq!((preview.live, preview.unheard), (10, 1));
        // It is never asked more than its mailbox holds, and still counts as unheard then.
        for _ in 0..3 {
            let asked = mailboxes.ask(state, Duration::from_millis(50));
            let (preview, again) = tokio::join!(asked, answer(lively, 1));
            lively = again;
            assert_eq!((preview.live, preview.unheard), (10, 1));
        }
        drop((lively, stuck));
    }

    #[tokio::test]
    async fn a_worker_that_ended_is_not_asked() {
        let mailboxes = Mailboxes::default();
        let here = mailboxes.open();
        drop(mailboxes.open());
        let (preview, _) = tokio::join!(mailboxes.ask(state, PATIENCE), answer(here, 1));
        assert_eq!((preview.live, preview.unheard), (10, 0));
        let nobody = mailboxes.ask(state, PATIENCE).await;
        assert_eq!(nobody, Preview { epoch: 7, ..Preview::default() });
    }
}
