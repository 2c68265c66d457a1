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

/// Of the window this much is for asking; in the rest the requests of whoever was asked last come to their ends.
const ASKING: (u32, u32) = (3, 4);
/// A session that rested for so long is closed without a further request: one that is used more often than that is
/// told by its next answer, since a close may cross a request on its way (RFC 9112 §9.3.1).
const REST: Duration = Duration::from_millis(500);
/// Moments are rounded to this, so that a worker wakes a hundred times a second at the most.
const GRAIN: i64 = 10;
/// At a stop, so much for each session: their clients shake hands elsewhere, at half a millisecond of CPU each.
const STOP_SHARE: Duration = Duration::from_millis(1);
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
}

/// When a session is asked to leave, and for which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// The epoch under which it was planned.
    epoch: u64,
    at: Time,
    end: Time,
    limit: Option<Limit>,
}

impl Departure {
    pub(crate) const NONE: Departure = Departure { epoch: 0, at: Time::NEVER, end: Time::NEVER, limit: None };

    /// How long a connection rests before it is closed, once its client was asked.
    fn rest(&self) -> Duration {
        REST.min(self.end.since(self.at) / 4)
    }
}

/// Asks a session to leave if its moment has come, and has it closed when it rests; returns when to look again.
pub(crate) fn see_off(worker: &Worker, connection: &Connection) -> Time {
    let departure = planned(worker, connection);
    if departure.at == Time::NEVER || connection.is_stopping() || connection.leaving() == Leaving::Closing {
        return Time::NEVER;
    }
    let now = worker.live.now();
    if now < departure.at {
        return departure.at;
    }
    if connection.ask_to_leave()
        && let Some(limit) = departure.limit
    {
        worker.metrics.endings.drained(Some(limit));
        audit::draining(connection, (limit, departure.end.since(now)), &worker.live);
    }
    // While a request is open there is nothing to wait for: its end has this looked at again.
    let rested = connection.session().idle_since().map_or(Time::NEVER, |since| since.plus(departure.rest()));
    if rested > now {
        return rested;
    }
    connection.close_when_idle();
    Time::NEVER
}

/// The last request of a session ended: if its client was asked to leave before, it may rest now.
pub(crate) fn request_ended(worker: &Worker, connection: &Connection) {
    if connection.leaving() == Leaving::Asked && connection.open_requests() == 0 {
        worker.wake_for(see_off(worker, connection));
    }
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
    let planned = planned_end(&session, &published.state).and_then(|(limit, end)| {
        let at = moment((session.opened_at, end), worker.limits.drain, connection.id)?;
        Some(Departure { epoch, at, end, limit: Some(limit) })
    });
    let departure = planned.unwrap_or(Departure { epoch, ..Departure::NONE });
    connection.departure.set(departure);
    departure
}

/// The moment at which the session of this number is asked to leave, if it lives for so long and the window is so wide.
/// A session that lives for less than twice the window is left alone for its first half: its client would be sent away
/// as soon as it came, and come again.
fn moment((opened, end): (Time, Time), window: Duration, number: u64) -> Option<Time> {
    let window = window.min(end.since(opened) / 2);
    let millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    let (asking, whole) = ASKING;
    let begin = Time::from_millis(end.as_millis().saturating_sub(millis));
    let at = begin.plus(share(window * asking / whole, number)).as_millis();
    (millis >= GRAIN).then(|| Time::from_millis(at - at.rem_euclid(GRAIN)))
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
/// at `Limits::stop`. With few sessions nobody is waited for but those that have just been used.
pub(crate) async fn see_all_off(worker: &Worker) {
    let (began, limits) = (monotonic(), &worker.limits);
    let (asking, whole) = ASKING;
    let count = worker.vitals.sessions.load(Ordering::Relaxed).saturating_mul(worker.workers);
    let spread = STOP_SHARE.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    let spread = spread.min(limits.drain).min(limits.stop * asking / whole);
    let rest = REST.min(limits.stop / 8);
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
            if connection.ask_to_leave() {
                worker.metrics.endings.drained(None);
            }
            if connection.quiet_since().is_some_and(|since| since.elapsed() >= rest) {
                connection.close_when_idle();
            }
        }
        sleep(STOP_BEAT).await;
    }
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
    fn a_thousand_sessions_are_asked_evenly_over_the_first_three_quarters_of_the_window() {
        let moments: Vec<i64> = (1..=1000)
            .map(|number| moment((at(0), at(HOUR)), WINDOW, number).unwrap().as_millis() - (HOUR - 30_000))
            .collect();
        assert!(moments.iter().all(|moment| (0..22_500).contains(moment)), "{moments:?}");
        // In each of 45 slots of half a second about 22 of them.
        for slot in 0..45 {
            let count = moments.iter().filter(|moment| *moment / 500 == slot).count();
            assert!((20..=25).contains(&count), "{count} in the slot {slot}");
        }
        assert_eq!(moment((at(0), at(HOUR)), WINDOW, 7), moment((at(0), at(HOUR)), WINDOW, 7));
    }

    #[test]
    fn a_session_shorter_than_twice_the_window_is_left_alone_for_its_first_half() {
        for number in 1..=1000 {
            let moment = moment((at(1_000), at(5_000)), WINDOW, number).unwrap();
            assert!((3_000..4_500).contains(&moment.as_millis()), "{moment:?}");
        }
    }

    #[test]
    fn nobody_is_asked_without_a_window_or_without_a_life() {
        assert_eq!(moment((at(0), at(HOUR)), Duration::ZERO, 1), None);
        assert_eq!(moment((at(5_000), at(5_010)), WINDOW, 1), None);
        assert_eq!(moment((at(5_000), at(4_000)), WINDOW, 1), None);
    }

    #[test]
    fn the_ends_of_time_do_no_harm() {
        let longest = Duration::MAX;
        for (opened, end) in [(Time::BEGINNING, Time::NEVER), (at(0), Time::NEVER), (Time::BEGINNING, at(0))] {
            let moment = moment((opened, end), longest, u64::MAX).unwrap();
            assert!(opened <= moment && moment <= end, "{moment:?}");
        }
    }
}
