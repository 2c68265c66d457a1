//! From the flags that say which sessions to what the control API is asked.
//!
//! Used by the commands beside it. It must never leave out a flag that was given: one part less means more sessions.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::args::Which;
use crate::revocations::pem;
use crate::{Failure, duration};

/// The parts that the flags give, as members of a JSON object.
pub(super) fn parts(which: &Which) -> Result<Map<String, Value>, Failure> {
    let mut parts = Map::new();
    if let Some(identity) = &which.identity {
        parts.insert("identity".to_owned(), identity.clone().into());
    }
    if let Some(serial) = &which.serial {
        // openssl prints colons, other tools 0x.
        let digits = serial.strip_prefix("0x").or_else(|| serial.strip_prefix("0X")).unwrap_or(serial);
        parts.insert("serial".to_owned(), digits.into());
    }
    if let Some(issuer) = &which.issuer {
        parts.insert("issuer".to_owned(), pem::key_digest("--issuer", issuer)?.to_string().into());
    }
    if let Some(span) = &which.older_than {
        parts.insert("older_than".to_owned(), seconds("--older-than", span)?.into());
    }
    Ok(parts)
}

fn seconds(flag: &str, text: &str) -> Result<u64, Failure> {
    let span = duration::parse(text).map_err(|why| Failure::AtStart(format!("{flag} {text:?}: {why}")))?;
    if span.subsec_nanos() != 0 {
        return Err(Failure::AtStart(format!("{flag} {text:?}: write whole seconds")));
    }
    Ok(span.as_secs())
}

/// The path of a list with these parts as its query.
pub(super) fn path(parts: &Map<String, Value>) -> String {
    let mut path = "/v1/sessions".to_owned();
    for (number, (name, value)) in parts.iter().enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = write!(path, "{}{name}={}", if number == 0 { '?' } else { '&' }, encoded(&value));
    }
    path
}

/// Whatever is not plain, as %XX.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~' | b'/' | b':');
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_flag_that_is_given_narrows_the_question() {
        let which = Which {
            identity: Some("subject:CN=a b,O=é".to_owned()),
            serial: Some("0x0A:1b".to_owned()),
            issuer: Some("AB".repeat(32)),
            older_than: Some("1h30m".to_owned()),
        };
        let asked = path(&parts(&which).unwrap());
        let expected = format!(
            "/v1/sessions?identity=subject:CN%3Da%20b%2CO%3D%C3%A9&issuer={}&older_than=5400&serial=0A:1b",
            "ab".repeat(32)
        );
        assert_eq!(asked, expected);
        assert_eq!(path(&parts(&Which::default()).unwrap()), "/v1/sessions");
        let wrong = |which: Which| parts(&which).is_err();
        assert!(wrong(Which { older_than: Some("1500ms".to_owned()), ..Which::default() }));
        assert!(wrong(Which { older_than: Some("5".to_owned()), ..Which::default() }));
        assert!(wrong(Which { issuer: Some("no such file".to_owned()), ..Which::default() }));
    }
}
