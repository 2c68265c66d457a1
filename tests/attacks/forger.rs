//! A client that shows certificates whose keys it does not have.
//! Used by attacks on the handshake. It must never sign anything that verifies.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{RootCertStore, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName};
use testkit::{alert_of, read_to_end};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::program::PATIENCE;

/// Shows a chain and signs with nonsense of that length.
#[derive(Clone, Debug)]
pub(crate) struct Forger {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) scheme: SignatureScheme,
    pub(crate) signature: usize,
}

impl Forger {
    /// One handshake; how the proxy ended it, in words.
    pub(crate) async fn handshake(self, root: &CertificateDer<'static>, address: SocketAddr) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(self));
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        match tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await {
            Ok(mut stream) => {
                // TLS 1.3: a client hears of its refusal after it has sent all it has to.
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
                let answer = read_to_end(&mut stream, PATIENCE).await;
                assert!(answer.bytes.is_empty(), "{answer:?}");
                format!("{:?}", answer.ending)
            }
            Err(error) => alert_of(&error).map_or_else(|| error.to_string(), |alert| format!("Alert({alert:?})")),
        }
    }
}

impl ResolvesClientCert for Forger {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::new(CertifiedKey::new(self.chain.clone(), Arc::new(self.clone()))))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl SigningKey for Forger {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        if self.scheme == SignatureScheme::RSA_PSS_SHA256 { SignatureAlgorithm::RSA } else { SignatureAlgorithm::ECDSA }
    }
}

impl Signer for Forger {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![0x5a; self.signature])
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
