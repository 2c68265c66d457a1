//! Connecting as one of many clients, cheaply: certificates read once, one key, one store of roots.
//!
//! Used by `session.rs` and `busy.rs`. It must never resume a TLS session: each has to be a full handshake.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use testkit::ClientStream;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Who the clients are and where the proxy is.
pub(crate) struct Credentials {
    config: ClientConfig,
    leaves: Vec<CertificateDer<'static>>,
    intermediate: CertificateDer<'static>,
    key: Arc<dyn SigningKey>,
    proxy: SocketAddr,
    name: ServerName<'static>,
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Credentials {
    /// Reads what `mint.rs` wrote.
    pub(crate) fn read(folder: &Path, port: u16) -> io::Result<Credentials> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from_pem_file(folder.join("client.key")).map_err(io::Error::other)?;
        let key = provider.key_provider.load_private_key(key).map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificates(&folder.join("root.pem"))?.remove(0)).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let mut config = config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Credentials {
            config,
            leaves: certificates(&folder.join("clients.pem"))?,
            intermediate: certificates(&folder.join("intermediate.pem"))?.remove(0),
            key,
            proxy: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            name: ServerName::try_from("localhost").map_err(io::Error::other)?,
        })
    }

    /// A TLS connection as the client of this number.
    pub(crate) async fn connect(&self, client: usize, protocol: &str) -> io::Result<ClientStream> {
        let leaf = self.leaves.get(client).ok_or_else(|| io::Error::other(format!("there is no client {client}")))?;
        let shown = CertifiedKey::new(vec![leaf.clone(), self.intermediate.clone()], self.key.clone());
        let mut config = self.config.clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        config.client_auth_cert_resolver = Arc::new(Shown(Arc::new(shown)));
        let stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream).await
    }
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).map_err(io::Error::other)?;
    read.collect::<Result<_, _>>().map_err(io::Error::other)
}
