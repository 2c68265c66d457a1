//! What became of material: taken in, or refused and why.
//!
//! Made by [`crate::Library`]; `sources` logs the sentence and counts the label. It must name everything that
//! somebody on call needs: which list or issuer, both numbers, and what to do.

use std::fmt;

use trust::Time;

use crate::lists::MAX_JUMP;
use crate::moment::show;

/// Outcomes of one file that are told one by one: a line in a log, not a page.
pub(crate) const SHOWN: usize = 7;

/// Material that was taken in. The text names it: `list prod, sequence 12, 3 entries, …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is in force from the next snapshot on.
    Changed(String),
    /// It already was known, byte for byte.
    Unchanged(String),
    /// It waits for its issuer's certificate, and the issuer's status is unknown until then; or it is a delta CRL that
    /// nothing in force can be combined with.
    Waiting(String),
}

impl Accepted {
    /// One fixed word, for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Accepted::Changed(_) => "changed",
            Accepted::Unchanged(_) => "unchanged",
            Accepted::Waiting(_) => "waiting",
        }
    }

    /// Every label.
    pub const LABELS: [&'static str; 3] = ["changed", "unchanged", "waiting"];

    /// Whether there is a new snapshot to publish.
    #[must_use]
    pub fn changed(&self) -> bool {
        !matches!(self, Accepted::Unchanged(_))
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Accepted::Changed(what) => write!(f, "in force now: {what}"),
            Accepted::Unchanged(what) => write!(f, "nothing new: {what}"),
            Accepted::Waiting(what) => write!(f, "waits: {what}"),
        }
    }
}

/// What a CRL says that this program does not understand and must not skip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It speaks of other issuers' certificates.
    Indirect,
    /// So does one of its entries.
    CertificateIssuer,
    /// A critical extension with this identifier.
    CriticalExtension(String),
    /// A critical extension of an entry, with this identifier.
    CriticalEntryExtension(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Indirect => f.write_str("it is an indirect CRL"),
            Obstacle::CertificateIssuer => f.write_str("an entry names another certificate issuer (indirect CRL)"),
            Obstacle::CriticalExtension(oid) => write!(f, "its critical extension {oid} is unknown here"),
            Obstacle::CriticalEntryExtension(oid) => write!(f, "an entry's critical extension {oid} is unknown here"),
        }
    }
}

/// The dotted form of an identifier's content, within the length of a sentence.
pub(crate) fn oid_text(content: &[u8]) -> String {
    match content.get(..64) {
        None => asn1_rs::Oid::new(content.into()).to_id_string(),
        Some(_) => format!("with an identifier of {} bytes", content.len()),
    }
}

/// Material that was not taken in. `what` names it: `the list prod` or `the CRL of CN=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A newer one is in force.
    Older {
        /// The list or CRL.
        what: String,
        /// Its number, as `sequence 11`.
        offered: String,
        /// The number in force.
        in_force: String,
    },
    /// The one in force has the same number and other content.
    SameNumber {
        /// The list or CRL.
        what: String,
        /// Both numbers.
        number: String,
    },
    /// Its number is too far above the one in force, and it was not read under keys.
    AbsurdJump {
        /// The list.
        what: String,
        /// Its number.
        offered: String,
        /// The number in force.
        in_force: String,
    },
    /// It was not read under the keys that are required.
    Unsigned {
        /// The list.
        what: String,
    },
    /// It was issued later than now, by more than clocks differ.
    FromTheFuture {
        /// The list or CRL.
        what: String,
        /// When it says it was issued.
        issued_at: Time,
        /// What our clock said.
        now: Time,
    },
    /// A list that expired before it came.
    Expired {
        /// The list.
        what: String,
        /// When.
        expires_at: Time,
    },
    /// The issuer is known, and did not sign this.
    BadSignature {
        /// The CRL.
        what: String,
    },
    /// The issuer signed it, but its certificate leaves out cRLSign.
    NotEntitled {
        /// The CRL.
        what: String,
    },
    /// Signed in a way that nobody here can verify.
    UnknownAlgorithm {
        /// The CRL.
        what: String,
    },
    /// Its entries are not what RFC 5280 says.
    Malformed {
        /// The CRL.
        what: String,
        /// Where and why.
        why: String,
    },
    /// It is genuine and newest, and cannot be read: its issuer's status is unknown from now on.
    Unreadable {
        /// The CRL.
        what: String,
        /// Its number.
        number: String,
        /// What it says that is not understood.
        obstacle: Obstacle,
    },
    /// There is no room for one more.
    TooMany {
        /// The list or CRL.
        what: String,
        /// The limit, as `256 lists`.
        limit: String,
    },
    /// Of several CRLs in one file some were refused; the others were taken in.
    InPart {
        /// The first refusal.
        first: Box<Refused>,
        /// The other ones.
        rest: Vec<Refused>,
        /// Of how many CRLs.
        of: usize,
        /// Whether there is a new snapshot to publish.
        changed: bool,
    },
}

impl Refused {
    /// One fixed word, for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Refused::Older { .. } => "older",
            Refused::SameNumber { .. } => "same_number",
            Refused::AbsurdJump { .. } => "absurd_jump",
            Refused::Unsigned { .. } => "unsigned",
            Refused::FromTheFuture { .. } => "from_the_future",
            Refused::Expired { .. } => "expired",
            Refused::BadSignature { .. } => "bad_signature",
            Refused::NotEntitled { .. } => "no_crl_sign",
            Refused::UnknownAlgorithm { .. } => "unknown_algorithm",
            Refused::Malformed { .. } => "malformed",
            Refused::Unreadable { .. } => "unreadable",
            Refused::TooMany { .. } => "too_many",
            Refused::InPart { first, .. } => first.label(),
        }
    }

    /// Every label.
    pub const LABELS: [&'static str; 12] = [
        "older",
        "same_number",
        "absurd_jump",
        "unsigned",
        "from_the_future",
        "expired",
        "bad_signature",
        "no_crl_sign",
        "unknown_algorithm",
        "malformed",
        "unreadable",
        "too_many",
    ];

    /// Whether there is a new snapshot to publish nevertheless: a CRL that cannot be read makes its issuer's
    /// status unknown, and the good ones of a file are taken in beside a bad one.
    #[must_use]
    pub fn changed(&self) -> bool {
        matches!(self, Refused::Unreadable { .. } | Refused::InPart { changed: true, .. })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Older { what, offered, in_force } => write!(
                f,
                "{what} has {offered}, but {in_force} is in force: an older one is never taken back; \
                 remove this file or publish it with a higher number"
            ),
            Refused::SameNumber { what, number } => write!(
                f,
                "{what} has {number} like the one in force, but other content; publish each change with a higher \
                 number, and find out who published this one"
            ),
            Refused::AbsurdJump { what, offered, in_force } => write!(
                f,
                "{what} has {offered}, more than {MAX_JUMP} above the one in force, {in_force}, and is not signed; find \
                 out who published it, and publish one with the next number, or reset the floor"
            ),
            Refused::Unsigned { what } => {
                write!(f, "{what} was not read under the keys that are required; sign it and publish it again")
            }
            Refused::FromTheFuture { what, issued_at, now } => write!(
                f,
                "{what} was issued at {}, more than 5 minutes after now, {}; set the clock of this machine or of the \
                 publisher right",
                show(*issued_at),
                show(*now)
            ),
            Refused::Expired { what, expires_at } => {
                write!(f, "{what} expired at {}; publish a current one", show(*expires_at))
            }
            Refused::BadSignature { what } => write!(
                f,
                "{what} is not signed by the issuer of that name in the bundle or in a client's chain; fetch it from \
                 its issuer again, or add the certificate that signed it to the client CAs"
            ),
            Refused::NotEntitled { what } => write!(
                f,
                "{what} is signed by an issuer whose certificate has a key usage without cRLSign; reissue that \
                 certificate with cRLSign"
            ),
            Refused::UnknownAlgorithm { what } => write!(
                f,
                "{what} is signed with an algorithm that is not supported here; sign it with ECDSA, Ed25519 or RSA of \
                 2048 bits or more, with SHA-256 or better"
            ),
            Refused::Malformed { what, why } => {
                write!(f, "{what} has malformed entries: {why}; ask its issuer for one that follows RFC 5280")
            }
            Refused::Unreadable { what, number, obstacle } => write!(
                f,
                "{what} with {number} cannot be read ({obstacle}), so the status of all that this issuer issued is \
                 unknown; publish a direct CRL without it, with a higher CRLNumber"
            ),
            Refused::TooMany { what, limit } => {
                write!(f, "{what} is one too many, the limit is {limit}; remove files that are not needed")
            }
            Refused::InPart { first, rest, of, .. } => {
                write!(f, "{} of {of} CRLs in this file refused, the others taken in: {first}", rest.len() + 1)?;
                rest.iter().take(SHOWN).try_for_each(|refused| write!(f, "; {refused}"))?;
                if rest.len() > SHOWN { write!(f, "; and {} more", rest.len() - SHOWN) } else { Ok(()) }
            }
        }
    }
}

impl std::error::Error for Refused {}
