//! Who is connected, and the end of sessions that an operator names: a worker's side.
//!
//! Started by `worker.rs`; answers the questions of `roster.rs`, one slice of time and of sessions for each, between
//! the worker's other work. It must never keep a worker from that for as long as a millisecond, nor wait for anybody.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use trust::{Denial, Session, Time, TrustState, first_end};

use crate::anew::survived;
use crate::clock::monotonic;
use crate::connection::Connection;
use crate::roster::{EndedSession, Mailbox, Order, Question, Row, Slice, Task};
use crate::worker::Worker;

/// The longest that one slice takes: a quarter of what would be felt, since the thread may lose its core meanwhile.
const SLICE_TIME: Duration = Duration::from_micros(250);
/// And the most sessions that it tells: some 64 kB, which is all that a list ever takes at once.
const SLICE_SESSIONS: usize = 128;

/// Answers each question until the last asker is gone.
pub(crate) async fn answer_for_ever(worker: Rc<Worker>, mut mailbox: Mailbox) {
    while let Some(question) = mailbox.recv().await {
        // Whoever gave up waiting was told that nothing of this was done.
        if !question.answer.is_closed()
            && let Some(slice) = survived(async { look(&worker, &question) }).await
        {
            let _ = question.answer.send(slice);
        }
        // Where another question waits already, `recv` returns without a pause.
        yield_now().await;
    }
}

/// Whether it is time for the worker's other tasks.
fn is_over(began: Instant, now: Instant, told: usize) -> bool {
    told >= SLICE_SESSIONS || now.duration_since(began) >= SLICE_TIME
}

/// The sessions that are meant, from a place in the list on, as far as one slice goes.
fn look(worker: &Worker, question: &Question) -> Slice {
    let Question { wanted, task, from, .. } = question;
    let (mut slice, mut key, began) = (Slice::default(), *from, monotonic());
    let published = worker.live.current();
    while let Some(connection) = worker.connection_from(&mut key) {
        let session = connection.session();
        // One that is cut already is as good as gone.
        let is_there = connection.cut_reason().is_none();
        if is_there && wanted.fits(connection.id, &session.chain, connection.opened.elapsed()) {
            match task {
                Task::Tell => slice.rows.push(row(&connection, &session, &published.state)),
                Task::Name => slice.names.push(name(&connection, &session)),
                Task::End(order, since) => {
                    slice.names.push(name(&connection, &session));
                    worker.end(&connection, order, *since);
                }
            }
        }
        if is_over(began, monotonic(), slice.rows.len() + slice.names.len()) {
            slice.next = Some(key);
            break;
        }
    }
    slice.took = began.elapsed();
    slice
}

fn name(connection: &Connection, session: &Session) -> EndedSession {
    EndedSession { id: connection.id, identity: session.chain.identity.typed().to_owned() }
}

fn row(connection: &Connection, session: &Session, state: &TrustState) -> Row {
    let chain = &session.chain;
    let anchor = state.bundle.find(&chain.anchor).map(|anchor| anchor.link.not_after);
    let links = chain.intermediates.iter().map(|link| link.not_after);
    Row {
        id: connection.id,
        identity: chain.identity.typed().to_owned(),
        serial: chain.leaf.serial.clone(),
        issuer_key: chain.leaf.issuer_key,
        chain_not_after: links.chain(anchor).fold(chain.leaf.not_after, Time::min),
        peer: connection.peer,
        inbound: connection.door.inbound,
        negotiated: connection.negotiated.get(),
        opened_at: session.opened_at,
        age: connection.opened.elapsed(),
        requests: connection.requests(),
        open: connection.open_requests(),
        received: connection.gate.received(),
        sent: connection.gate.sent(),
        parked: connection.is_parked(),
        leaving: connection.is_stopping() || connection.is_leaving(),
        epoch: connection.judged().0,
        ends: first_end(session, state),
    }
}

impl Worker {
    /// Ends a session because an operator wants it, once.
    fn end(&self, connection: &Rc<Connection>, order: &Arc<Order>, since: Instant) {
        if connection.cut_reason().is_none() {
            self.metrics.cut(&Denial::Ended);
            connection.end_by(order.clone(), since);
            self.parting.push(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;
    use std::collections::HashSet;

    use testkit::{Authority, Leaf, LeafSpec};
    use tokio::sync::oneshot;
    use tokio::task::LocalSet;
    use trust::{Allow, Bundle, Chain, CrlCoverage, Identity, IdentityPattern, Knowledge, Policy, Speaks, Stale};

    use super::*;
    use crate::gate::Gate;
    use crate::roster::Wanted;
    use crate::{Clock, Config, Credential, Limits, Live, Metrics};

    /// A worker without sockets, whose sessions belong to three clients in turn.
    struct Crowded {
        worker: Rc<Worker>,
        chain: Chain,
        leaf: Leaf,
    }

    impl Crowded {
        fn with(sessions: u64) -> Crowded {
            let root = Authority::root("root");
            let leaf = root.intermediate("issuing").issue(LeafSpec::spiffe("spiffe://td/0"));
            let clock = Clock::real();
            let bundle = Bundle::new(vec![(root.der().clone(), Speaks::ForAnybody)]).unwrap();
            let chain = trust::verify(&leaf.chain(), &bundle, clock.now()).unwrap();
            let policy = Policy {
                allow: Allow::Anybody,
                crl_coverage: CrlCoverage::All,
                stale: Stale::Deny,
                snapshot_max_age: None,
                max_session_age: Some(Duration::from_secs(60)),
                max_certificate_age: None,
                idle_timeout: None,
            };
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf.key_der()).unwrap();
            let key = Arc::new(rustls::sign::CertifiedKey::new(leaf.chain(), key));
            let credential = Credential { key, not_before: Time::BEGINNING, not_after: Time::NEVER };
            let (introductions, _) = tokio::sync::mpsc::channel(1);
            let state = (Arc::new(bundle), Knowledge::NotWanted, Arc::new(policy));
            let live = Live::new(state, credential, introductions, clock);
            let config = Config { inbounds: Vec::new(), workers: 1, allow_connect: false, limits: Limits::default() };
            let metrics = Arc::new(Metrics::new("0.0.0-test").unwrap());
            let shares = crate::shares::Shares::new(&config.limits);
            let crowded =
                Crowded { worker: Worker::new((&config, shares), live, metrics, Arc::default()), chain, leaf };
            (0..sessions).for_each(|id| drop(crowded.enters(id)));
            crowded
        }

        fn enters(&self, id: u64) -> Rc<Connection> {
            let identity = Identity::from_spiffe(&format!("spiffe://td/{}", id % 3)).unwrap();
            let chain = Chain { identity, ..self.chain.clone() };
            let session = Session::new(chain, Box::new([]), self.worker.live.now());
            let from = (([127, 0, 0, 1], 443).into(), crate::redirect::Door::default());
            let connection = Rc::new(Connection::new(id, from, session, Arc::new(Gate::default())));
            let _ = connection.permit(&self.worker.live, self.worker.live.now()).unwrap();
            self.worker.connections.borrow_mut().insert(connection.clone());
            connection
        }

        /// One slice as the worker makes it.
        fn slice(&self, wanted: &Wanted, task: Task, from: usize) -> Slice {
            let (answer, _told) = oneshot::channel();
            look(&self.worker, &Question { wanted: Arc::new(wanted.clone()), task, from, answer })
        }

        /// All slices of one list together.
        fn whole(&self, wanted: &Wanted, task: &Task) -> Slice {
            let (mut whole, mut from) = (Slice::default(), Some(0));
            while let Some(key) = from {
                let slice = self.slice(wanted, task.clone(), key);
                assert!(slice.rows.len() <= SLICE_SESSIONS);
                whole.rows.extend(slice.rows);
                whole.names.extend(slice.names);
                from = slice.next;
            }
            whole
        }

        fn rows(&self, wanted: &Wanted) -> Vec<Row> {
            self.whole(wanted, &Task::Tell).rows
        }
    }

    fn order() -> Task {
        Task::End(Arc::new(Order { by: "anna".to_owned(), why: "incident 7".to_owned() }), monotonic())
    }

    #[test]
    fn a_slice_is_over_after_its_time_or_its_sessions() {
        let began = monotonic();
        assert!(!is_over(began, began + SLICE_TIME / 2, SLICE_SESSIONS - 1));
        assert!(is_over(began, began + SLICE_TIME, 0) && is_over(began, began, SLICE_SESSIONS));
    }

    #[tokio::test]
    async fn sessions_that_are_cut_together_have_shut_gates_at_once_and_go_a_few_at_a_time() {
        let crowded = Crowded::with(10);
        let sessions: Vec<_> = crowded.worker.connections.borrow().iter().map(|(_, session)| session.clone()).collect();
        let mut waiting: Vec<_> = sessions.iter().map(|session| Box::pin(session.until_cut())).collect();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut going = std::pin::pin!(crowded.worker.parting.let_go_for_ever());
        let mut gone = |context: &mut std::task::Context<'_>| {
            let before = waiting.len();
            waiting.retain_mut(|session| session.as_mut().poll(context).is_pending());
            before - waiting.len()
        };
        assert_eq!(gone(&mut context), 0);
        assert_eq!(crowded.whole(&Wanted::default(), &order()).names.len(), 10);
        assert!(sessions.iter().all(|session| session.cut_reason().is_some()), "no byte of any passes any more");
        let turns: Vec<_> = (0..4)
            .map(|_| {
                assert!(going.as_mut().poll(&mut context).is_pending());
                gone(&mut context)
            })
            .collect();
        assert_eq!(turns, [4, 4, 2, 0]);
    }

    #[tokio::test]
    async fn ten_thousand_sessions_are_told_once_each_and_never_many_at_a_time() {
        let crowded = Crowded::with(10_000);
        let tasks = LocalSet::new();
        let (previews, questions) = crowded.worker.live.mailboxes();
        drop(previews);
        tasks.spawn_local(answer_for_ever(crowded.worker.clone(), questions));
        let told = tasks.run_until(async {
            let (mut ids, mut slices) = (HashSet::new(), 0);
            let mut roster = crowded.worker.live.sessions(Wanted::default());
            while let Some(rows) = roster.next().await {
                assert!(rows.len() <= SLICE_SESSIONS);
                slices += 1;
                rows.iter().for_each(|row| assert!(ids.insert(row.id), "{} is told twice", row.id));
            }
            (ids.len(), slices >= 10_000 / SLICE_SESSIONS, roster.unheard())
        });
        assert_eq!(told.await, (10_000, true, 0));
    }

    #[tokio::test]
    async fn between_the_answers_to_askers_in_a_line_the_workers_other_tasks_have_their_turns() {
        let (crowded, turns) = (Crowded::with(1), Rc::new(Cell::new(0)));
        let (sender, questions) = tokio::sync::mpsc::channel(8);
        let mut answers = Vec::new();
        for _ in 0..8 {
            let (answer, told) = oneshot::channel();
            sender.try_send(Question { wanted: Arc::default(), task: Task::Name, from: 0, answer }).ok().unwrap();
            answers.push(told);
        }
        drop(sender);
        let (tasks, counted) = (LocalSet::new(), turns.clone());
        tasks.spawn_local(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        tasks.run_until(answer_for_ever(crowded.worker.clone(), questions)).await;
        assert!(answers.into_iter().all(|mut told| told.try_recv().is_ok()));
        assert!(turns.get() >= 7, "{} turns between 8 answers", turns.get());
    }

    #[test]
    fn a_row_tells_what_is_known_of_its_session() {
        let crowded = Crowded::with(1);
        let connection = crowded.enters(7);
        connection.request_began();
        let wanted = Wanted { id: Some(7), ..Wanted::default() };
        let [row] = crowded.rows(&wanted).try_into().unwrap();
        assert_eq!((row.id, row.identity.as_str()), (7, "uri:spiffe://td/1"));
        assert_eq!(*row.serial, *trust::trimmed_serial(&crowded.leaf.serial()));
        assert_eq!(row.issuer_key.0, crowded.leaf.issuer_spki_sha256());
        assert_eq!(row.chain_not_after.as_seconds(), crowded.leaf.not_after().unix_timestamp());
        assert_eq!((row.requests, row.open, row.received, row.sent), (1, 1, 0, 0));
        assert_eq!((row.parked, row.leaving, row.epoch), (false, false, 1));
        let end = row.opened_at.plus(Duration::from_secs(60));
        assert_eq!(row.ends, Some((trust::Limit::MaxSessionAge, end)));
        connection.request_ended(&crowded.worker.live);
        connection.stop();
        let [row] = crowded.rows(&wanted).try_into().unwrap();
        assert_eq!((row.open, row.leaving), (0, true));
    }

    #[test]
    fn every_part_of_what_is_wanted_narrows() {
        let crowded = Crowded::with(9);
        let everybody = Wanted::default();
        let count = |wanted: Wanted| crowded.rows(&wanted).len();
        assert_eq!(count(everybody.clone()), 9);
        let one = |text| Some(IdentityPattern::parse(text).unwrap());
        let identity = one("uri:spiffe://td/1");
        assert_eq!(count(Wanted { identity: identity.clone(), ..everybody.clone() }), 3);
        assert_eq!(count(Wanted { identity: one("uri:spiffe://td/*"), ..everybody.clone() }), 9);
        assert_eq!(count(Wanted { identity: one("uri:spiffe://other/*"), ..everybody.clone() }), 0);
        assert_eq!(count(Wanted { identity: identity.clone(), id: Some(4), ..everybody.clone() }), 1);
        assert_eq!(count(Wanted { identity, id: Some(5), ..everybody.clone() }), 0);
        let serial = trust::trimmed_serial(&crowded.leaf.serial()).to_vec();
        assert_eq!(count(Wanted { serial: Some(serial.into()), ..everybody.clone() }), 9);
        assert_eq!(count(Wanted { serial: Some([1, 2].into()), ..everybody.clone() }), 0);
        // Whoever signed the leaf, and whoever signed that one's certificate.
        let keys = [crowded.chain.leaf.issuer_key, crowded.chain.intermediates.first().unwrap().issuer_key];
        for key in keys {
            assert_eq!(count(Wanted { issuer: Some(key), ..everybody.clone() }), 9);
        }
        let strange = Some(crowded.chain.leaf.public_key);
        assert_eq!(count(Wanted { issuer: strange, ..everybody.clone() }), 0);
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(count(Wanted { older_than: hour, ..everybody.clone() }), 0);
        assert_eq!(count(Wanted { older_than: Some(Duration::ZERO), ..everybody }), 9);
    }

    #[test]
    fn whoever_is_named_by_an_order_is_cut_once_and_told_no_more() {
        let crowded = Crowded::with(9);
        let wanted =
            Wanted { identity: Some(IdentityPattern::parse("uri:spiffe://td/1").unwrap()), ..Wanted::default() };
        let named = crowded.whole(&wanted, &Task::Name);
        assert_eq!(crowded.rows(&Wanted::default()).len(), 9, "to be named harms nobody");
        let ended = crowded.whole(&wanted, &order());
        assert_eq!((ended.names.len(), &ended.names), (3, &named.names));
        assert!(crowded.whole(&wanted, &order()).names.is_empty(), "what is cut is not cut again");
        assert_eq!(crowded.rows(&Wanted::default()).len(), 6);
        for (_, connection) in crowded.worker.connections.borrow().iter() {
            let cut = connection.cut_reason();
            assert_eq!(cut.is_some(), connection.id % 3 == 1);
            if let Some(cut) = cut {
                assert_eq!((&cut.denial, cut.order.as_ref().unwrap().by.as_str()), (&Denial::Ended, "anna"));
                assert!(connection.permit(&crowded.worker.live, crowded.worker.live.now()).is_err());
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_ended_for_somebody_who_was_told_that_nothing_was() {
        let crowded = Crowded::with(3);
        let tasks = LocalSet::new();
        let (sender, questions) = tokio::sync::mpsc::channel(1);
        let (answer, told) = oneshot::channel();
        drop(told);
        sender.try_send(Question { wanted: Arc::default(), task: order(), from: 0, answer }).ok().unwrap();
        drop(sender);
        tasks.run_until(answer_for_ever(crowded.worker.clone(), questions)).await;
        assert_eq!(crowded.rows(&Wanted::default()).len(), 3);
    }
}
