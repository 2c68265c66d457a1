//! What a client sees when it gets no answer from the app: the only file with status codes.
//!
//! Called by `request.rs` and `http2.rs`. The client learns a status and one fixed word; the log learns the rest.

use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode, Version};
use trust::Denial;

use crate::body::AppBody;
use crate::fault::Fault;
use crate::metrics::RequestProtocol;

/// gRPC status codes (grpc/doc/statuscodes.md).
const DEADLINE_EXCEEDED: u8 = 4;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

/// Trust says no: 401 and the end of the connection, or gRPC's UNAUTHENTICATED.
pub(crate) fn denied(denial: &Denial, protocol: RequestProtocol) -> Response<AppBody> {
    if protocol == RequestProtocol::Grpc {
        return grpc(UNAUTHENTICATED, denial.label());
    }
    let mut response = plain(StatusCode::UNAUTHORIZED, denial.label());
    // RFC 9110 §15.5.2 asks for a challenge; no scheme is registered for certificates.
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("ClientCertificate"));
    closing(response, protocol)
}

/// The trailers that end a gRPC call under way.
pub(crate) fn grpc_trailers(denial: &Denial) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    grpc_fields(&mut trailers, UNAUTHENTICATED, denial.label());
    trailers
}

/// Something broke on the way to the app.
pub(crate) fn faulted(fault: Fault, protocol: RequestProtocol) -> Response<AppBody> {
    let (status, code) = match fault {
        Fault::Unreachable | Fault::Broken => (StatusCode::BAD_GATEWAY, UNAVAILABLE),
        Fault::TimedOut => (StatusCode::GATEWAY_TIMEOUT, DEADLINE_EXCEEDED),
        Fault::ClientGone => (StatusCode::BAD_REQUEST, UNAVAILABLE),
        Fault::ClientSilent => (StatusCode::REQUEST_TIMEOUT, DEADLINE_EXCEEDED),
        Fault::Busy => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE),
    };
    if protocol == RequestProtocol::Grpc {
        return grpc(code, fault.label());
    }
    let response = plain(status, fault.label());
    // What is missing of the request could be taken for the next.
    if matches!(fault, Fault::ClientGone | Fault::ClientSilent) { closing(response, protocol) } else { response }
}

/// A request whose own shape is refused; the connection ends, since its framing may be in doubt.
pub(crate) fn refused(word: &str, protocol: RequestProtocol) -> Response<AppBody> {
    let status = match word {
        "connect" => StatusCode::METHOD_NOT_ALLOWED,
        // RFC 9220 §3 says so for HTTP/3, and RFC 8441 says nothing.
        "upgrade" => StatusCode::NOT_IMPLEMENTED,
        "head_too_large" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    if protocol == RequestProtocol::Grpc {
        return grpc(UNAVAILABLE, word);
    }
    closing(plain(status, word), protocol)
}

fn plain(status: StatusCode, word: &str) -> Response<AppBody> {
    let mut response = Response::new(AppBody::notice(format!("{word}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn closing(mut response: Response<AppBody>, protocol: RequestProtocol) -> Response<AppBody> {
    if protocol == RequestProtocol::Http1 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn grpc(code: u8, word: &str) -> Response<AppBody> {
    let mut response = Response::new(AppBody::notice(String::new()));
    *response.version_mut() = Version::HTTP_2;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    grpc_fields(response.headers_mut(), code, word);
    response
}

fn grpc_fields(fields: &mut HeaderMap, code: u8, word: &str) {
    fields.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if let Ok(message) = HeaderValue::from_str(&format!("portcullis: {word}")) {
        fields.insert("grpc-message", message);
    }
}
