//! Which limit bit: the closed list behind `portcullis_limits_total`, and the one place that counts and tells it.
//!
//! Called wherever one of `config::Limits` refuses or ends something. It must never decide: whoever calls has done so.

use std::net::SocketAddr;

use crate::audit::{self, Ration};
use crate::connection::Connection;
use crate::worker::Worker;

/// A limit that can refuse or end something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// All connections were taken: a new client was refused, or a silent one went in its favour.
    Connections,
    /// All connections of one identity were taken.
    ConnectionsPerIdentity,
    /// All handshakes were under way: the one that was silent for longest ended.
    Handshakes,
    /// A handshake took too long.
    HandshakeTimeout,
    /// A request's head was too large.
    HeaderBytes,
    /// It had too many fields.
    HeaderCount,
    /// It took too long.
    RequestHeadTimeout,
    /// A body's bytes did not come, or were not taken.
    BodyTimeout,
    /// A client opened more streams than it may.
    Streams,
    /// Or had more requests under way.
    RequestsPerSession,
    /// All connections to the apps were in use.
    AppConnections,
    /// The app took too long.
    AppTimeout,
    /// An HTTP/2 client sent too much that carries nothing.
    Flood,
}

impl Bound {
    /// Every label, in the order of the variants.
    pub(crate) const LABELS: [&'static str; 13] = [
        "connections",
        "connections_per_identity",
        "handshakes",
        "handshake_timeout",
        "header_bytes",
        "header_count",
        "request_head_timeout",
        "body_timeout",
        "streams",
        "requests_per_session",
        "app_connections",
        "app_timeout",
        "flood",
    ];

    /// One fixed word; where there is a flag, its name.
    pub(crate) fn label(self) -> &'static str {
        Bound::LABELS.get(self as usize).copied().unwrap_or("flood")
    }
}

/// Lines about limits are rationed for each of them, so that none drowns another.
pub(crate) struct Rations([Ration; Bound::LABELS.len()]);

impl Rations {
    pub(crate) fn new() -> Rations {
        Rations(std::array::from_fn(|_| Ration::new()))
    }
}

impl Worker {
    /// A limit bit a client at `peer` of whom no more is known than `identity`.
    pub(crate) fn limited(&self, bound: Bound, peer: SocketAddr, identity: Option<&str>) {
        self.metrics.limited(bound);
        if let Some(suppressed) = self.bound_rations.0.get(bound as usize).and_then(Ration::take) {
            audit::limited(bound.label(), (peer, identity), suppressed);
        }
    }

    /// A limit bit this session.
    pub(crate) fn limited_session(&self, bound: Bound, connection: &Connection) {
        self.limited(bound, connection.peer, Some(connection.session().chain.identity.typed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_its_variants_name() {
        let variants = [
            Bound::Connections,
            Bound::ConnectionsPerIdentity,
            Bound::Handshakes,
            Bound::HandshakeTimeout,
            Bound::HeaderBytes,
            Bound::HeaderCount,
            Bound::RequestHeadTimeout,
            Bound::BodyTimeout,
            Bound::Streams,
            Bound::RequestsPerSession,
            Bound::AppConnections,
            Bound::AppTimeout,
            Bound::Flood,
        ];
        assert_eq!(variants.len(), Bound::LABELS.len());
        for bound in variants {
            assert_eq!(bound.label().replace('_', ""), format!("{bound:?}").to_lowercase());
        }
    }
}
