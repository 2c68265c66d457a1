//! The PROXY protocol, version 2: what a TCP app is told about its client before the client's first byte.
//!
//! Called by `tcp.rs`. Pure: facts in, bytes out (HAProxy's proxy-protocol.txt, §2.2). It must never write a value that
//! was not verified.

use std::net::{IpAddr, SocketAddr};

use rustls::{CipherSuite, ProtocolVersion};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and on behalf of somebody else (§2.2).
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

const ALPN: u8 = 0x01;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_COMMON_NAME: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;
/// Not in the specification: what Istio's ztunnel sends, and Envoy-based waypoints read, for a client's SPIFFE ID.
const SPIFFE_ID: u8 = 0xd0;

/// RFC 5280's bound on a common name is 64 characters, which are 256 bytes at most.
const LONGEST_NAME: usize = 256;

/// By TLS, with a certificate shown on this connection, and in this session.
const CLIENT: u8 = 0x01 | 0x02 | 0x04;
/// The certificate was verified.
const VERIFIED: [u8; 4] = [0; 4];

/// What the app is told.
pub(crate) struct Introduction<'a> {
    /// The client's address.
    pub(crate) source: SocketAddr,
    /// Where it reached us.
    pub(crate) destination: SocketAddr,
    /// The session's number in our log.
    pub(crate) session: u64,
    pub(crate) alpn: Option<&'a [u8]>,
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) cipher: Option<CipherSuite>,
    pub(crate) common_name: Option<&'a str>,
    pub(crate) spiffe_id: Option<&'a str>,
}

impl Introduction<'_> {
    /// The header.
    pub(crate) fn header(&self) -> Vec<u8> {
        let (family, mut rest) = addresses(self.source, self.destination);
        if let Some(alpn) = self.alpn {
            put(&mut rest, ALPN, alpn);
        }
        put(&mut rest, UNIQUE_ID, self.session.to_string().as_bytes());
        put(&mut rest, SSL, &self.ssl());
        if let Some(id) = self.spiffe_id {
            put(&mut rest, SPIFFE_ID, id.as_bytes());
        }
        let mut header = SIGNATURE.to_vec();
        header.extend([PROXY, family]);
        header.extend(u16::try_from(rest.len()).unwrap_or(0).to_be_bytes());
        header.extend(rest);
        header
    }

    fn ssl(&self) -> Vec<u8> {
        let mut value = vec![CLIENT];
        value.extend(VERIFIED);
        let known = [(ProtocolVersion::TLSv1_2, "TLSv1.2"), (ProtocolVersion::TLSv1_3, "TLSv1.3")];
        let version = known.iter().find(|(version, _)| self.version == Some(*version)).map(|(_, name)| *name);
        let texts = [
            (SSL_VERSION, version),
            // A name cut short would be another name.
            (SSL_COMMON_NAME, self.common_name.filter(|name| name.len() <= LONGEST_NAME)),
            (SSL_CIPHER, self.cipher.and_then(cipher_name)),
        ];
        for (kind, text) in texts {
            if let Some(text) = text {
                put(&mut value, kind, text.as_bytes());
            }
        }
        value
    }
}

/// One field: type, length, value.
fn put(to: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len()) {
        to.push(kind);
        to.extend(length.to_be_bytes());
        to.extend(value);
    }
}

/// The address block and its family. A socket for both families shows IPv4 clients as mapped addresses.
fn addresses(source: SocketAddr, destination: SocketAddr) -> (u8, Vec<u8>) {
    let mut block = Vec::with_capacity(512);
    let family = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            block.extend(from.octets());
            block.extend(to.octets());
            TCP_OVER_IPV4
        }
        (from, to) => {
            for address in [from, to] {
                let six = match address {
                    IpAddr::V4(four) => four.to_ipv6_mapped(),
                    IpAddr::V6(six) => six,
                };
                block.extend(six.octets());
            }
            TCP_OVER_IPV6
        }
    };
    block.extend(source.port().to_be_bytes());
    block.extend(destination.port().to_be_bytes());
    (family, block)
}

/// OpenSSL's names, which readers of this protocol know, of every suite that we may agree on.
const CIPHERS: [(CipherSuite, &str); 9] = [
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"),
];

fn cipher_name(suite: CipherSuite) -> Option<&'static str> {
    CIPHERS.iter().find(|(known, _)| *known == suite).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn introduction<'a>(source: &str, destination: &str) -> Introduction<'a> {
        Introduction {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            session: 7,
            alpn: None,
            version: Some(ProtocolVersion::TLSv1_3),
            cipher: Some(CipherSuite::TLS13_AES_256_GCM_SHA384),
            common_name: None,
            spiffe_id: None,
        }
    }

    #[test]
    fn the_header_of_an_ipv4_client_is_laid_out_as_the_specification_says() {
        let told = Introduction {
            common_name: Some("ann"),
            spiffe_id: Some("spiffe://td/a"),
            alpn: Some(b"postgresql"),
            ..introduction("192.0.2.1:258", "198.51.100.2:8443")
        };
        let mut wanted = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a".to_vec();
        // Version 2 and PROXY, TCP over IPv4, 12 bytes of addresses and 82 of fields.
        wanted.extend(b"\x21\x11\x00\x5e");
        wanted.extend([192, 0, 2, 1, 198, 51, 100, 2, 0x01, 0x02, 0x20, 0xfb]);
        wanted.extend(b"\x01\x00\x0apostgresql");
        wanted.extend(b"\x05\x00\x017");
        wanted.extend(b"\x20\x00\x2e\x07\x00\x00\x00\x00");
        wanted.extend(b"\x21\x00\x07TLSv1.3");
        wanted.extend(b"\x22\x00\x03ann");
        wanted.extend(b"\x23\x00\x16TLS_AES_256_GCM_SHA384");
        wanted.extend(b"\xd0\x00\x0dspiffe://td/a");
        assert_eq!(told.header(), wanted);
    }

    #[test]
    fn an_ipv6_client_is_shown_as_such_and_a_mapped_one_as_the_ipv4_client_that_it_is() {
        let header = introduction("[2001:db8::1]:1", "[2001:db8::2]:2").header();
        assert_eq!(header[12..14], [0x21, 0x21]);
        let mut block = vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        block.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 2]);
        assert_eq!(header[16..52], block);
        let mapped = introduction("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2").header();
        assert_eq!(mapped, introduction("192.0.2.1:1", "192.0.2.2:2").header());
        let both = introduction("192.0.2.1:1", "[2001:db8::2]:2").header();
        assert_eq!(both[12..14], [0x21, 0x21]);
        assert_eq!(both[16..32], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    }

    #[test]
    fn the_length_counts_what_follows_and_what_no_reader_would_take_is_left_out() {
        let long = "a".repeat(257);
        for name in [None, Some("a"), Some(&long[..256]), Some(&long[..])] {
            let header = Introduction { common_name: name, ..introduction("192.0.2.1:1", "192.0.2.2:2") }.header();
            let length = usize::from(header[14]) << 8 | usize::from(header[15]);
            assert_eq!(header.len(), 16 + length);
            let told = name.filter(|name| name.len() < 257).map_or(0, |name| 3 + name.len());
            assert_eq!(length, 12 + 4 + 3 + 5 + 10 + 25 + told);
        }
    }

    #[test]
    fn every_cipher_suite_that_may_be_agreed_on_has_its_name() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            assert!(cipher_name(suite.suite()).is_some(), "{:?}", suite.suite());
        }
    }
}
