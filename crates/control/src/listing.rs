//! Sessions as operators read them: one as a JSON object, many as a document that is made while it is sent.
//!
//! Made by `sessions.rs`, sent by `body.rs`. Each session stands on a line of its own. It must never hold more of a list
//! than the few sessions that one worker told at once.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use proxy::{Live, Roster, Row};
use serde::Serialize;
use sources::show;
use trust::Time;

/// A session.
#[derive(Serialize)]
pub(crate) struct SessionRecord {
    id: u64,
    identity: String,
    serial: String,
    issuer_key: String,
    chain_not_after: String,
    peer: String,
    inbound: String,
    protocol: &'static str,
    tls: TlsRecord,
    opened_at: String,
    age_seconds: f64,
    requests: u64,
    open_requests: u32,
    bytes_received: u64,
    bytes_sent: u64,
    parked: bool,
    leaving: bool,
    epoch: u64,
    /// What ends it first, when, and how long that is from now; `None` if nothing does by itself.
    ends_by: Option<&'static str>,
    ends_at: Option<String>,
    seconds_left: Option<f64>,
}

#[derive(Serialize)]
struct TlsRecord {
    version: &'static str,
    cipher_suite: String,
    key_exchange: &'static str,
}

impl SessionRecord {
    /// `listening` are the addresses of the inbounds.
    pub(crate) fn of(row: Row, listening: &[SocketAddr], now: Time) -> SessionRecord {
        let serial = row.serial.iter().fold(String::new(), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        });
        SessionRecord {
            id: row.id,
            identity: row.identity,
            serial,
            issuer_key: row.issuer_key.to_string(),
            chain_not_after: show(row.chain_not_after),
            peer: row.peer.to_string(),
            inbound: listening.get(row.inbound).map(SocketAddr::to_string).unwrap_or_default(),
            protocol: row.negotiated.protocol(),
            tls: TlsRecord {
                version: row.negotiated.tls_version(),
                cipher_suite: row.negotiated.cipher_suite(),
                key_exchange: row.negotiated.key_exchange(),
            },
            opened_at: show(row.opened_at),
            age_seconds: row.age.as_secs_f64(),
            requests: row.requests,
            open_requests: row.open,
            bytes_received: row.received,
            bytes_sent: row.sent,
            parked: row.parked,
            leaving: row.leaving,
            epoch: row.epoch,
            ends_by: row.ends.map(|(limit, _)| limit.label()),
            ends_at: row.ends.map(|(_, end)| show(end)),
            seconds_left: row.ends.map(|(_, end)| end.since(now).as_secs_f64()),
        }
    }
}

/// Where a list stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Rows,
    Over,
}

/// A list on its way.
pub(crate) struct Listing {
    live: Arc<Live>,
    listening: Arc<[SocketAddr]>,
    roster: Roster,
    limit: usize,
    told: usize,
    /// Sessions were left out because of the limit.
    more: bool,
    stage: Stage,
}

impl Listing {
    /// Of at most `limit` sessions.
    pub(crate) fn new((live, listening): (Arc<Live>, Arc<[SocketAddr]>), roster: Roster, limit: usize) -> Listing {
        Listing { live, listening, roster, limit, told: 0, more: false, stage: Stage::Head }
    }

    /// The next piece, with what makes the one after; `None` at the end.
    pub(crate) async fn next(mut self) -> Option<(Bytes, Listing)> {
        let text = match self.stage {
            Stage::Over => return None,
            Stage::Head => self.head(),
            Stage::Rows => match self.roster.next().await {
                Some(rows) => self.rows(rows),
                None => self.tail(),
            },
        };
        Some((Bytes::from(text), self))
    }

    fn head(&mut self) -> Vec<u8> {
        self.stage = Stage::Rows;
        format!("{{\"epoch\":{},\"now\":\"{}\",\"sessions\":[", self.live.epoch(), show(self.live.now())).into_bytes()
    }

    fn rows(&mut self, rows: Vec<Row>) -> Vec<u8> {
        let (mut text, now) = (Vec::new(), self.live.now());
        for row in rows {
            if self.told == self.limit {
                self.more = true;
                text.extend(self.tail());
                break;
            }
            text.extend_from_slice(if self.told == 0 { b"\n" } else { b",\n" });
            let record = SessionRecord::of(row, &self.listening, now);
            // Nothing in a record can fail to be written; half a one would make the document unreadable, and so told.
            let _ = serde_json::to_writer(&mut text, &record);
            self.told += 1;
        }
        text
    }

    fn tail(&mut self) -> Vec<u8> {
        self.stage = Stage::Over;
        let (count, more, unheard) = (self.told, self.more, self.roster.unheard());
        format!("\n],\"count\":{count},\"more\":{more},\"unheard\":{unheard}}}\n").into_bytes()
    }
}
