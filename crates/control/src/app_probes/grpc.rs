//! The grpc probe: `grpc.health.v1.Health/Check` over HTTP/2 without TLS, as kubelet asks it.
//!
//! Called by `app_probes.rs`. The protocol has two messages of one field each, so they are written and read here. It
//! must never read more than an answer of that kind can hold.

use std::pin::pin;

use bytes::Bytes;
use h2::RecvStream;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};

use super::dial::Dialer;
use super::probe::Target;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// A HealthCheckResponse is five bytes of frame and two of message.
const ANSWER_BYTES: usize = 4096;
/// ServingStatus.SERVING of the protocol.
const SERVING: u64 = 1;
const AGENT: &str = concat!("kube-probe/portcullis-", env!("CARGO_PKG_VERSION"));

/// 200 if the service says that it serves; every other answer is an error in words.
pub(crate) async fn ask(target: &Target, service: &str, dialer: &Dialer) -> Result<StatusCode, String> {
    let socket = dialer.dial(target).await.map_err(|error| format!("it cannot be reached ({error})"))?;
    let (sender, connection) = h2::client::handshake(socket).await.map_err(|error| broken(&error))?;
    let (mut asking, mut connection) =
        (pin!(call(sender, request(target, dialer)?, message(service))), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        // It may end in the same turn that brings the answer.
        _ = &mut connection => asking.await,
    }
}

fn broken(error: &h2::Error) -> String {
    format!("no answer over HTTP/2 ({error})")
}

fn request(target: &Target, dialer: &Dialer) -> Result<Request<()>, String> {
    let authority = target.authority(dialer.pod());
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(CHECK).build();
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    Ok(request)
}

async fn call(
    sender: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
) -> Result<StatusCode, String> {
    let mut sender = sender.ready().await.map_err(|error| broken(&error))?;
    let (answer, mut upload) = sender.send_request(request, false).map_err(|error| broken(&error))?;
    upload.send_data(message, true).map_err(|error| broken(&error))?;
    let answer = answer.await.map_err(|error| broken(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answers {} instead of gRPC", answer.status()));
    }
    let (head, mut body) = answer.into_parts();
    let bytes = whole(&mut body).await?;
    let trailers = body.trailers().await.map_err(|error| broken(&error))?;
    // Without a body the trailers are the head.
    match grpc_status(trailers.as_ref().unwrap_or(&head.headers)).as_deref() {
        Some("0") => {}
        Some("12") => return Err("it does not implement grpc.health.v1.Health".to_owned()),
        Some("5") => return Err("it knows no service of that name".to_owned()),
        other => return Err(format!("it ends with grpc-status {}", other.unwrap_or("missing"))),
    }
    match serving_status(&bytes) {
        Some(SERVING) => Ok(StatusCode::OK),
        Some(other) => Err(format!("it answers ServingStatus {other}, 1 is SERVING")),
        None => Err("its answer is no HealthCheckResponse".to_owned()),
    }
}

async fn whole(body: &mut RecvStream) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| broken(&error))?;
        bytes.extend_from_slice(&piece);
        if bytes.len() > ANSWER_BYTES {
            return Err(format!("its answer is longer than {ANSWER_BYTES} bytes"));
        }
    }
    Ok(bytes)
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    headers.get("grpc-status").and_then(|status| status.to_str().ok()).map(str::to_owned)
}

/// `HealthCheckRequest { string service = 1; }` in a frame: no compression, the length, the message.
fn message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        put_number(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// Protocol Buffers' varint.
fn put_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// `HealthCheckResponse { ServingStatus status = 1; }` in one frame; a status of 0 is not written at all.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (head, mut message) = frame.split_at_checked(5)?;
    let (compressed, length) = head.split_first()?;
    if *compressed != 0 || usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let (key, rest) = number(message)?;
        let (value, rest) = number(rest)?;
        // Of the wire types only numbers are expected, and an unknown field of that type may come with a later version.
        match key {
            0x08 => status = value,
            key if key & 7 == 0 => {}
            _ => return None,
        }
        message = rest;
    }
    Some(status)
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_its_service_or_none() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(message(&"x".repeat(200)).get(5..8), Some(&[0x0a, 0xc8, 0x01][..]));
    }

    #[test]
    fn only_a_whole_frame_with_a_status_is_an_answer() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[0, 0, 0, 0, 4, 8, 1, 16, 9]), Some(1));
        for bad in [
            &[][..],
            &[0; 4],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 10, 0],
        ] {
            assert_eq!(serving_status(bad), None, "{bad:?}");
        }
        assert_eq!(serving_status(&[[0, 0, 0, 0, 11, 8].as_slice(), &[0xff; 10]].concat()), None);
    }
}
