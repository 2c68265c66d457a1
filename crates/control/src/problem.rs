//! What an operator is told instead of an answer: RFC 9457, one sentence with the remedy.
//!
//! Made by every file of the control API. The only file that turns a refusal of the desk into a status. It must never
//! hold key material, nor a stranger's bytes unquoted.

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use sources::DeskError;
use trust::Denial;

use crate::body::AnswerBody;

/// A refusal on its way to the operator; one pointer, because every answer may be one.
#[derive(Debug)]
pub(crate) struct Problem(Box<Page>);

/// What the operator reads, and what only we do.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// No page describes single problems; the label tells them apart.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    pub(crate) detail: String,
    pub(crate) label: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// The sequence in force, where another was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_force: Option<u64>,
    #[serde(skip)]
    allow: Option<String>,
    #[serde(skip)]
    closes: bool,
    /// The audit has its line.
    #[serde(skip)]
    pub(crate) is_told: bool,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, label: &'static str, detail: impl Into<String>) -> Problem {
        Problem(Box::new(Page {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            label,
            line: None,
            column: None,
            in_force: None,
            allow: None,
            closes: false,
            is_told: false,
        }))
    }

    /// The audit has its line.
    pub(crate) fn told(mut self) -> Problem {
        self.0.is_told = true;
        self
    }

    /// The connection ends with it: the rest of the request is not worth reading.
    pub(crate) fn closing(mut self) -> Problem {
        self.0.closes = true;
        self
    }

    /// 405 with what may be done there.
    pub(crate) fn method(allowed: String) -> Problem {
        let detail = format!("this method does nothing here; use {allowed}");
        let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail);
        problem.0.allow = Some(allowed);
        problem
    }

    /// The operator is not trusted any more.
    pub(crate) fn denied(denial: &Denial) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, denial.label(), denial.to_string()).closing()
    }

    /// Something of ours ended before its answer.
    pub(crate) fn broken() -> Problem {
        let detail = "what was asked for ended without an answer; look at the state and at the log";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "broken", detail)
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn response(&self) -> Response<AnswerBody> {
        let bytes = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = Response::new(AnswerBody::whole(bytes));
        let status = self.status();
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = self.0.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2 asks for a challenge; no scheme is registered for certificates.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("ClientCertificate"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.0.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl std::ops::Deref for Problem {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.0
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Problem {
        let status = match &error {
            DeskError::Unreadable { label: "too_large", .. } => StatusCode::PAYLOAD_TOO_LARGE,
            DeskError::Unreadable { .. } | DeskError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            DeskError::Mismatch { .. } => StatusCode::PRECONDITION_FAILED,
            DeskError::Refused { .. } | DeskError::TooMany { .. } | DeskError::NotWanted => StatusCode::CONFLICT,
            DeskError::NotFound { .. } => StatusCode::NOT_FOUND,
            DeskError::Busy | DeskError::Ended => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut problem = Problem::new(status, error.label(), error.to_string());
        if let DeskError::Unreadable { line, column, .. } = error {
            (problem.0.line, problem.0.column) = (line, column);
        } else if let DeskError::Mismatch { in_force, .. } = error {
            problem.0.in_force = in_force;
        }
        problem
    }
}
