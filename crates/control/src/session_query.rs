//! Which sessions an operator means: a query, or the members of a JSON object, as what the proxy understands.
//!
//! Asked by `sessions.rs`. Every part narrows. It must never take a slip for a wish: what is unknown, doubled or cannot
//! be read is refused, since one part less means more sessions.

use std::time::Duration;

use http::StatusCode;
use proxy::Wanted;
use trust::{IdentityPattern, Sha256, trimmed_serial};

use crate::problem::Problem;

/// A serial number has at most 20 octets (RFC 5280 §4.1.2.2); some authorities give more.
const SERIAL_OCTETS: usize = 64;
/// A hundred years in seconds: beyond it a slip of the keyboard is more likely.
const OLDEST: u64 = 36_525 * 86_400;

/// As they are spelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) id: Option<u64>,
    pub(crate) identity: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) issuer: Option<String>,
    /// Seconds.
    pub(crate) older_than: Option<u64>,
}

impl Parts {
    /// What the proxy understands.
    pub(crate) fn wanted(self) -> Result<Wanted, Problem> {
        Ok(Wanted {
            id: self.id,
            identity: self.identity.as_deref().map(identity).transpose()?,
            serial: self.serial.as_deref().map(serial).transpose()?,
            issuer: self.issuer.as_deref().map(issuer).transpose()?,
            older_than: self.older_than.map(age).transpose()?,
        })
    }

    /// For the audit: every part that is given.
    pub(crate) fn words(&self) -> String {
        let parts = [
            self.id.map(|id| format!("id {id}")),
            self.identity.as_ref().map(|identity| format!("identity {identity}")),
            self.serial.as_ref().map(|serial| format!("serial {serial}")),
            self.issuer.as_ref().map(|issuer| format!("issuer {issuer}")),
            self.older_than.map(|seconds| format!("older than {seconds} s")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "all".to_owned() } else { parts.join(", ") }
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
}

/// As the list shows it, or as denials spell it.
fn identity(text: &str) -> Result<IdentityPattern, Problem> {
    let read = match text.starts_with("spiffe://") {
        true => IdentityPattern::parse_spiffe(text),
        false => IdentityPattern::parse(text),
    };
    read.map_err(|why| invalid(format!("identity: {why}; every SPIFFE ID below a path is spiffe://td/path/*")))
}

fn serial(text: &str) -> Result<Box<[u8]>, Problem> {
    let wrong = || invalid("serial: write it in hexadecimal, as the list of sessions shows it".to_owned());
    // openssl prints colons.
    let digits: Vec<u32> =
        text.chars().filter(|sign| *sign != ':').map(|sign| sign.to_digit(16).unwrap_or(16)).collect();
    if digits.is_empty() || digits.len() > 2 * SERIAL_OCTETS || digits.iter().any(|digit| *digit > 15) {
        return Err(wrong());
    }
    let octets: Result<Vec<u8>, _> = digits
        .rchunks(2)
        .rev()
        .map(|pair| u8::try_from(pair.iter().fold(0, |value, digit| value * 16 + digit)))
        .collect();
    Ok(trimmed_serial(&octets.map_err(|_| wrong())?).into())
}

fn issuer(text: &str) -> Result<Sha256, Problem> {
    Sha256::from_hex(&text.replace(':', "")).ok_or_else(|| {
        let form = "issuer: write the SHA-256 of its public key (SubjectPublicKeyInfo), 64 hexadecimal digits, as the \
                    list of sessions shows it in issuer_key";
        invalid(form.to_owned())
    })
}

fn age(seconds: u64) -> Result<Duration, Problem> {
    // None would mean everybody, which is said by no part that narrows.
    if seconds == 0 || seconds > OLDEST {
        return Err(invalid("older_than: write seconds, one at least and for a hundred years at most".to_owned()));
    }
    Ok(Duration::from_secs(seconds))
}

/// The pairs of a query, each name once and one of `known`.
pub(crate) fn pairs(query: Option<&str>, known: &[&'static str]) -> Result<Vec<(&'static str, String)>, Problem> {
    let refused = |why: String| Problem::new(StatusCode::BAD_REQUEST, "query", why).closing();
    let mut pairs: Vec<(&'static str, String)> = Vec::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = known.iter().find(|one| **one == name) else {
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(refused(format!("this query is not known here; what may be asked for is: {known}")));
        };
        if pairs.iter().any(|(other, _)| other == name) {
            return Err(refused(format!("{name} stands twice in the query; give it once")));
        }
        let value =
            decoded(value).ok_or_else(|| refused(format!("{name}: its value is not encoded as UTF-8 in %XX")))?;
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// A number of a query.
pub(crate) fn number(name: &str, text: &str) -> Result<u64, Problem> {
    // `parse` would take a sign.
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let detail = format!("{name}: write a whole number in digits");
        Problem::new(StatusCode::BAD_REQUEST, "query", detail).closing()
    })
}

/// As forms encode it.
fn decoded(value: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), value.bytes());
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                let digit = |at: u8| char::from(at).to_digit(16);
                let [high, low] = pair.map(digit);
                bytes.push(u8::try_from(high? * 16 + low?).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_query_is_read_whole_or_refused() {
        let read = |query| pairs(Some(query), &["identity", "limit"]).ok();
        assert_eq!(pairs(None, &[]).unwrap(), []);
        assert_eq!(read("limit=5"), Some(vec![("limit", "5".to_owned())]));
        let both = read("identity=uri%3Aspiffe%3A//td/a+b%2B&limit=").unwrap();
        assert_eq!(both, [("identity", "uri:spiffe://td/a b+".to_owned()), ("limit", String::new())]);
        for bad in ["limits=5", "limit=1&limit=1", "Limit=1", "limit=%4", "limit=%zz", "limit=%ff", "identity=a&x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(number("limit", "0012").is_ok());
        for bad in ["", "+1", "-1", "1.0", " 1", "99999999999999999999", "\u{663}"] {
            assert!(number("limit", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_serial_number_is_read_as_tools_print_it() {
        let read = |text| serial(text).ok().map(Vec::from);
        assert_eq!(read("0a1b"), Some(vec![0x0a, 0x1b]));
        assert_eq!(read("A1B"), Some(vec![0x0a, 0x1b]));
        assert_eq!(read("00:0A:1B"), Some(vec![0x0a, 0x1b]));
        for bad in ["", ":", "0x0a", "1g", "-1", &"a".repeat(129)] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_identity_is_read_typed_or_as_denials_spell_it() {
        for good in ["uri:spiffe://td/a", "spiffe://td/a", "spiffe://td/ns/*", "dns:a.test", "subject:CN=a"] {
            assert!(identity(good).is_ok(), "{good}");
        }
        for bad in ["", "*", "spiffe://td/a*", "a.test", "dns:*.test"] {
            assert_eq!(identity(bad).err().unwrap().label, "invalid", "{bad}");
        }
        assert!(issuer(&"ab".repeat(32)).is_ok() && issuer(&"ab".repeat(31)).is_err());
    }

    #[test]
    fn an_age_that_everybody_has_narrows_nothing_and_is_refused() {
        let wanted = |seconds| Parts { older_than: Some(seconds), ..Parts::default() }.wanted();
        assert!(wanted(1).is_ok_and(|wanted| !wanted.is_everybody()) && wanted(OLDEST).is_ok());
        for slip in [0, OLDEST + 1] {
            assert_eq!(wanted(slip).err().unwrap().label, "invalid", "{slip}");
        }
    }
}
