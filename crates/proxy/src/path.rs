//! A judgement over whichever path from a session's certificates verifies.
//!
//! Asked by `connection.rs` for the traffic, by `preview.rs` about a state that is not published, by `doorman.rs`
//! for operators: one rule for the three, so that a preview cannot differ from the cut. It must never change a
//! session.

use trust::{Denial, Session, Time, TrustState};

/// Asks about `session`. If its anchor left the bundle, or lost its right to speak, asks about it over another path
/// that verifies, and returns it with the answer.
pub(crate) fn over_any_path<T>(
    session: &Session,
    (state, now): (&TrustState, Time),
    ask: impl Fn(&Session) -> Result<T, Denial>,
) -> Result<(T, Option<Session>), Denial> {
    let denial = match ask(session) {
        Ok(answer) => return Ok((answer, None)),
        Err(denial) => denial,
    };
    if !matches!(denial, Denial::AnchorRemoved | Denial::AnchorOfAnotherTrustDomain) {
        return Err(denial);
    }
    let Ok(chain) = trust::verify(&session.presented, &state.bundle, now) else { return Err(denial) };
    let again = session.over(chain);
    let answer = ask(&again)?;
    Ok((answer, Some(again)))
}
