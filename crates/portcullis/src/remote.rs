//! One question to a sidecar's control listener, over its Unix socket or over mTLS.
//!
//! Used by the commands that talk to a running sidecar. Each question has a connection of its own and a deadline. It
//! must never send anything to a sidecar whose certificate and name were not checked.

pub(crate) mod args;
mod exchange;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, StatusCode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::Failure;
use crate::revocations::{file, say};
use args::RemoteFlags;

/// A sidecar, ready to be asked.
pub(crate) struct Remote {
    place: Place,
    shown: String,
}

enum Place {
    Unix(PathBuf),
    Tls { host: String, port: u16, config: Arc<ClientConfig>, name: ServerName<'static> },
}

/// What is asked.
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Content,
    pub(crate) if_match: Option<u64>,
}

/// What goes with it.
pub(crate) enum Content {
    Nothing,
    Json(Value),
    /// A list or CRLs; the name is for the progress.
    File(Vec<u8>, String),
}

impl Question {
    /// Without a body.
    pub(crate) fn plain(method: Method, path: impl Into<String>) -> Question {
        Question { method, path: path.into(), body: Content::Nothing, if_match: None }
    }
}

/// What was answered.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) value: Value,
}

/// A field of an answer; null if it is not there.
pub(crate) fn field<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&Value::Null)
}

impl Remote {
    /// Reads the flags and the files they name; connects to nothing.
    pub(crate) fn open(flags: &RemoteFlags) -> Result<Remote, Failure> {
        let Some(text) = flags.control.as_deref().filter(|text| !text.is_empty()) else {
            let sentence = "no --control is given; name the sidecar's control listener, like unix:/run/portcullis/\
                            control.sock";
            return Err(Failure::AtStart(sentence.to_owned()));
        };
        let shown = text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Remote { place: Place::Unix(PathBuf::from(path)), shown });
        }
        let wrong = || Failure::AtStart(format!("--control {text:?} is no address; write unix:/PATH or HOST:PORT"));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() {
            return Err(wrong());
        }
        let (config, name) = credentials(flags, &host)?;
        Ok(Remote { place: Place::Tls { host, port, config, name }, shown })
    }

    /// Asks, and turns a refusal into the failure that it is.
    pub(crate) fn ask(&self, question: Question) -> Result<Reply, Failure> {
        let reply = exchange::exchange(self, question)?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let detail = field(&reply.value, "detail").as_str().unwrap_or("it gave no reason");
        let sentence = format!("{}: {} ({})", self.shown, say::plain(detail), reply.status.as_u16());
        Err(match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::NotAllowed(sentence),
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Failure::WhileRunning(sentence),
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => Failure::AtStart(sentence),
            _ => Failure::Unreachable(sentence),
        })
    }
}

fn credentials(flags: &RemoteFlags, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), Failure> {
    let wrong = |sentence: String| Failure::AtStart(sentence);
    let (Some(anchors), Some(cert), Some(key)) = (&flags.control_server_ca, &flags.control_cert, &flags.control_key)
    else {
        return Err(wrong(
            "a --control HOST:PORT speaks mTLS; give --control-server-ca, --control-cert and --control-key".to_owned(),
        ));
    };
    let mut roots = RootCertStore::empty();
    for anchor in certificates("--control-server-ca", anchors)? {
        let path = anchors.display();
        roots
            .add(anchor)
            .map_err(|why| wrong(format!("--control-server-ca {path}: no anchor ({why}); name a CA's")))?;
    }
    let chain = certificates("--control-cert", cert)?;
    let text = file::read_text(key)?;
    let path = key.display();
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|why| wrong(format!("--control-key {path}: no private key ({why}); name the PEM file of one")))?;
    let given = flags.control_name.as_deref().unwrap_or(host);
    let spiffe = given.starts_with("spiffe://").then(|| given.to_owned());
    let name = if spiffe.is_some() { host } else { given };
    let name = ServerName::try_from(name.to_owned()).map_err(|_| {
        wrong(format!("--control-name {name:?} is no name; write a DNS name, an IP address or a SPIFFE ID"))
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = verifier::verifier(roots, spiffe, &provider).map_err(wrong)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| wrong(why.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|why| wrong(format!("--control-cert and --control-key do not fit together ({why}); name a pair")))?;
    let mut config = config;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok((Arc::new(config), name))
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = file::read_text(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Failure::AtStart(format!("{flag} {}: holds no certificate; name a PEM file", path.display()))),
        Err(why) => Err(Failure::AtStart(format!("{flag} {}: {why}; write the file again, whole", path.display()))),
    }
}
