//! What the app sees of a request's head, and the client of a response's.
//!
//! Called by `request.rs` and `body.rs`. Pure on header maps. Identity headers are removed in every spelling before ours are
//! set, from heads and from trailers; hop-by-hop fields end here (RFC 9110 §7.6.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;
use std::net::IpAddr;
use trust::{Certificate, Session};

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The identity of a session in header values, made once and shared by its requests.
#[derive(Clone, Debug)]
pub(crate) struct IdentityHeaders {
    forwarded_client_cert: HeaderValue,
    client_cert: HeaderValue,
    client_cert_chain: Option<HeaderValue>,
    forwarded_for: HeaderValue,
}

impl IdentityHeaders {
    /// `None` if a value cannot be a header, which no certificate that made a session can cause.
    pub(crate) fn new(session: &Session, peer: IpAddr) -> Option<IdentityHeaders> {
        let leaf = session.presented.first()?;
        let der = |position: usize| session.presented.get(position);
        let chain: Vec<String> = (session.chain.intermediates.iter())
            .filter_map(|link| der(link.position))
            .map(|certificate| byte_sequence(certificate))
            .collect();
        let chain = (!chain.is_empty()).then(|| HeaderValue::from_str(&chain.join(", ")));
        Some(IdentityHeaders {
            forwarded_client_cert: HeaderValue::from_str(&forwarded_client_cert(leaf)?).ok()?,
            client_cert: HeaderValue::from_str(&byte_sequence(leaf)).ok()?,
            client_cert_chain: chain.transpose().ok()?,
            forwarded_for: HeaderValue::from_str(&peer.to_canonical().to_string()).ok()?,
        })
    }

    fn set(&self, headers: &mut HeaderMap) {
        headers.reserve(5);
        headers.insert(FORWARDED_CLIENT_CERT, self.forwarded_client_cert.clone());
        headers.insert(CLIENT_CERT, self.client_cert.clone());
        if let Some(chain) = &self.client_cert_chain {
            headers.insert(CLIENT_CERT_CHAIN, chain.clone());
        }
        headers.insert(FORWARDED_FOR, self.forwarded_for.clone());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
}

/// RFC 8941 §3.3.5, as RFC 9440 §2.1 asks.
fn byte_sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

/// Envoy's x-forwarded-client-cert: `Hash=…;Subject="…";URI=…;DNS=…`.
fn forwarded_client_cert(leaf: &[u8]) -> Option<String> {
    let certificate = Certificate::parse(leaf).ok()?;
    let mut value = format!("Hash={};Subject={}", certificate.fingerprint, quoted(&certificate.subject_text));
    for uri in &certificate.uris {
        let _ = write!(value, ";URI={}", quoted_if_needed(uri));
    }
    for name in &certificate.dns_names {
        let _ = write!(value, ";DNS={}", quoted_if_needed(name));
    }
    Some(value)
}

fn quoted(text: &str) -> String {
    let mut value = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => value.extend(['\\', character]),
            ' '..='~' => value.push(character),
            // Alternative names are IA5String, but the encoding lets anything through.
            other => other.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                let _ = write!(value, "%{byte:02X}");
            }),
        }
    }
    value.push('"');
    value
}

fn quoted_if_needed(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b';' | b'=' | b'"' | b'\\');
    if text.bytes().all(plain) { text.to_owned() } else { quoted(text) }
}

/// Makes a request's head fit for the app. `upgrade` ends here, and `te` but for trailers, which we pass on: an app
/// may send them only to who asked (RFC 9110 §6.5.1).
pub(crate) fn prepare_request(headers: &mut HeaderMap, identity: &IdentityHeaders) {
    let trailers = takes_trailers(headers);
    // We answered 100-continue ourselves when the body was first asked for.
    clean(headers, |name| names_identity(name.as_str()) || name.as_str() == "expect");
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // RFC 9110 §10.1.4 asks for this beside it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    identity.set(headers);
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter();
    let mut codings = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Makes a response's head, or its trailers, fit for the client.
pub(crate) fn prepare_response(headers: &mut HeaderMap) {
    clean(headers, |_| false);
}

/// Makes a request's trailers fit for the app, which may merge them into the head (RFC 9110 §6.5.1).
pub(crate) fn prepare_trailers(trailers: &mut HeaderMap) {
    clean(trailers, |name| names_identity(name.as_str()));
}

/// Removes the hop-by-hop fields, those that `Connection` names, and those that `also` names. One look at each
/// field that is there is a quarter of the price of looking for each that could be.
fn clean(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let mut removed: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        if is_hop_by_hop(name) || also(name) {
            removed.push(name.clone());
        }
    }
    if removed.contains(&header::CONNECTION) {
        let named = (headers.get_all(header::CONNECTION).iter())
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            // A client must not have the app's routing or framing removed by naming it here.
            .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::COOKIE));
        removed.extend(named.collect::<Vec<_>>());
    }
    for name in removed {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "te" | "upgrade"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "proxy-authenticate"
            | "proxy-authorization"
    )
}

/// Whether an app could read a field as one of ours. Gateways map names to variables in different ways (CGI: every
/// character that is no letter or digit becomes `_`), so all of those count as the same character.
fn names_identity(name: &str) -> bool {
    // Every name below begins so; most fields are done after one comparison.
    if !matches!(name.as_bytes().first(), Some(b'x' | b'c' | b'f')) {
        return false;
    }
    let same = |wanted: &str, given: &str| {
        wanted.len() == given.len()
            && wanted
                .bytes()
                .zip(given.bytes())
                .all(|(want, byte)| if want == b'-' { !byte.is_ascii_alphanumeric() } else { want == byte })
    };
    let begins = |wanted: &str| name.get(..wanted.len()).is_some_and(|start| same(wanted, start));
    begins("x-forwarded-")
        || same("x-forwarded", name)
        || same("x-real-ip", name)
        || same("forwarded", name)
        || same("client-cert", name)
        || same("client-cert-chain", name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn identity_fields_go_in_every_spelling_and_others_stay() {
        for name in [
            "x-forwarded-client-cert",
            "x_forwarded_client_cert",
            "x-forwarded_for",
            "x.forwarded.for",
            "x-forwarded-anything",
            "client-cert",
            "client_cert",
            "client-cert_chain",
            "forwarded",
            "x_real-ip",
        ] {
            assert!(names_identity(name), "{name}");
        }
        for name in ["x-request-id", "content-type", "forward", "client-certificate", "cookie", "x-forwardedfor"] {
            assert!(!names_identity(name), "{name}");
        }
    }

    #[test]
    fn hop_by_hop_fields_end_here_and_host_cannot_be_named_away() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-secret, Host"),
            ("x-secret", "1"),
            ("host", "a"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        prepare_response(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "host"]);
    }

    #[test]
    fn a_value_from_a_certificate_stays_inside_its_quotes() {
        assert_eq!(quoted("CN=\";URI=spiffe://td/x\\"), r#""CN=\";URI=spiffe://td/x\\""#);
        assert_eq!(quoted_if_needed("spiffe://td/a"), "spiffe://td/a");
        assert_eq!(quoted_if_needed("a;b"), "\"a;b\"");
        assert_eq!(quoted("a\r\né"), "\"a%0D%0A%C3%A9\"");
    }
}
