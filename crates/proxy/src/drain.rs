//! The gentle end: a session is asked to leave before an end that was planned, and when the proxy stops.
//!
//! `sweep.rs` comes here with each look at a session, `worker.rs` when the proxy stops; `request.rs`, `http1.rs` and
//! `http2.rs` pass the wish on to the client. Of many sessions each has a moment of its own, so that their clients do
//! not all come back in one instant. It must never put a cut off: at its end a session is cut, asked before or not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use trust::{Limit, Time, planned_end};

use crate::audit;
use crate::clock::monotonic;
use crate::connection::Connection;
use crate::worker::Worker;

/// Of the window, in twentieths: for asking; and from when and for how long connections are closed that rest even then.
/// In between, whoever comes at all is told by an answer: a close may cross a request on its way, and the client cannot
/// know whether that was served (RFC 9112 §9.3.1). What is left is for the requests of those who came last.
const ASKING: u32 = 10;
const CLOSING: (u32, u32) = (15, 4);
const WHOLE: u32 = 20;
/// Moments are rounded to this, so that a worker wakes a hundred times a second at the most.
const GRAIN: i64 = 10;
/// At a stop, so much for each session: their clients shake hands elsewhere, at half a millisecond of CPU each.
const STOP_SHARE: Duration = Duration::from_millis(1);
/// At a stop, a connection has to rest for so long, and for so many times as long as it used to between two requests,
/// before it is closed without a further one.
const STOP_REST: Duration = Duration::from_millis(500);
const STOP_RESTS: u32 = 3;
/// At a stop, how long an HTTP/2 client may take to read what it was sent, and to close its side.
const STOP_LINGER: Duration = Duration::from_secs(2);
/// At a stop, how often a worker looks whether sessions have become idle.
const STOP_BEAT: Duration = Duration::from_millis(10);
/// At a stop, how long handshakes under way are waited for when nobody else is left.
const HANDSHAKES: Duration = Duration::from_secs(1);

/// How far a session is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaving {
    /// It stays.
    #[default]
    No,
    /// The client is asked to go: by the next answer, or by GOAWAY.
    Asked,
    /// An idle HTTP/1.1 connection is closed as well.
    Closing,
    /// Our side is closed, and its client is not waited for any longer.
    Gone,
}

/// When a session is asked to leave, and for which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// The epoch under which it was planned.
    epoch: u64,
    asked: Time,
    /// A connection that rests is closed.
    closed: Time,
    end: Option<(Limit, Time)>,
}

impl Departure {
    pub(crate) const NONE: Departure = Departure { epoch: 0, asked: Time::NEVER, closed: Time::NEVER, end: None };
}

impl Connection {
    /// Its client is to be asked to go; whether that is news.
    pub(crate) fn ask_to_leave(&self) -> bool {
        self.leave(Leaving::Asked)
    }

    /// From now on an idle HTTP/1.1 connection is closed.
    pub(crate) fn close_when_idle(&self) {
        self.leave(Leaving::Closing);
    }

    fn leave(&self, leaving: Leaving) -> bool {
        let news = self.leaving.get() < leaving;
        if news {
            self.leaving.set(leaving);
            self.signal.notify_waiters();
        }
        news
    }

    /// Our side is closed; whether the client has something to read before its own is to be waited for.
    pub(crate) fn lingers(&self) -> bool {
        if self.lingers_since.get().is_none() {
            self.lingers_since.set(Some(monotonic()));
        }
        self.cut_reason().is_some() || self.is_leaving()
    }

    /// Whether that has lasted for so long.
    pub(crate) fn has_lingered(&self, span: Duration) -> bool {
        self.lingers_since.get().is_some_and(|since| since.elapsed() >= span)
    }

    /// Its client is not waited for any longer.
    pub(crate) fn let_go(&self) {
        self.leave(Leaving::Gone);
    }

    /// How far it is on its way out.
    pub(crate) fn leaving(&self) -> Leaving {
        self.leaving.get()
    }

    /// Whether its client is to be asked to go.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get() != Leaving::No
    }
}

/// Asks a session to leave if its moment has come, and has it closed when it rests; returns when to look again.
pub(crate) fn see_off(worker: &Worker, connection: &Connection) -> Time {
    if !connection.can_be_asked() {
        return Time::NEVER;
    }
    let departure = planned(worker, connection);
    let Some((limit, end)) = departure.end else { return Time::NEVER };
    if connection.is_stopping() || connection.leaving() >= Leaving::Closing {
        return Time::NEVER;
    }
    let now = worker.live.now();
    if now < departure.asked {
        return departure.asked;
    }
    if connection.ask_to_leave() {
        worker.metrics.endings.drained(Some(limit));
        audit::draining(connection, (limit, end.since(now)), &worker.live);
    }
    if now < departure.closed {
        return departure.closed;
    }
    connection.close_when_idle();
    Time::NEVER
}

/// The session's departure, planned once for each epoch that it was permitted under.
fn planned(worker: &Worker, connection: &Connection) -> Departure {
    let (known, (epoch, _)) = (connection.departure.get(), connection.judged());
    if known.epoch == epoch {
        return known;
    }
    let published = worker.live.current();
    if published.state.epoch != epoch {
        // Published meanwhile: the sweep comes by, permits it again or cuts it.
        return known;
    }
    let session = connection.session();
    let departure = planned_end(&session, &published.state).and_then(|(limit, end)| {
        let (asked, closed) = moments((session.opened_at, end), worker.limits.drain, connection.id)?;
        Some(Departure { epoch, asked, closed, end: Some((limit, end)) })
    });
    let departure = departure.unwrap_or(Departure { epoch, ..Departure::NONE });
    connection.departure.set(departure);
    departure
}

/// The moments at which the session of this number is asked to leave, and closed if it rests; none if the window is too
/// narrow for both. A session that lives for less than twice the window is left alone for its first half: its client
/// would be sent away as soon as it came, and come again.
fn moments((opened, end): (Time, Time), window: Duration, number: u64) -> Option<(Time, Time)> {
    let window = window.min(end.since(opened) / 2);
    let millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    let begin = Time::from_millis(end.as_millis().saturating_sub(millis));
    let part = |twentieths: u32| window / WHOLE * twentieths;
    let rounded = |moment: Time| Time::from_millis(moment.as_millis() - moment.as_millis().rem_euclid(GRAIN));
    let asked = begin.plus(share(part(ASKING), number));
    let (from, long) = CLOSING;
    let closed = begin.plus(part(from)).plus(share(part(long), number));
    (millis >= 2 * GRAIN).then(|| (rounded(asked), rounded(closed)))
}

/// The place of a number in a span. Multiples of the golden ratio lie evenly, however many follow one another (Knuth,
/// The Art of Computer Programming, volume 3, §6.4).
fn share(span: Duration, number: u64) -> Duration {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let place = number.wrapping_mul(GOLDEN) >> 32;
    let nanos = (span.as_nanos() * u128::from(place)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The proxy stops: asks every session of the worker to leave, each at its moment; returns when the last is closed, or
/// at `Limits::stop`. With few sessions nobody is waited for but those that are used.
pub(crate) async fn see_all_off(worker: &Worker) {
    let (began, limits) = (monotonic(), &worker.limits);
    let count = worker.vitals.sessions.load(Ordering::Relaxed).saturating_mul(worker.workers);
    let spread = STOP_SHARE.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    let spread = spread.min(limits.drain).min(limits.stop * ASKING / WHOLE);
    let last_call = limits.stop * (WHOLE - 1) / WHOLE;
    loop {
        let elapsed = began.elapsed();
        let shaking_hands = worker.vitals.sessions.load(Ordering::Relaxed) > 0 && elapsed < HANDSHAKES;
        if worker.connections.borrow().is_empty() && !shaking_hands {
            return;
        }
        if elapsed >= limits.stop {
            // Whoever is left is closed by the end of the worker's runtime, and no answer may look whole by that.
            worker.connections.borrow().iter().for_each(|(_, connection)| connection.gate.shut());
            return;
        }
        for (_, connection) in worker.connections.borrow().iter() {
            connection.stop();
            if elapsed < share(spread, connection.id) {
                continue;
            }
            if connection.can_be_asked() && connection.ask_to_leave() {
                worker.metrics.endings.drained(None);
            }
            if elapsed >= last_call || rests(connection) {
                connection.close_when_idle();
            }
            if connection.has_lingered(STOP_LINGER) {
                connection.let_go();
            }
        }
        sleep(STOP_BEAT).await;
    }
}

/// Whether a connection has been idle for longer than it used to be between two requests.
fn rests(connection: &Connection) -> bool {
    connection.quiet_since().is_some_and(|since| {
        let requests = u32::try_from(connection.requests()).unwrap_or(u32::MAX).max(1);
        let usual = since.saturating_duration_since(connection.opened) / requests;
        since.elapsed() >= STOP_REST.max(usual.saturating_mul(STOP_RESTS))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn at(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    const HOUR: i64 = 3_600_000;
    const WINDOW: Duration = Duration::from_secs(30);

    #[test]
    fn a_thousand_sessions_are_asked_evenly_over_the_first_half_of_the_window() {
        let begin = HOUR - 30_000;
        let moments: Vec<_> = (1..=1000).map(|number| moments((at(0), at(HOUR)), WINDOW, number).unwrap()).collect();
        let asked: Vec<_> = moments.iter().map(|(asked, _)| asked.as_millis() - begin).collect();
        assert!(asked.iter().all(|moment| (0..15_000).contains(moment)), "{asked:?}");
        // In each of 30 slots of half a second about 33 of them.
        for slot in 0..30 {
            let count = asked.iter().filter(|moment| *moment / 500 == slot).count();
            assert!((30..=37).contains(&count), "{count} in the slot {slot}");
        }
        assert_eq!(super::moments((at(0), at(HOUR)), WINDOW, 1), moments.first().copied());
    }

    #[test]
    fn between_the_asking_and_the_close_of_a_resting_connection_lies_much_of_the_window_and_some_is_left_behind() {
        for number in 1..=1000 {
            let (asked, closed) = moments((at(0), at(HOUR)), WINDOW, number).unwrap();
            assert!(closed.since(asked) >= Duration::from_secs(13), "{asked:?} {closed:?}");
            assert!(at(HOUR).since(closed) >= Duration::from_millis(1_500), "{closed:?}");
        }
    }

    #[test]
    fn a_session_shorter_than_twice_the_window_is_left_alone_for_its_first_half() {
        for number in 1..=1000 {
            let (asked, closed) = moments((at(1_000), at(5_000)), WINDOW, number).unwrap();
            assert!((3_000..4_000).contains(&asked.as_millis()), "{asked:?}");
            assert!((4_500..4_900).contains(&closed.as_millis()), "{closed:?}");
        }
    }

    #[test]
    fn nobody_is_asked_without_a_window_or_without_a_life() {
        assert_eq!(moments((at(0), at(HOUR)), Duration::ZERO, 1), None);
        assert_eq!(moments((at(5_000), at(5_010)), WINDOW, 1), None);
        assert_eq!(moments((at(5_000), at(4_000)), WINDOW, 1), None);
    }

    #[test]
    fn the_ends_of_time_do_no_harm() {
        for (opened, end) in [(Time::BEGINNING, Time::NEVER), (at(0), Time::NEVER), (Time::BEGINNING, at(0))] {
            let (asked, closed) = moments((opened, end), Duration::MAX, u64::MAX).unwrap();
            assert!(opened <= asked && asked <= closed && closed <= end, "{asked:?} {closed:?}");
        }
    }
}
