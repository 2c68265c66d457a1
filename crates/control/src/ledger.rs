//! What auditors read of the control listener: one line for each change that was asked for, and for each guest who was
//! turned away or whose trust ended.
//!
//! Called by `control.rs` and `api.rs`. No key material and nothing of what was uploaded but names and numbers. It must
//! never let strangers fill the log: lines that they can cause are rationed.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proxy::Turned;
use tokio::time::Instant;
use tracing::{info, warn};
use trust::Denial;

use crate::caller::Caller;
use crate::problem::Problem;

/// A change that was asked for.
pub(crate) struct Asked<'a> {
    pub(crate) caller: &'a Caller,
    /// One fixed word.
    pub(crate) action: &'static str,
    /// A list's name and number, a denial's id, a digest; as far as it is known.
    pub(crate) what: &'a str,
}

/// It was done, as `result` and `detail` say.
pub(crate) fn done(asked: &Asked<'_>, (result, detail): (&str, &str)) {
    info!(
        target: "portcullis",
        event = "control",
        who = asked.caller.who(),
        serial = asked.caller.serial(),
        peer = asked.caller.peer().map(tracing::field::display),
        action = asked.action,
        what = asked.what,
        result,
        detail,
    );
}

/// It was refused.
pub(crate) fn refused(asked: &Asked<'_>, problem: &Problem) {
    warn!(
        target: "portcullis",
        event = "control",
        who = asked.caller.who(),
        serial = asked.caller.serial(),
        peer = asked.caller.peer().map(tracing::field::display),
        action = asked.action,
        what = asked.what,
        result = "refused",
        reason = problem.label,
        status = problem.status().as_u16(),
        detail = problem.detail,
    );
}

/// An open connection was ended because trust did.
pub(crate) fn cut(caller: &Caller, denial: &Denial) {
    warn!(
        target: "portcullis",
        event = "control_cut",
        who = caller.who(),
        serial = caller.serial(),
        peer = caller.peer().map(tracing::field::display),
        reason = denial.label(),
        detail = denial.to_string(),
    );
}

/// Lines a second about strangers.
const RATION: u32 = 20;

/// Lines that strangers can cause.
pub(crate) struct Ration(Mutex<Spent>);

struct Spent {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl Ration {
    pub(crate) fn new() -> Ration {
        Ration(Mutex::new(Spent { since: Instant::now(), lines: 0, suppressed: 0 }))
    }

    /// Lines suppressed since the last one, or that this one is.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(spent.since) >= Duration::from_secs(1) {
            (spent.since, spent.lines) = (now, 0);
        }
        if spent.lines >= RATION {
            spent.suppressed = spent.suppressed.saturating_add(1);
            return None;
        }
        spent.lines += 1;
        Some(std::mem::take(&mut spent.suppressed))
    }

    /// Somebody did not come in.
    pub(crate) fn turned_away(&self, peer: SocketAddr, turned: &Turned) {
        let Some(suppressed) = self.take(Instant::now()) else { return };
        warn!(
            target: "portcullis",
            event = "control_turned_away",
            who = turned.identity,
            peer = %peer,
            reason = turned.label,
            detail = turned.sentence,
            suppressed,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_twenty_lines_a_second_and_the_rest_is_counted() {
        let ration = Ration::new();
        let now = Instant::now();
        for _ in 0..RATION {
            assert_eq!(ration.take(now), Some(0));
        }
        assert_eq!((ration.take(now), ration.take(now)), (None, None));
        let later = now + Duration::from_secs(2);
        assert_eq!((ration.take(later), ration.take(later)), (Some(2), Some(0)));
    }
}
