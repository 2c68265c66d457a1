//! The httpGet probe, as kubelet runs it.
//!
//! Called by `app_probes.rs`. HTTPS is not verified, as by kubelet: a probe asks whether the app answers, and nothing
//! is sent that only the right one may read. It must never read a body, nor follow a redirect to another place.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::dial::Dialer;
use super::probe::HttpGet;
use crate::wire::Wire;

/// Go's client, and so kubelet, gives up at the tenth.
const REDIRECTS: usize = 10;
/// Bytes of an answer's head, as much as the proxy takes of a request's.
const HEAD_BYTES: usize = 64 * 1024;

/// The status of the last answer. A redirect to another place is an answer itself, as for kubelet one to another host
/// is: success.
pub(crate) async fn ask(get: &HttpGet, dialer: &Dialer) -> Result<StatusCode, String> {
    let mut path = get.path.clone();
    for _ in 0..REDIRECTS {
        let answer = once(get, &path, dialer).await?;
        if answer.status().is_informational() {
            return Err("it changes to another protocol".to_owned());
        }
        match answer.headers().get(LOCATION).and_then(|location| here(location, get, dialer)) {
            Some(next) if is_redirect(answer.status()) => path = next,
            Some(_) | None => return Ok(answer.status()),
        }
    }
    Err(format!("{REDIRECTS} redirects in a row"))
}

fn is_redirect(status: StatusCode) -> bool {
    [301, 302, 303, 307, 308].contains(&status.as_u16())
}

/// The path of a redirect within the app: the same scheme, host and port.
fn here(location: &HeaderValue, get: &HttpGet, dialer: &Dialer) -> Option<PathAndQuery> {
    let location = Uri::try_from(location.as_bytes()).ok()?;
    let path = location.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Some(authority) = location.authority() else { return Some(path) };
    let scheme = if get.tls { "https" } else { "http" };
    let named = get.headers.get(http::header::HOST).is_some_and(|host| host == authority.as_str());
    let known = named || authority.as_str() == get.target.authority(dialer.pod());
    (known && location.scheme_str() == Some(scheme)).then_some(path)
}

async fn once(get: &HttpGet, path: &PathAndQuery, dialer: &Dialer) -> Result<Response<Incoming>, String> {
    let socket = dialer.dial(&get.target).await.map_err(|error| format!("it cannot be reached ({error})"))?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::from(path.clone());
    *request.headers_mut() = get.headers.clone();
    if !get.tls {
        return exchange(socket, request).await;
    }
    let host = get.target.host.as_deref().and_then(|host| ServerName::try_from(host.to_owned()).ok());
    // Without a name there is no SNI, as in Go for an IP address.
    let name = host.unwrap_or(ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into()));
    let stream = TlsConnector::from(tls()?).connect(name, socket).await;
    exchange(stream.map_err(|error| format!("no TLS handshake ({error})"))?, request).await
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let broken = |error: hyper::Error| format!("no answer ({error})");
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(Wire::new(stream)).await.map_err(broken)?;
    let (mut answer, mut connection) = (pin!(sender.send_request(request)), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer.map_err(broken),
        // It may end in the same turn that brings the answer.
        _ = &mut connection => answer.await.map_err(broken),
    }
}

fn tls() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let anybody = Arc::new(Anybody(provider.signature_verification_algorithms.supported_schemes()));
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()))
}

/// Takes any certificate. Its signature over the handshake would prove nothing then.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
