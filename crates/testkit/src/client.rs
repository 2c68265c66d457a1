//! The TLS client of the forge: with or without a certificate, TLS 1.2 or 1.3, HTTP/1.1, HTTP/2 or raw bytes on top.
//! Tests call it to be a workload that speaks to the proxy.
//! It must never skip the check of the server's certificate: the proxy's own chain is under test as well.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::exchange::{ClientError, PATIENCE};
use crate::http1_client::Http1Client;
use crate::http2_client::Http2Client;
use crate::leaf::Leaf;
use crate::wire::{RawAnswer, exchange_bytes};

/// The client's end of a TLS connection.
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

/// A client that trusts one root. It offers resumption by default, so that a test sees whether the server accepts it.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: ClientConfig,
    server_name: ServerName<'static>,
}

impl TlsClient {
    /// A client for servers below this root, showing the leaf's chain if there is one. Speaks TLS 1.3 and 1.2.
    pub fn new(server_root: &CertificateDer<'_>, leaf: Option<&Leaf>) -> Self {
        Self::with_versions(server_root, leaf, rustls::ALL_VERSIONS)
    }

    /// The same, TLS 1.2 only.
    pub fn tls12(server_root: &CertificateDer<'_>, leaf: Option<&Leaf>) -> Self {
        Self::with_versions(server_root, leaf, &[&rustls::version::TLS12])
    }

    /// The same, TLS 1.3 only.
    pub fn tls13(server_root: &CertificateDer<'_>, leaf: Option<&Leaf>) -> Self {
        Self::with_versions(server_root, leaf, &[&rustls::version::TLS13])
    }

    /// The same, showing exactly these certificates instead of the leaf's own chain.
    pub fn presenting(server_root: &CertificateDer<'_>, leaf: &Leaf, chain: Vec<CertificateDer<'static>>) -> Self {
        Self::build(server_root, Some((chain, leaf)), rustls::ALL_VERSIONS)
    }

    fn with_versions(
        server_root: &CertificateDer<'_>,
        leaf: Option<&Leaf>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        Self::build(server_root, leaf.map(|leaf| (leaf.chain(), leaf)), versions)
    }

    fn build(
        server_root: &CertificateDer<'_>,
        shown: Option<(Vec<CertificateDer<'static>>, &Leaf)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(server_root.clone().into_owned()).expect("a root from this forge can be an anchor");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider knows both versions")
            .with_root_certificates(roots);
        let config = match shown {
            Some((chain, leaf)) => {
                builder.with_client_auth_cert(chain, leaf.key_der()).expect("a leaf from this forge has its own key")
            }
            None => builder.with_no_client_auth(),
        };
        Self { config, server_name: ServerName::try_from("localhost").expect("localhost is a DNS name") }
    }

    /// Expects and asks for this name instead of `localhost`.
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = ServerName::try_from(name.to_owned()).expect("the test gives a valid server name");
        self
    }

    /// Offers no resumption.
    pub fn without_resumption(mut self) -> Self {
        self.config.resumption = Resumption::disabled();
        self
    }

    /// Connects and completes the handshake. With TLS 1.3 a server that rejects the client's certificate is heard
    /// of only afterwards, at the first read.
    pub async fn connect(&self, address: SocketAddr, alpn: &[&str]) -> io::Result<ClientStream> {
        let mut config = self.config.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let handshake = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connector.connect(self.server_name.clone(), stream).await
        };
        tokio::time::timeout(PATIENCE, handshake).await?
    }

    /// Connects for HTTP/1.1.
    pub async fn http1(&self, address: SocketAddr) -> Result<Http1Client, ClientError> {
        Http1Client::over(self.connect(address, &["http/1.1"]).await?).await
    }

    /// Connects for HTTP/2.
    pub async fn http2(&self, address: SocketAddr) -> Result<Http2Client, ClientError> {
        Http2Client::over(self.connect(address, &["h2"]).await?).await
    }

    /// Connects, offers http/1.1, sends these bytes, and reads until the end or the deadline.
    pub async fn raw(&self, address: SocketAddr, bytes: &[u8], deadline: Duration) -> io::Result<RawAnswer> {
        let mut stream = self.connect(address, &["http/1.1"]).await?;
        Ok(exchange_bytes(&mut stream, bytes, deadline).await)
    }
}
