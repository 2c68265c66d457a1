//! The entrance: from an accepted socket to a session that is admitted, or to a refusal.
//!
//! Part of `worker.rs`, which runs it for each socket. A client finds a place or is refused at once; whoever says nothing
//! while others wait goes first. It must never let a session in: `Worker::admit` does, and judges it.

use std::net::SocketAddr;
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
use crate::redirect::{Door, canonical, destination};
use crate::socket::ClientSocket;
use crate::worker::{Arriving, Worker};

impl Worker {
    /// From a socket to a session that is served.
    pub(crate) async fn welcome(self: Rc<Worker>, arriving: Arriving) {
        let Arriving { socket, peer, inbound } = arriving;
        let (started, gate) = (monotonic(), Arc::new(Gate::default()));
        let refusal = match self.find_door(inbound, (&socket, peer)) {
            Ok(door) => {
                let bringing = self.bring_in((socket, door), &gate);
                match tokio::time::timeout(self.limits.handshake, bringing).await {
                    Ok(Ok((stream, facts))) => {
                        self.metrics.handshake("ok", Some(started.elapsed()));
                        return self.admit((peer, door), (stream, facts), gate);
                    }
                    Ok(Err(refusal)) => refusal,
                    Err(_) => Refusal::TimedOut,
                }
            }
            Err(refusal) => {
                reset(&socket);
                let Some(refusal) = refusal else {
                    self.vitals.sessions.fetch_sub(1, Ordering::Relaxed);
                    return;
                };
                refusal
            }
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
            Refusal::Flaw(_)
            | Refusal::Denial(..)
            | Refusal::NoCertificate
            | Refusal::ClientGone
            | Refusal::Tls(_)
            | Refusal::UndeclaredPort(_) => {
                self.ration.refused(peer, &refusal, &self.live);
            }
        }
    }

    /// Which app the client wants. Whoever was redirected says so by where it wanted to go; whoever dialled such an
    /// inbound itself wanted to go to no app. The proxy's own dial came to be seen here, and is no refusal either.
    fn find_door(
        &self,
        inbound: usize,
        (socket, peer): (&std::net::TcpStream, SocketAddr),
    ) -> Result<Door, Option<Refusal>> {
        let Some(doors) = self.doors.get(inbound).filter(|doors| doors.are_redirected()) else {
            return Ok(Door { inbound, app: 0 });
        };
        let Some(wanted) = destination(socket) else { return Err(Some(Refusal::UndeclaredPort(None))) };
        if self.shares.own_dials.came(canonical(peer).ip(), wanted) {
            return Err(None);
        }
        doors.find(wanted).map(|app| Door { inbound, app }).ok_or(Some(Refusal::UndeclaredPort(Some(wanted))))
    }

    /// Finds a place and shakes hands. Whoever has to go is reset: a close would leave a socket in TIME_WAIT for each.
    async fn bring_in(
        &self,
        (socket, door): (std::net::TcpStream, Door),
        gate: &Arc<Gate>,
    ) -> Result<(TlsStream<ClientSocket>, Facts), Refusal> {
        let Some(slot) = self.connection_slot().await else {
            reset(&socket);
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
            shaken = self.shake_hands((socket, slot), door, (gate, &spoke)) => shaken,
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
        door: Door,
        (gate, spoke): (&Arc<Gate>, &Spoke),
    ) -> Result<(TlsStream<ClientSocket>, Facts), Refusal> {
        let socket = TcpStream::from_std(socket).and_then(|socket| ClientSocket::new(socket, gate.clone(), slot));
        let socket = socket.map_err(|_| Refusal::ClientGone)?;
        let app = self.app(door);
        let protocols = app.as_ref().map(|app| app.protocol.offers()).unwrap_or_default();
        let (stream, facts) = self.porter.shake_hands(&protocols, socket, spoke).await?;
        if facts.introduces {
            // Half of the handshake's deadline, so that the client learns its status instead of a timeout.
            let _ = tokio::time::timeout(self.limits.handshake / 2, self.porter.until_indexed(&facts.chain)).await;
        }
        Ok((stream, facts))
    }
}

/// Its close, soon to come, will be a reset. A failure leaves the ordinary close: nothing better can be done.
fn reset(socket: &std::net::TcpStream) {
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
