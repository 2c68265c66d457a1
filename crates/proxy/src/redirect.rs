//! Connections that the kernel sent here instead of to the port that was dialled (nftables' `redirect`).
//!
//! Asked by `entrance.rs` for each socket of such an inbound: where its client wanted to go says which app is meant.
//! It must never lead anybody to a port that is not declared, nor to an address that is not the pod's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use crate::app::App;
use crate::config::{AppAddress, Inbound, Limits};

/// Which app is behind a connection: the inbound's place in the configuration, and the app's among those behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) inbound: usize,
    pub(crate) app: usize,
}

/// The apps behind one inbound as one worker sees them.
pub(crate) struct Doors {
    pub(crate) apps: Vec<Rc<App>>,
    /// Where a client has to have wanted to go for each of them; none if there is but one, for everybody.
    by_destination: Vec<SocketAddr>,
    redirected: bool,
}

impl Doors {
    pub(crate) fn new(inbound: &Inbound, limits: &Limits, shares: &Arc<Semaphore>) -> Doors {
        let app = |address| App::new((address, &inbound.protocol), limits, shares);
        match &inbound.app {
            AppAddress::Redirected { ports, pod_addresses } => {
                let at = |address| ports.iter().map(move |port| SocketAddr::new(address, *port));
                let by_destination: Vec<_> = pod_addresses.iter().copied().flat_map(at).collect();
                let apps = by_destination.iter().map(|place| app(AppAddress::Socket(*place))).collect();
                Doors { apps, by_destination, redirected: true }
            }
            address @ (AppAddress::Socket(_) | AppAddress::Name(..) | AppAddress::Unix(_)) => {
                Doors { apps: vec![app(address.clone())], by_destination: Vec::new(), redirected: false }
            }
        }
    }

    /// Whether clients' destinations matter here at all.
    pub(crate) fn are_redirected(&self) -> bool {
        self.redirected
    }

    /// The place of the app at this destination.
    pub(crate) fn find(&self, destination: SocketAddr) -> Option<usize> {
        self.by_destination.iter().position(|place| *place == destination)
    }
}

/// Where the client of an accepted socket wanted to go; `None` if the kernel does not know.
pub(crate) fn destination(socket: &TcpStream) -> Option<SocketAddr> {
    let socket = socket2::SockRef::from(socket);
    let destination = socket.original_dst_v4().or_else(|_| socket.original_dst_v6()).ok()?.as_socket()?;
    Some(canonical(destination))
}

/// An IPv4 address as such, also at a socket that listens on IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The proxy's own dials of the app, made to find out whether they come back here as a stranger's would.
///
/// Known by where they come from and wanted to go, not by their port: of two that become the same connection by the
/// redirection the kernel gives one another port. No stranger has an address of the pod's, the kernel drops what comes
/// from outside with one (`martian source`).
#[derive(Debug, Default)]
pub struct OwnDials(Mutex<HashMap<(IpAddr, SocketAddr), oneshot::Sender<()>>>);

impl OwnDials {
    /// From now on a connection from `own` that wanted to go to `app` is known. What is returned tells that it came,
    /// and is to be had before it is dialled.
    pub fn announce(&self, own: IpAddr, app: SocketAddr) -> oneshot::Receiver<()> {
        let (came, told) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((own, app), came);
        told
    }

    /// Whether this is one of them. It is told of once.
    pub(crate) fn came(&self, peer: IpAddr, destination: SocketAddr) -> bool {
        let dial = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(peer, destination));
        // Whoever dialled may have given up.
        dial.is_some_and(|came| came.send(()).is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Protocol;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn only_declared_ports_at_the_pods_addresses_lead_anywhere() {
        let pod_addresses = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let app = AppAddress::Redirected { ports: vec![8080, 9090], pod_addresses };
        let inbound = Inbound { listen: at("0.0.0.0:15006"), app, protocol: Protocol::Auto };
        let doors = Doors::new(&inbound, &Limits::default(), &Arc::new(Semaphore::new(1)));
        let found = ["10.0.0.7:8080", "10.0.0.7:9090", "[fd00::7]:8080", "[fd00::7]:9090"].map(|to| doors.find(at(to)));
        assert_eq!(found, [Some(0), Some(1), Some(2), Some(3)]);
        for bad in ["10.0.0.7:8081", "10.0.0.8:8080", "127.0.0.1:8080", "10.0.0.7:15006", "[::1]:8080"] {
            assert_eq!(doors.find(at(bad)), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_own_dial_is_known_by_both_of_its_ends_and_once() {
        let dials = OwnDials::default();
        let (own, app) = ("10.0.0.7".parse().unwrap(), at("10.0.0.7:8080"));
        let told = dials.announce(own, app);
        assert!(!dials.came("10.0.0.8".parse().unwrap(), app) && !dials.came(own, at("10.0.0.7:8081")));
        assert!(dials.came(own, app) && !dials.came(own, app));
        told.await.unwrap();
        drop(dials.announce(own, app));
        assert!(!dials.came(own, app), "nobody waits for it");
    }
}
