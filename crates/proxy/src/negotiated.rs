//! What a session's two sides agreed on in the handshake.
//!
//! Noted by `worker.rs` when a session begins, told by `roster.rs`. A few bytes and no text, since each session has
//! one. It must never decide anything.

use rustls::server::ServerConnection;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

/// Protocol and TLS parameters of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    protocol: &'static str,
    version: Option<ProtocolVersion>,
    suite: Option<CipherSuite>,
    group: Option<NamedGroup>,
}

impl Negotiated {
    /// After the handshake; `protocol` is the word of the audit.
    pub(crate) fn new(tls: &ServerConnection, protocol: &'static str) -> Negotiated {
        Negotiated {
            protocol,
            version: tls.protocol_version(),
            suite: tls.negotiated_cipher_suite().map(|suite| suite.suite()),
            group: tls.negotiated_key_exchange_group().map(|group| group.name()),
        }
    }

    /// `http1`, `http2` or `tcp`.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// `1.3` or `1.2`.
    #[must_use]
    pub fn tls_version(&self) -> &'static str {
        if self.version == Some(ProtocolVersion::TLSv1_2) { "1.2" } else { "1.3" }
    }

    /// By IANA's name; empty if it has none here.
    #[must_use]
    pub fn cipher_suite(&self) -> String {
        // rustls names those of TLS 1.3 apart; IANA does not.
        self.suite.and_then(|suite| suite.as_str()).unwrap_or_default().replacen("TLS13_", "TLS_", 1)
    }

    /// The group of the key exchange, such as `X25519MLKEM768`; empty if it has no name here.
    #[must_use]
    pub fn key_exchange(&self) -> &'static str {
        self.group.and_then(|group| group.as_str()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_of_iana() {
        let named = |suite| Negotiated { suite: Some(suite), ..Negotiated::default() }.cipher_suite();
        assert_eq!(named(CipherSuite::TLS13_AES_256_GCM_SHA384), "TLS_AES_256_GCM_SHA384");
        let older = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        assert_eq!(named(older), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
        assert_eq!(named(CipherSuite::Unknown(0xfafa)), "");
    }
}
