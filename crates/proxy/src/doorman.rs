//! The door for operators: clients of the control listener, shaken hands with and judged as strictly as the app's.
//!
//! Used by `control`. Its own bundle and allow list, but the same certificate, revocations, overlay and clock: what
//! is published for the traffic counts here from the same moment on. Two things differ, so that the push which heals
//! the proxy can come in: knowledge that is missing or past its expiry locks nobody out. It must never forward.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use trust::{
    Allow, Bundle, CrlCoverage, Denial, Identity, IdentityPattern, Knowledge, Policy, Session, Stale, Time, TrustState,
    judge,
};

use crate::audit;
use crate::handshake::{self, Facts, Refusal, Verifier};
use crate::live::Live;
use crate::path::over_any_path;

/// From the accept to the end of the handshake, as for the app's clients.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest wait until an open connection is judged again: how late a jump of the wall clock is noticed.
const BEAT: Duration = Duration::from_secs(1);

/// An operator's connection, to be spoken HTTP/1.1 over.
pub type GuestStream = TlsStream<TcpStream>;

/// What makes an operator's trust another than a client's.
pub(crate) struct Rules {
    bundle: Arc<Bundle>,
    policy: Arc<Policy>,
}

impl Rules {
    fn new(bundle: Arc<Bundle>, allow: Allow) -> Rules {
        let policy = Policy {
            allow,
            crl_coverage: CrlCoverage::None,
            stale: Stale::Serve,
            snapshot_max_age: None,
            max_session_age: None,
            max_certificate_age: None,
            idle_timeout: None,
        };
        Rules { bundle, policy: Arc::new(policy) }
    }

    /// The state that operators are judged under while `state` is that of the traffic.
    pub(crate) fn over(&self, state: &TrustState) -> TrustState {
        let knowledge = match &state.knowledge {
            Knowledge::Known(snapshot) if !snapshot.knows_nothing() => Knowledge::Known(snapshot.clone()),
            Knowledge::Known(_) | Knowledge::Missing | Knowledge::NotWanted => Knowledge::NotWanted,
        };
        TrustState {
            epoch: state.epoch,
            bundle: self.bundle.clone(),
            knowledge,
            overlay: state.overlay.clone(),
            policy: self.policy.clone(),
        }
    }
}

/// Why somebody did not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turned {
    /// One fixed word.
    pub label: &'static str,
    /// The reason in words, for logs.
    pub sentence: String,
    /// Who, if the certificates verified.
    pub identity: Option<String>,
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Turned {
        let sentence = refusal.to_string();
        let label = refusal.label();
        let identity = match refusal {
            Refusal::Denial(_, chain) => Some(chain.identity.typed().to_owned()),
            Refusal::Flaw(_)
            | Refusal::NoCertificate
            | Refusal::TimedOut
            | Refusal::ClientGone
            | Refusal::Tls(_)
            | Refusal::UndeclaredPort(_) => None,
            Refusal::Limit(_, identity) => identity.map(|identity| identity.typed().to_owned()),
        };
        Turned { label, sentence, identity }
    }
}

/// Lets operators in.
pub struct Doorman {
    live: Arc<Live>,
    provider: Arc<CryptoProvider>,
    rules: Arc<ArcSwap<Rules>>,
}

impl Doorman {
    /// Whoever `bundle` vouches for and `allowed` names; nobody if it names nobody.
    #[must_use]
    pub fn new(live: Arc<Live>, bundle: Arc<Bundle>, allowed: Vec<IdentityPattern>) -> Doorman {
        let rules = Rules::new(bundle, Allow::Only(allowed));
        Doorman { live, provider: handshake::provider(), rules: Arc::new(ArcSwap::from_pointee(rules)) }
    }

    /// Another bundle from now on, for those who are inside too.
    pub fn trust(&self, bundle: Arc<Bundle>) {
        let policy = self.rules.load().policy.clone();
        self.rules.store(Arc::new(Rules { bundle, policy }));
        self.live.nudge();
    }

    /// Shakes hands with whoever is at `socket` and judges them. One who is turned away is waited for until they have
    /// read why, half a second at most.
    pub async fn admit(&self, socket: TcpStream) -> Result<(GuestStream, Guest), Turned> {
        let gone = |_: io::Error| Turned::from(Refusal::ClientGone);
        socket.set_nodelay(true).map_err(gone)?;
        let rules = self.rules.load_full();
        let hints = handshake::names(&rules.bundle);
        let verifier = Arc::new(Verifier::new(&self.live, &self.provider, hints, Some(rules)));
        let shaking = handshake::shake_hands(verifier, &["http/1.1"], socket);
        match tokio::time::timeout(HANDSHAKE, shaking).await {
            Ok(Ok((stream, facts))) => {
                let guest = self.receive(facts);
                // Published, or past its end, since the handshake's verdict.
                guest.judge().map_err(|denial| Turned {
                    label: denial.label(),
                    sentence: denial.to_string(),
                    identity: Some(guest.identity.typed().to_owned()),
                })?;
                Ok((stream, guest))
            }
            Ok(Err((refusal, socket))) => {
                if let Some(socket) = socket {
                    handshake::let_alert_arrive(socket).await;
                }
                Err(refusal.into())
            }
            Err(_) => Err(Refusal::TimedOut.into()),
        }
    }

    fn receive(&self, facts: Facts) -> Guest {
        if facts.introduces {
            // A CRL waits for an issuer that this chain shows. Nobody is kept waiting for it: once it is in force,
            // the next judgement heeds it.
            for link in &facts.chain.intermediates {
                let certificate = facts.presented.get(link.position);
                let _ = certificate.is_some_and(|certificate| self.live.introduce(certificate));
            }
        }
        let (identity, serial) = (facts.chain.identity.clone(), audit::serial(&facts.chain));
        let session = Mutex::new(Session::new(facts.chain, facts.presented, self.live.now()));
        Guest { live: self.live.clone(), rules: self.rules.clone(), identity, serial, session }
    }
}

/// An operator who came in, and who is judged again whenever something is asked for.
pub struct Guest {
    live: Arc<Live>,
    rules: Arc<ArcSwap<Rules>>,
    identity: Identity,
    serial: String,
    session: Mutex<Session>,
}

impl Guest {
    /// Who.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The serial number of the certificate in hexadecimal, for logs.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Whether the guest is trusted now, judged in full. Asked before each request, and again before what a long one
    /// brought is acted on.
    pub fn judge(&self) -> Result<(), Denial> {
        self.judged_until().map(|_| ())
    }

    /// Until when the answer is yes, if nothing is published meanwhile.
    fn judged_until(&self) -> Result<Time, Denial> {
        let now = self.live.now();
        let state = self.rules.load().over(&self.live.current().state);
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let (_permit, again) = over_any_path(&session, (&state, now), |session| judge(session, &state, now))?;
        if let Some(again) = again {
            *session = again;
        }
        Ok(session.memo().until())
    }

    /// Returns when the guest is not trusted any more.
    pub async fn until_denied(&self) -> Denial {
        let mut changes = self.live.watch();
        loop {
            changes.mark_unchanged();
            let until = match self.judged_until() {
                Ok(until) => until,
                Err(denial) => return denial,
            };
            let wait = until.since(self.live.now()).min(BEAT);
            tokio::select! {
                // It cannot end: its other end is in `live`.
                _ = changes.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
