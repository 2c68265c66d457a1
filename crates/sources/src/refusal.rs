//! What a refusal means for the file it came from: may it start, may it be tried again, does it leave a gap.
//!
//! Called by `revocations.rs`. Every kind is listed each time, so that a new one must be thought about here. It must
//! never decide what is in force: that is `revocation`'s.

use revocation::Refused;

/// When refused content is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It stays wrong.
    Never,
    /// Time may heal it.
    AtPoll,
    /// Another bundle may.
    WithBundle,
    /// It may pass when an operator takes the list's floor away.
    WithoutFloor,
}

/// When it may pass.
pub(crate) fn again(refused: &Refused) -> Again {
    match refused {
        Refused::FromTheFuture { .. } => Again::AtPoll,
        Refused::BadSignature { .. } | Refused::NotEntitled { .. } | Refused::TooMany { .. } => Again::WithBundle,
        Refused::Older { .. } | Refused::SameNumber { .. } | Refused::AbsurdJump { .. } => Again::WithoutFloor,
        Refused::InPart { first, rest, .. } => {
            let all = || std::iter::once(&**first).chain(rest).map(again);
            let soonest = [Again::AtPoll, Again::WithBundle].into_iter().find(|wanted| all().any(|one| one == *wanted));
            soonest.unwrap_or(Again::Never)
        }
        Refused::Expired { .. }
        | Refused::Unsigned { .. }
        | Refused::UnknownAlgorithm { .. }
        | Refused::Malformed { .. }
        | Refused::Unreadable { .. } => Again::Never,
    }
}

/// Whether what is in force says all that the refused material could, or more, or some of it was taken in.
pub(crate) fn yields(refused: &Refused) -> bool {
    match refused {
        Refused::Older { .. } => true,
        Refused::InPart { first, rest, of, .. } => {
            rest.len().saturating_add(1) < *of || yields(first) || rest.iter().any(yields)
        }
        Refused::SameNumber { .. }
        | Refused::AbsurdJump { .. }
        | Refused::Unsigned { .. }
        | Refused::FromTheFuture { .. }
        | Refused::Expired { .. }
        | Refused::BadSignature { .. }
        | Refused::NotEntitled { .. }
        | Refused::UnknownAlgorithm { .. }
        | Refused::Malformed { .. }
        | Refused::Unreadable { .. }
        | Refused::TooMany { .. } => false,
    }
}

/// Whether the proxy may start with it: an older list beside a newer one is no gap, and a CRL that cannot be read
/// denies its issuer's clients by itself.
pub(crate) fn is_tolerable(refused: &Refused) -> bool {
    match refused {
        Refused::Older { .. } | Refused::Unreadable { .. } => true,
        Refused::InPart { first, rest, .. } => is_tolerable(first) && rest.iter().all(is_tolerable),
        Refused::SameNumber { .. }
        | Refused::AbsurdJump { .. }
        | Refused::Unsigned { .. }
        | Refused::FromTheFuture { .. }
        | Refused::Expired { .. }
        | Refused::BadSignature { .. }
        | Refused::NotEntitled { .. }
        | Refused::UnknownAlgorithm { .. }
        | Refused::Malformed { .. }
        | Refused::TooMany { .. } => false,
    }
}
