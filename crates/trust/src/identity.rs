//! Who a client is: exactly one typed identity per leaf, and the patterns that name identities.
//!
//! Made by [`crate::Certificate`] from a leaf, compared by [`crate::judge`], printed in headers and logs.
//! Types are never mixed: a DNS name may spell `spiffe://…`, and must not become a SPIFFE ID by it.

use std::borrow::Cow;
use std::fmt;

use crate::name;

/// A subject longer than this names nobody we would print in a header (twice the longest DNS name, with room).
pub(crate) const MAX_SUBJECT: usize = 1024;
/// SPIFFE-ID §2.3: a SPIFFE ID is at most 2048 bytes, its trust domain at most 255.
const MAX_SPIFFE_ID: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;
const SCHEME: &str = "spiffe://";

/// A client's identity in its typed form: `uri:spiffe://td/path`, `dns:name` or `subject:CN=…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    typed: Box<str>,
}

/// What is wrong with an identity or a pattern, in words that complete "… : ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError(Cow<'static, str>);

impl IdentityError {
    /// With these words.
    #[must_use]
    pub const fn new(why: &'static str) -> IdentityError {
        IdentityError(Cow::Borrowed(why))
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Identity {
    /// From a URI SAN that begins with `spiffe:`; strict rules of SPIFFE-ID §2 and X509-SVID §5.2.
    pub fn from_spiffe(uri: &str) -> Result<Identity, IdentityError> {
        SpiffeId::parse(uri)?;
        Ok(Identity { typed: format!("uri:{uri}").into_boxed_str() })
    }

    /// From a DNS SAN; compared without case, so it is kept in lower case.
    pub fn from_dns(name: &str) -> Result<Identity, IdentityError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*');
        if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
            return Err(IdentityError::new("a DNS name has 1 to 253 letters, digits, '.', '-', '_' or '*'"));
        }
        Ok(Identity { typed: format!("dns:{}", name.to_ascii_lowercase()).into_boxed_str() })
    }

    /// From a subject in the string form of RFC 4514 (see `name.rs`).
    pub fn from_subject(subject: &str) -> Result<Identity, IdentityError> {
        if subject.is_empty() {
            return Err(IdentityError::new("a subject must not be empty"));
        }
        Ok(Identity { typed: format!("subject:{subject}").into_boxed_str() })
    }

    /// The typed form.
    #[must_use]
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// The SPIFFE ID, if it is one.
    #[must_use]
    pub fn spiffe(&self) -> Option<SpiffeId<'_>> {
        // Checked when it was made: only from_spiffe writes the `uri:` type.
        let uri = self.typed.strip_prefix("uri:")?;
        let path = uri.get(SCHEME.len()..)?.find('/')? + SCHEME.len();
        Some(SpiffeId { uri, path })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

/// A SPIFFE ID with a path, whole or cut at its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpiffeId<'a> {
    uri: &'a str,
    path: usize,
}

impl<'a> SpiffeId<'a> {
    /// Reads `spiffe://trust-domain/path`; a workload's ID has a path (X509-SVID §5.2).
    pub fn parse(uri: &'a str) -> Result<SpiffeId<'a>, IdentityError> {
        if uri.len() > MAX_SPIFFE_ID {
            return Err(IdentityError::new("a SPIFFE ID has at most 2048 bytes"));
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(IdentityError::new("a SPIFFE ID begins with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or(IdentityError::new("a workload's SPIFFE ID has a path"))?;
        check_trust_domain(domain)?;
        for segment in path.split('/') {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if segment.is_empty() || segment == "." || segment == ".." || !segment.bytes().all(plain) {
                return Err(IdentityError::new(
                    "the path segments of a SPIFFE ID are letters, digits, '.', '-' and '_', none empty, '.' or '..'",
                ));
            }
        }
        Ok(SpiffeId { uri, path: SCHEME.len() + domain.len() })
    }

    /// The whole ID.
    #[must_use]
    pub fn uri(&self) -> &'a str {
        self.uri
    }

    /// Its trust domain, without the scheme.
    #[must_use]
    pub fn trust_domain(&self) -> &'a str {
        self.uri.get(SCHEME.len()..self.path).unwrap_or("")
    }

    /// Every prefix that ends in `/` below the scheme, shortest first: `spiffe://td/`, `spiffe://td/ns/`, …
    pub fn ancestors(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (uri, path) = (self.uri, self.path);
        uri.bytes().enumerate().skip(path).filter(|(_, byte)| *byte == b'/').filter_map(move |(at, _)| uri.get(..=at))
    }
}

/// Checks a trust domain's spelling (SPIFFE-ID §2.1).
pub(crate) fn check_trust_domain(domain: &str) -> Result<(), IdentityError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    if domain.is_empty() || domain.len() > MAX_TRUST_DOMAIN || !domain.bytes().all(plain) {
        return Err(IdentityError::new("a trust domain has 1 to 255 lower-case letters, digits, '.', '-' or '_'"));
    }
    Ok(())
}

/// Refuses a subject in another spelling than `name.rs` gives to certificates: it would match nobody, and in a
/// revocation that would be a silent yes.
fn check_subject(text: &str) -> Result<(), IdentityError> {
    const FORM: &str = "a subject is written as logs and headers show it, last part first, like CN=a,O=b, with '\\' \
                        before special characters and other bytes than ASCII's as \\C3\\A9, 1024 bytes at most";
    match name::canonical(text).filter(|canonical| canonical.len() <= MAX_SUBJECT) {
        Some(canonical) if canonical == text => Ok(()),
        Some(canonical) => Err(IdentityError(Cow::Owned(format!(
            "a subject is compared as text and in this spelling never matches; write subject:{canonical}"
        )))),
        None => Err(IdentityError::new(FORM)),
    }
}

/// Names one identity, or with a trailing `/*` every SPIFFE ID below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityPattern {
    /// This typed identity.
    Exact(Identity),
    /// Every SPIFFE ID that begins so; ends in `/`.
    Below(Box<str>),
}

impl IdentityPattern {
    /// Reads `uri:spiffe://td/path`, `uri:spiffe://td/path/*`, `dns:name` or `subject:…`.
    pub fn parse(text: &str) -> Result<IdentityPattern, IdentityError> {
        if let Some(uri) = text.strip_prefix("uri:") {
            return IdentityPattern::parse_spiffe(uri);
        }
        if let Some(name) = text.strip_prefix("dns:") {
            if name.contains('*') {
                return Err(IdentityError::new("a DNS name here stands for itself: write it without '*'"));
            }
            return Identity::from_dns(name).map(IdentityPattern::Exact);
        }
        if let Some(subject) = text.strip_prefix("subject:") {
            check_subject(subject)?;
            return Identity::from_subject(subject).map(IdentityPattern::Exact);
        }
        Err(IdentityError::new("an identity begins with uri:spiffe://, dns: or subject:"))
    }

    /// Reads `spiffe://td/path` or `spiffe://td/path/*`.
    pub fn parse_spiffe(uri: &str) -> Result<IdentityPattern, IdentityError> {
        match uri.strip_suffix('*') {
            None => Identity::from_spiffe(uri).map(IdentityPattern::Exact),
            Some(prefix) => {
                let rest =
                    prefix.strip_prefix(SCHEME).ok_or(IdentityError::new("a SPIFFE ID begins with spiffe://"))?;
                let whole =
                    rest.strip_suffix('/').ok_or(IdentityError::new("'*' stands for whole segments, after a '/'"))?;
                if whole.contains('/') {
                    SpiffeId::parse(prefix.strip_suffix('/').unwrap_or(prefix))?;
                } else {
                    check_trust_domain(whole)?;
                }
                Ok(IdentityPattern::Below(prefix.into()))
            }
        }
    }

    /// Whether `identity` is one of those named.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match self {
            IdentityPattern::Exact(one) => one == identity,
            IdentityPattern::Below(prefix) => identity.spiffe().is_some_and(|id| id.uri().starts_with(&**prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_spiffe_id_is_read_strictly() {
        let id = SpiffeId::parse("spiffe://prod.example/ns/a/sa/b").unwrap();
        assert_eq!(id.trust_domain(), "prod.example");
        let prefixes: Vec<_> = id.ancestors().collect();
        assert_eq!(
            prefixes,
            [
                "spiffe://prod.example/",
                "spiffe://prod.example/ns/",
                "spiffe://prod.example/ns/a/",
                "spiffe://prod.example/ns/a/sa/"
            ]
        );
        for bad in [
            "spiffe://",
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///path",
            "SPIFFE://td/a",
            "spiffe://TD/a",
            "spiffe://td:443/a",
            "spiffe://user@td/a",
            "spiffe://td/a/",
            "spiffe://td//a",
            "spiffe://td/./a",
            "spiffe://td/../a",
            "spiffe://td/a?x=1",
            "spiffe://td/a#f",
            "spiffe://td/%61",
            "spiffe://td/é",
            "https://td/a",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
        assert!(SpiffeId::parse(&format!("spiffe://td/{}", "a".repeat(2048))).is_err());
    }

    #[test]
    fn a_pattern_matches_whole_segments_below_its_path_and_nothing_else() {
        let pattern = IdentityPattern::parse("uri:spiffe://td/ns/*").unwrap();
        let id = |uri| Identity::from_spiffe(uri).unwrap();
        assert!(pattern.matches(&id("spiffe://td/ns/a")) && pattern.matches(&id("spiffe://td/ns/a/b")));
        assert!(!pattern.matches(&id("spiffe://td/ns")) && !pattern.matches(&id("spiffe://td/nsx/a")));
        assert!(!pattern.matches(&id("spiffe://td2/ns/a")));
        assert!(IdentityPattern::parse("uri:spiffe://td/*").unwrap().matches(&id("spiffe://td/ns")));
        for bad in ["uri:spiffe://td/n*", "uri:spiffe://*", "uri:spiffe://td*", "dns:*.a", "spiffe://td/a", "", "x:y"] {
            assert!(IdentityPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_of_one_type_never_passes_for_another() {
        let pattern = IdentityPattern::parse("uri:spiffe://td/a").unwrap();
        assert!(!pattern.matches(&Identity::from_subject("spiffe://td/a").unwrap()));
        assert!(Identity::from_dns("spiffe://td/a").is_err());
        assert!(Identity::from_subject("uri:spiffe://td/a").unwrap().spiffe().is_none());
    }
}
