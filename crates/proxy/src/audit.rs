//! What auditors read: one line for each session opened, denied, asked to leave, cut and closed, and for each that an entry which only
//! observes would deny.
//!
//! Called by `worker.rs`, `request.rs` and `observe.rs`. Writing is the subscriber's: bounded, and on a thread of its
//! own. No key material, no headers, no bodies.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use trust::{Chain, Denial, Limit};

use crate::clock::monotonic;
use crate::connection::{Connection, Cut};
use crate::handshake::Refusal;
use crate::live::Live;

pub(crate) fn serial(chain: &Chain) -> String {
    chain.leaf.serial.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// Under what a line was written: epoch, sequence, and only while it is so that what is in force is stale.
fn standing(live: &Live) -> (u64, u64, Option<bool>) {
    let stale = live.is_stale().then_some(true);
    let published = live.current();
    (published.state.epoch, published.state.snapshot().map_or(0, |snapshot| snapshot.sequence()), stale)
}

macro_rules! session_line {
    ($level:ident, $event:literal, $connection:expr, $live:expr $(, $field:ident = $value:expr)*) => {{
        let session = $connection.session();
        let (epoch, sequence, stale) = standing($live);
        $level!(
            target: "portcullis",
            event = $event,
            session = $connection.id,
            identity = session.chain.identity.typed(),
            serial = serial(&session.chain),
            issuer_key = %session.chain.leaf.issuer_key,
            peer = %$connection.peer,
            epoch,
            sequence,
            stale,
            $($field = $value,)*
        );
    }};
}

pub(crate) fn opened(connection: &Connection, live: &Live, tls: &str, protocol: &str) {
    session_line!(info, "session_opened", connection, live, tls = tls, protocol = protocol);
}

pub(crate) fn denied(connection: &Connection, denial: &Denial, live: &Live) {
    session_line!(warn, "request_denied", connection, live, reason = denial.label(), detail = denial.to_string());
}

/// With who ended it and why, if an operator did.
pub(crate) fn cut(connection: &Connection, cut: &Cut, live: &Live) {
    let (denial, order) = (&cut.denial, cut.order.as_deref());
    session_line!(
        warn,
        "session_cut",
        connection,
        live,
        reason = denial.label(),
        detail = denial.to_string(),
        by = order.map(|order| order.by.as_str()),
        why = order.map(|order| order.why.as_str())
    );
}

/// Its client is asked to leave before its planned end: which, and how far away it is.
pub(crate) fn draining(connection: &Connection, (limit, left): (Limit, Duration), live: &Live) {
    session_line!(info, "session_draining", connection, live, limit = limit.label(), left = left.as_secs_f64());
}

/// An entry that only observes would deny it.
pub(crate) fn would_deny(connection: &Connection, denial: &Denial, live: &Live) {
    session_line!(warn, "would_deny", connection, live, reason = denial.label(), detail = denial.to_string());
}

/// `cut_took`: from the publish or deadline that ended its trust to its last byte.
pub(crate) fn closed(connection: &Connection, (reason, cut_took): (&str, Option<Duration>), live: &Live) {
    session_line!(
        info,
        "session_closed",
        connection,
        live,
        reason = reason,
        requests = connection.requests(),
        bytes_received = connection.gate.received(),
        bytes_sent = connection.gate.sent(),
        seconds = connection.opened.elapsed().as_secs_f64(),
        cut_seconds = cut_took.map(|took| took.as_secs_f64())
    );
}

/// A limit refused or ended something; how many such lines were left out before this one.
pub(crate) fn limited(limit: &str, (peer, identity): (SocketAddr, Option<&str>), suppressed: u64) {
    warn!(target: "portcullis", event = "limit", limit, peer = %peer, identity, suppressed);
}

/// Lines about failed handshakes and limits: the only ones that anybody can cause at will, so they are rationed.
pub(crate) struct Ration {
    left: Cell<u32>,
    suppressed: Cell<u64>,
    since: Cell<Instant>,
}

/// Lines a second and worker.
const REFUSALS_A_SECOND: u32 = 20;

impl Ration {
    pub(crate) fn new() -> Ration {
        Ration { left: Cell::new(REFUSALS_A_SECOND), suppressed: Cell::new(0), since: Cell::new(monotonic()) }
    }

    /// How many lines were left out since the last, if this one may be written.
    pub(crate) fn take(&self) -> Option<u64> {
        if self.since.get().elapsed().as_secs() >= 1 {
            self.since.set(monotonic());
            self.left.set(REFUSALS_A_SECOND);
        }
        let Some(left) = self.left.get().checked_sub(1) else {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        };
        self.left.set(left);
        Some(self.suppressed.replace(0))
    }

    /// A handshake failed.
    pub(crate) fn refused(&self, peer: SocketAddr, refusal: &Refusal, live: &Live) {
        let Some(suppressed) = self.take() else { return };
        let (epoch, sequence, stale) = standing(live);
        let (reason, detail) = (refusal.label(), refusal.to_string());
        if let Refusal::Denial(_, chain) = refusal {
            warn!(
                target: "portcullis",
                event = "session_denied",
                identity = chain.identity.typed(),
                serial = serial(chain),
                issuer_key = %chain.leaf.issuer_key,
                peer = %peer, reason, detail, epoch, sequence, stale, suppressed
            );
        } else {
            warn!(
                target: "portcullis",
                event = "handshake_failed",
                peer = %peer, reason, detail, epoch, sequence, stale, suppressed
            );
        }
    }
}
