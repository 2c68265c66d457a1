//! The handshake: a socket in; a TLS stream and a verified, judged session out.
//!
//! Called by `worker.rs` for each accepted socket, and by `doorman.rs` for operators. Client certificates are required
//! and never remembered: rustls would restore a peer's identity from a ticket without asking the verifier, so nothing
//! is resumed.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use trust::{Bundle, Chain, Denial, Flaw, Identity, Session, Sha256, TrustState, judge};

use crate::bounds::Bound;
use crate::doorman::Rules;
use crate::doorstep::Spoke;
use crate::live::Live;
use crate::shares::Identities;
use crate::socket::ClientSocket;

/// How long a refused client's socket stays, and how much of what it still sends is read and thrown away.
const ALERT_WAIT: Duration = Duration::from_millis(500);
const MAX_IGNORED: u64 = 64 * 1024;

/// Intermediates that `sources` was told of: as many as `revocation` remembers. Beyond that they are told again.
const MAX_INTRODUCED: usize = 1024;

/// What a good handshake proved.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) chain: Chain,
    pub(crate) presented: Box<[CertificateDer<'static>]>,
    /// A CRL of one of its issuers waits for that issuer's certificate, which the chain holds.
    pub(crate) introduces: bool,
}

/// Why a handshake failed.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// The presented certificates make no chain.
    Flaw(Flaw),
    /// They do, and the judge says no.
    Denial(Denial, Box<Chain>),
    /// No certificate was presented.
    NoCertificate,
    /// Not within its deadline.
    TimedOut,
    /// The client went away.
    ClientGone,
    /// TLS itself failed; what rustls says.
    Tls(String),
    /// There was no place, or none for this identity.
    Limit(Bound, Option<Identity>),
    /// It was redirected here on its way to a port that is no app's.
    UndeclaredPort(Option<SocketAddr>),
}

impl Refusal {
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Refusal::Flaw(flaw) => flaw.label(),
            Refusal::Denial(denial, _) => denial.label(),
            Refusal::NoCertificate => "no_certificate",
            Refusal::TimedOut => "timeout",
            Refusal::ClientGone => "client_gone",
            Refusal::Tls(_) => "tls_error",
            Refusal::Limit(..) => "limit",
            Refusal::UndeclaredPort(_) => "undeclared_port",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Flaw(flaw) => flaw.fmt(f),
            Refusal::Denial(denial, _) => denial.fmt(f),
            Refusal::Tls(why) => write!(f, "tls_error: {why}"),
            Refusal::Limit(bound, _) => write!(f, "limit: {}", bound.label()),
            Refusal::UndeclaredPort(Some(wanted)) => write!(f, "undeclared_port: {wanted}"),
            Refusal::NoCertificate | Refusal::TimedOut | Refusal::ClientGone => f.write_str(self.label()),
            Refusal::UndeclaredPort(None) => f.write_str(self.label()),
        }
    }
}

/// Seeds the provider's random generator on a thread of its own: aws-lc measures jitter for some 100 ms when it is
/// first asked, which would otherwise be the first client's wait.
pub(crate) fn warm_up() {
    // Without a thread to spare the first handshake pays.
    let _ = std::thread::Builder::new().name("warm-up".to_owned()).spawn(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut [0; 32]);
    });
}

/// The one line that chooses the crypto provider of the traffic.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Shakes hands. The deadline is the caller's. A refused client's socket comes back, for [`let_alert_arrive`].
pub(crate) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    verifier: Arc<Verifier>,
    protocols: &[&str],
    socket: S,
) -> Result<(TlsStream<S>, Facts), (Refusal, Option<S>)> {
    let config = verifier.configuration(protocols).map_err(|error| (Refusal::Tls(error.to_string()), None))?;
    let accepted = TlsAcceptor::from(Arc::new(config)).accept(socket).into_fallible().await;
    let (refusal, socket) = match (accepted, verifier.outcome.get()) {
        (Ok(stream), Some(Ok(facts))) => return Ok((stream, facts.clone())),
        // A handshake that ends well without the verifier cannot be, and must not pass if it is.
        (Ok(_), _) => return Err((Refusal::NoCertificate, None)),
        (Err((_, socket)), Some(Err(refusal))) => (refusal.clone(), socket),
        (Err((error, socket)), _) => (of_io(&error), socket),
    };
    let reachable = !matches!(refusal, Refusal::ClientGone);
    Err((refusal, reachable.then_some(socket)))
}

/// The parts of every handshake that stay the same until a publish.
pub(crate) struct Porter {
    live: Arc<Live>,
    provider: Arc<CryptoProvider>,
    hints: RefCell<(Arc<Bundle>, Arc<[DistinguishedName]>)>,
    /// Fingerprints of the intermediates that `sources` was told of.
    introduced: RefCell<HashSet<Sha256>>,
    identities: Arc<Identities>,
}

impl Porter {
    pub(crate) fn new(live: Arc<Live>, identities: Arc<Identities>) -> Porter {
        let bundle = live.current().state.bundle.clone();
        let hints = RefCell::new((bundle.clone(), names(&bundle)));
        Porter { live, provider: provider(), hints, introduced: RefCell::default(), identities }
    }

    /// Shakes hands; `spoke` learns when the client has said whom it is looking for. The deadline is the caller's.
    pub(crate) async fn shake_hands(
        &self,
        protocols: &[&str],
        socket: ClientSocket,
        spoke: &Spoke,
    ) -> Result<(TlsStream<ClientSocket>, Facts), Refusal> {
        let mut verifier = Verifier::new(&self.live, &self.provider, self.current_hints(), None);
        verifier.spoke = spoke.clone();
        verifier.identities = Some(self.identities.clone());
        match shake_hands(Arc::new(verifier), protocols, socket).await {
            Ok((mut stream, facts)) => {
                let Some(share) = self.identities.enter(facts.chain.identity.typed()) else {
                    // Others came in since the verifier asked.
                    tokio::task::spawn_local(let_alert_arrive(stream));
                    return Err(Refusal::Limit(Bound::ConnectionsPerIdentity, Some(facts.chain.identity)));
                };
                stream.get_mut().0.holds(share);
                self.introduce(&facts);
                Ok((stream, facts))
            }
            Err((refusal, socket)) => {
                if let Some(socket) = socket {
                    tokio::task::spawn_local(let_alert_arrive(socket));
                }
                Err(refusal)
            }
        }
    }

    /// Tells `sources` about the intermediates of a verified path, so that a CRL of theirs which comes later speaks
    /// of this session at once: nobody would introduce them for a session that is open already.
    fn introduce(&self, facts: &Facts) {
        let mut known = self.introduced.borrow_mut();
        for link in &facts.chain.intermediates {
            // Where a CRL waits for one of them, `sources` has forgotten it, or never heard.
            if known.contains(&link.fingerprint) && !facts.introduces {
                continue;
            }
            let certificate = facts.presented.get(link.position);
            if certificate.is_some_and(|certificate| self.live.introduce(certificate)) {
                if known.len() >= MAX_INTRODUCED {
                    known.clear();
                }
                known.insert(link.fingerprint);
            }
        }
    }

    /// A CRL waits for an issuer that `chain` shows: returns when `sources` has indexed it and published. Whatever
    /// comes of it, the session is judged afterwards.
    pub(crate) async fn until_indexed(&self, chain: &Chain) {
        let mut changes = self.live.watch();
        while waits_for_issuer(chain, &self.live.current().state) && changes.changed().await.is_ok() {}
    }

    fn current_hints(&self) -> Arc<[DistinguishedName]> {
        let published = self.live.current();
        let mut hints = self.hints.borrow_mut();
        if !Arc::ptr_eq(&hints.0, &published.state.bundle) {
            *hints = (published.state.bundle.clone(), names(&published.state.bundle));
        }
        hints.1.clone()
    }
}

/// A TLS 1.3 client sends its request before it reads our verdict: closing at once would reset the connection and
/// take the alert with it.
pub(crate) async fn let_alert_arrive(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let wait = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut (&mut socket).take(MAX_IGNORED), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(ALERT_WAIT, wait).await;
}

pub(crate) fn names(bundle: &Bundle) -> Arc<[DistinguishedName]> {
    bundle.names().map(|name| DistinguishedName::from(name.to_vec())).collect()
}

fn of_io(error: &io::Error) -> Refusal {
    let tls = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoCertificatesPresented) => Refusal::NoCertificate,
        Some(other) => Refusal::Tls(other.to_string()),
        None => Refusal::ClientGone,
    }
}

#[derive(Debug)]
struct OurCertificate {
    key: Arc<CertifiedKey>,
    spoke: Spoke,
}

impl ResolvesServerCert for OurCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.spoke.store(true, Ordering::Relaxed);
        Some(self.key.clone())
    }
}

/// Verifies and judges the client of one handshake, and keeps what it found.
pub(crate) struct Verifier {
    live: Arc<Live>,
    provider: Arc<CryptoProvider>,
    hints: Arc<[DistinguishedName]>,
    /// Whom it is about if not the app's clients.
    rules: Option<Arc<Rules>>,
    /// How many connections each client has, if that is bounded.
    identities: Option<Arc<Identities>>,
    spoke: Spoke,
    outcome: OnceLock<Result<Facts, Refusal>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    pub(crate) fn new(
        live: &Arc<Live>,
        provider: &Arc<CryptoProvider>,
        hints: Arc<[DistinguishedName]>,
        rules: Option<Arc<Rules>>,
    ) -> Verifier {
        let (live, provider) = (live.clone(), provider.clone());
        Verifier { live, provider, hints, rules, identities: None, spoke: Spoke::default(), outcome: OnceLock::new() }
    }

    fn configuration(self: &Arc<Verifier>, protocols: &[&str]) -> Result<ServerConfig, rustls::Error> {
        let credential = OurCertificate { key: self.live.credential().key.clone(), spoke: self.spoke.clone() };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(self.clone())
            .with_cert_resolver(Arc::new(credential));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn decide(&self, presented: Box<[CertificateDer<'static>]>) -> Result<Facts, Refusal> {
        let now = self.live.now();
        let published = self.live.current();
        let ruled = self.rules.as_ref().map(|rules| rules.over(&published.state));
        let state = ruled.as_ref().unwrap_or(&published.state);
        let chain = trust::verify(&presented, &state.bundle, now).map_err(Refusal::Flaw)?;
        let session = Session::new(chain, presented, now);
        let denial = judge(&session, state, now).err();
        let introduces = waits_for_issuer(&session.chain, state);
        let Session { chain, presented, .. } = session;
        match denial {
            // Its status is unknown only until the waiting CRL is indexed: judged again after that.
            Some(Denial::StatusUnknown(_)) if introduces => {}
            Some(denial) => return Err(Refusal::Denial(denial, Box::new(chain))),
            None => {}
        }
        if self.identities.as_ref().is_some_and(|identities| identities.is_full(chain.identity.typed())) {
            return Err(Refusal::Limit(Bound::ConnectionsPerIdentity, Some(chain.identity)));
        }
        Ok(Facts { chain, presented, introduces })
    }
}

fn waits_for_issuer(chain: &Chain, state: &TrustState) -> bool {
    let Some(snapshot) = state.snapshot().filter(|snapshot| snapshot.waits()) else { return false };
    // The anchor is known to the library already: only links signed by an intermediate can introduce one.
    let by_intermediate = std::iter::once(&chain.leaf).chain(&chain.intermediates).take(chain.intermediates.len());
    by_intermediate.into_iter().any(|link| snapshot.waits_for(&link.issuer_name))
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let presented = std::iter::once(leaf).chain(others).map(|one| one.clone().into_owned()).collect();
        let outcome = self.outcome.get_or_init(|| self.decide(presented));
        match outcome {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(rustls::Error::InvalidCertificate(alert(refusal))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The error that makes rustls send the alert nearest to the reason (RFC 8446 §6.2).
fn alert(refusal: &Refusal) -> CertificateError {
    match refusal {
        Refusal::Denial(Denial::Revoked { .. }, _) => CertificateError::Revoked,
        Refusal::Denial(Denial::Expired(_), _) | Refusal::Flaw(Flaw::Expired(_)) => CertificateError::Expired,
        Refusal::Denial(Denial::NotYetValid(_), _) | Refusal::Flaw(Flaw::NotYetValid(_)) => {
            CertificateError::NotValidYet
        }
        Refusal::Denial(Denial::StatusUnknown(_), _) => CertificateError::UnknownRevocationStatus,
        // A root of a known name and another key signed nothing that we trust: to its client that is an unknown issuer.
        Refusal::Flaw(Flaw::UnknownIssuer | Flaw::AnchorOfAnotherTrustDomain | Flaw::BadSignature) => {
            CertificateError::UnknownIssuer
        }
        Refusal::Flaw(Flaw::Malformed(_)) => CertificateError::BadEncoding,
        Refusal::Flaw(Flaw::NotForClients) => CertificateError::InvalidPurpose,
        Refusal::Denial(..)
        | Refusal::Flaw(Flaw::TooLong | Flaw::Identity(_) | Flaw::IssuerNotEntitled | Flaw::Unacceptable)
        | Refusal::NoCertificate
        | Refusal::TimedOut
        | Refusal::ClientGone
        | Refusal::Limit(..)
        | Refusal::UndeclaredPort(_)
        | Refusal::Tls(_) => CertificateError::ApplicationVerificationFailure,
    }
}
