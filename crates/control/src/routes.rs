//! Which requests the control API knows, and which roles each needs.
//!
//! Asked by `api.rs`; `docs/openapi.yaml` describes the same, and a test compares them. It must never act.

use http::Method;

use crate::problem::Problem;
use crate::roles::Role::{self, Deny, End, Push, Read};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    State,
    Revocations,
    PushRevocations,
    Preview,
    Confirm,
    ResetFloor,
    Denials,
    Deny,
    Undeny,
    Sessions,
    Session,
    End,
    EndOne,
    Document,
}

/// One request that is known.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) operation: Operation,
    /// One of these is needed. To look at what a role works on, that role is enough.
    pub(crate) roles: &'static [Role],
}

const fn route(method: Method, path: &'static str, operation: Operation, roles: &'static [Role]) -> Route {
    Route { method, path, operation, roles }
}

/// All of them.
pub(crate) static ROUTES: [Route; 14] = [
    route(Method::GET, "/v1/state", Operation::State, &[Read, Push]),
    route(Method::GET, "/v1/revocations", Operation::Revocations, &[Read, Push]),
    route(Method::PUT, "/v1/revocations", Operation::PushRevocations, &[Push]),
    route(Method::POST, "/v1/revocations/preview", Operation::Preview, &[Read, Push]),
    route(Method::POST, "/v1/revocations/confirm", Operation::Confirm, &[Push]),
    route(Method::DELETE, "/v1/revocations/{list}/floor", Operation::ResetFloor, &[Push]),
    route(Method::GET, "/v1/denials", Operation::Denials, &[Read, Deny]),
    route(Method::POST, "/v1/denials", Operation::Deny, &[Deny]),
    route(Method::DELETE, "/v1/denials/{id}", Operation::Undeny, &[Deny]),
    route(Method::GET, "/v1/sessions", Operation::Sessions, &[Read, End]),
    route(Method::GET, "/v1/sessions/{id}", Operation::Session, &[Read, End]),
    route(Method::POST, "/v1/sessions/end", Operation::End, &[End]),
    route(Method::DELETE, "/v1/sessions/{id}", Operation::EndOne, &[End]),
    route(Method::GET, "/v1/openapi.yaml", Operation::Document, &[Read, Deny, Push, End]),
];

impl Operation {
    /// The name of a change in the audit; `None` for what changes nothing.
    pub(crate) fn change(self) -> Option<&'static str> {
        match self {
            Operation::PushRevocations => Some("push"),
            Operation::Confirm => Some("confirm"),
            Operation::ResetFloor => Some("reset_floor"),
            Operation::Deny => Some("deny"),
            Operation::Undeny => Some("undeny"),
            Operation::End | Operation::EndOne => Some("end"),
            Operation::State
            | Operation::Revocations
            | Operation::Preview
            | Operation::Denials
            | Operation::Sessions
            | Operation::Session
            | Operation::Document => None,
        }
    }
}

/// The route of a request, and the one word that its path carries, if any.
pub(crate) fn find(method: &Method, path: &str) -> Result<(&'static Route, String), Problem> {
    let mut allowed = Vec::new();
    // A path that is known as it stands is no word in the place of another's.
    let is_known = ROUTES.iter().any(|route| route.path == path);
    for route in ROUTES.iter().filter(|route| !is_known || route.path == path) {
        let Some(word) = fits(route.path, path) else { continue };
        if route.method == *method {
            return Ok((route, word));
        }
        allowed.push(route.method.as_str());
    }
    if allowed.is_empty() {
        let detail = "there is nothing here; GET /v1/openapi.yaml tells what there is";
        return Err(Problem::new(http::StatusCode::NOT_FOUND, "not_found", detail));
    }
    Err(Problem::method(allowed.join(", ")))
}

/// The word at the place of `{…}`, or an empty one where the template has none.
fn fits(template: &str, path: &str) -> Option<String> {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut word = String::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(word),
            (Some(wanted), Some(given)) if wanted.starts_with('{') => word = plain(given)?,
            (Some(wanted), Some(given)) if wanted == given => {}
            (Some(_) | None, Some(_) | None) => return None,
        }
    }
}

/// Names and ids are words of a small alphabet; one that is written with escapes is nobody's.
fn plain(segment: &str) -> Option<String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (!segment.is_empty() && segment.len() <= 128 && segment.bytes().all(known)).then(|| segment.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn operation(method: Method, path: &str) -> Option<(Operation, String)> {
        find(&method, path).ok().map(|(route, word)| (route.operation, word))
    }

    #[test]
    fn a_path_is_found_by_its_whole_and_carries_one_word() {
        assert_eq!(operation(Method::GET, "/v1/state"), Some((Operation::State, String::new())));
        let floor = Some((Operation::ResetFloor, "prod-1.eu_x".to_owned()));
        assert_eq!(operation(Method::DELETE, "/v1/revocations/prod-1.eu_x/floor"), floor);
        for path in ["/", "", "/v1", "/v1/state/", "//v1/state", "/v1/denials/", "/v1/denials/a/b", "/v1/denials/%41"] {
            assert_eq!(operation(Method::DELETE, path), None, "{path}");
        }
        assert_eq!(find(&Method::GET, "/v2").err().unwrap().status(), http::StatusCode::NOT_FOUND);
        assert_eq!(operation(Method::GET, "/v1/sessions/7"), Some((Operation::Session, "7".to_owned())));
        assert_eq!(operation(Method::POST, "/v1/sessions/end"), Some((Operation::End, String::new())));
        assert_eq!(operation(Method::DELETE, "/v1/sessions/end"), None);
        let refused = find(&Method::PATCH, "/v1/denials").err().unwrap().response();
        assert_eq!(refused.headers().get("allow").unwrap(), "GET, POST");
    }

    #[test]
    fn whatever_changes_something_needs_a_role_of_its_own() {
        for route in &ROUTES {
            let looks = route.roles.contains(&Read);
            assert_eq!(looks, route.operation.change().is_none(), "{} {}", route.method, route.path);
        }
    }
}
