//! The webhook's certificate: in force from the next handshake after its files changed.
//!
//! `server.rs` asks for it at each handshake; `portcullis` keeps looking at the files. It must never leave the webhook
//! without one: half a pair changes nothing.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use proxy::Clock;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sources::ServerCredential;

use crate::metrics::Metrics;

/// Two small files are read; cert-manager renews long before the end, and the kubelet brings it within a minute.
const LOOK: Duration = Duration::from_secs(1);

/// The certificate in force, and where it comes from.
pub struct Serving {
    current: ArcSwap<CertifiedKey>,
    files: Mutex<ServerCredential>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing of a key.
        f.write_str("Serving")
    }
}

impl Serving {
    /// With what was loaded at start.
    #[must_use]
    pub fn new(files: ServerCredential, metrics: Arc<Metrics>) -> Arc<Serving> {
        metrics.expires(files.credential().not_after.as_millis().div_euclid(1000));
        // aws-lc measures jitter for some 100 ms when it is first asked; the first API server shall not wait for that, and
        // does if there is no thread to spare.
        let _ = std::thread::Builder::new().name("warm-up".to_owned()).spawn(|| {
            let _ = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut [0; 32]);
        });
        let current = ArcSwap::new(Arc::clone(&files.credential().key));
        Arc::new(Serving { current, files: Mutex::new(files), metrics })
    }

    /// Looks at the files for ever.
    pub async fn keep_looking(self: Arc<Serving>, clock: Clock) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            let (serving, now) = (Arc::clone(&self), clock.now());
            // Reading files may wait for a disk.
            let _ = tokio::task::spawn_blocking(move || serving.look(now)).await;
        }
    }

    fn look(&self, now: trust::Time) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match files.look(now) {
            None => {}
            Some(Ok(credential)) => {
                self.metrics.expires(credential.not_after.as_millis().div_euclid(1000));
                self.metrics.reloaded(true);
                self.current.store(Arc::clone(&credential.key));
                tracing::info!(event = "certificate", "a new certificate is in force from the next handshake");
            }
            Some(Err(why)) => {
                self.metrics.reloaded(false);
                tracing::error!(event = "certificate", detail = %why, "the last good certificate stays");
            }
        }
    }

    /// For handshakes. Whoever asks needs no certificate: an API server has none unless it is told to, and an answer
    /// holds nothing but what the question held and what is in every injected pod.
    pub(crate) fn server_config(self: &Arc<Serving>) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}
