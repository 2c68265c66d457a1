//! The entrance: from an accepted socket to a session that is admitted, or to a refusal.
//!
//! Part of `worker.rs`, which runs it for each socket. A client finds a place or is refused at once; whoever says nothing
//! while others wait goes first. It must never let a session in: `Worker::admit` does, and judges it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

use crate::bounds::Bound;
use crate::clock::monotonic;
use crate::doorstep::Spoke;
use crate::gate::Gate;
use crate::handshake::{Facts, Refusal};
use crate::socket::ClientSocket;
use crate::worker::{Arriving, Worker};

impl Worker {
    /// From a socket to a session that is served.
    pub(crate) async fn welcome(self: Rc<Worker>, arriving: Arriving) {
        let Arriving { socket, peer, inbound } = arriving;
        let (started, gate) = (monotonic(), Arc::new(Gate::default()));
        let refusal = match tokio::time::timeout(self.limits.handshake, self.bring_in((socket, inbound), &gate)).await {
            Ok(Ok((stream, facts))) => {
                self.metrics.handshake("ok", Some(started.elapsed()));
                return self.admit((peer, inbound), (stream, facts), gate);
            }
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal::TimedOut,
        };
        self.vitals.sessions.fetch_sub(1, Ordering::Relaxed);
        self.metrics.handshake(refusal.label(), None);
        match &refusal {
            Refusal::Limit(bound, identity) => {
                self.limited(*bound, peer, identity.as_ref().map(|identity| identity.typed()));
            }
            Refusal::TimedOut => {
                self.metrics.limited(Bound::HandshakeTimeout);
                self.ration.refused(peer, &refusal, &self.live);
            }
            Refusal::Flaw(_) | Refusal::Denial(..) | Refusal::NoCertificate | Refusal::ClientGone | Refusal::Tls(_) => {
                self.ration.refused(peer, &refusal, &self.live);
            }
        }
    }

    /// Finds a place and shakes hands. Whoever has to go is reset: a close would leave a socket in TIME_WAIT for each.
    async fn bring_in(
        &self,
        (socket, inbound): (std::net::TcpStream, usize),
        gate: &Arc<Gate>,
    ) -> Result<(TlsStream<ClientSocket>, Facts), Refusal> {
        let Some(slot) = self.connection_slot().await else {
            // A failure leaves the ordinary close: nothing better can be done.
            let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            return Err(Refusal::Limit(Bound::Connections, None));
        };
        let mut place = self.doorstep.enter();
        let spoke = place.spoke.clone();
        let asked_to_go = async {
            let bound = place.asked_to_go().await;
            gate.shut();
            bound
        };
        tokio::select! {
            biased;
            shaken = self.shake_hands((socket, slot), inbound, (gate, &spoke)) => shaken,
            bound = asked_to_go => Err(Refusal::Limit(bound, None)),
        }
    }

    /// One of all connections, or that of somebody who has said nothing yet.
    async fn connection_slot(&self) -> Option<OwnedSemaphorePermit> {
        let connections = self.shares.connections.clone();
        match connections.clone().try_acquire_owned() {
            Ok(slot) => Some(slot),
            Err(_) if self.doorstep.make_room(Bound::Connections) => connections.acquire_owned().await.ok(),
            Err(_) => None,
        }
    }

    async fn shake_hands(
        &self,
        (socket, slot): (std::net::TcpStream, OwnedSemaphorePermit),
        inbound: usize,
        (gate, spoke): (&Arc<Gate>, &Spoke),
    ) -> Result<(TlsStream<ClientSocket>, Facts), Refusal> {
        let socket = TcpStream::from_std(socket).and_then(|socket| ClientSocket::new(socket, gate.clone(), slot));
        let socket = socket.map_err(|_| Refusal::ClientGone)?;
        let app = self.app(inbound);
        let protocols = app.as_ref().map(|app| app.protocol.offers()).unwrap_or_default();
        let (stream, facts) = self.porter.shake_hands(&protocols, socket, spoke).await?;
        if facts.introduces {
            // Half of the handshake's deadline, so that the client learns its status instead of a timeout.
            let _ = tokio::time::timeout(self.limits.handshake / 2, self.porter.until_indexed(&facts.chain)).await;
        }
        Ok((stream, facts))
    }
}
