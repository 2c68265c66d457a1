//! Can anybody walk around the proxy? It dials the app at the pod's own addresses, as a stranger would.
//!
//! Made by `portcullis` from its flags and run on its main thread; `answer.rs` asks it for `/readyz`. An app that
//! answers there answers without mTLS. It must never dial anything but the ports that inbounds name.
//!
//! Where the kernel redirects what comes in, a pod's own dial would not be: it passes no PREROUTING. So it is made from a
//! port of its own, which `portcullis redirect` sends through the very chain of rules that strangers come by, and the
//! proxy knows it when it arrives (`proxy::OwnDials`). One that was answered and did not arrive was the app's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy::{Metrics, OwnDials};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// To a socket on the same host. Nobody answers for so long only if packets vanish or a queue is full.
const WAIT: Duration = Duration::from_secs(1);
/// From a dial that was answered to its arrival at the proxy, whose worker may be busy.
const ARRIVAL: Duration = Duration::from_secs(5);
/// The app starts after the proxy: its port is looked at more often at first.
const EARLY: Duration = Duration::from_secs(1);
const EARLY_LOOKS: u32 = 30;
const LATER: Duration = Duration::from_secs(10);

/// Looks, and remembers what it found.
pub struct Bypass {
    places: Vec<Place>,
    enforces: bool,
    found: Mutex<BTreeMap<SocketAddr, Found>>,
}

/// One port of an app at one of the pod's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where nobody but the proxy may answer.
    pub app: SocketAddr,
    /// The first of the ports to dial it from, where the kernel redirects what comes in.
    pub redirected_from: Option<u16>,
}

/// What a dial found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Somebody answers.
    Open,
    /// Nobody listens.
    Closed,
    /// Neither is known; in words, why.
    Unclear(String),
}

impl Bypass {
    /// As many ports the dials of redirected places come from, in turn. The kernel remembers for ten seconds where it
    /// sent a connection that was reset (nf_conntrack_tcp_timeout_close): the same one again would tell of rules that
    /// were, not of those that are.
    pub const PORTS: u16 = 32;

    /// Of the app at these places, each a pod's address and an app's port. With `enforces` an app that answers there
    /// makes the proxy unready, and so does not to know.
    #[must_use]
    pub fn new(places: Vec<Place>, enforces: bool) -> Arc<Bypass> {
        Arc::new(Bypass { places, enforces, found: Mutex::default() })
    }

    /// Looks now and again until the task is dropped.
    pub async fn look_for_ever(self: Arc<Self>, metrics: Arc<Metrics>, own_dials: Arc<OwnDials>) -> Infallible {
        let mut looks = 0_u32;
        loop {
            for place in &self.places {
                let found = match place.redirected_from {
                    None => dial(place.app).await,
                    Some(first) => {
                        let turn = u16::try_from(looks % u32::from(Bypass::PORTS)).unwrap_or_default();
                        dial_from(first.saturating_add(turn), place.app, &own_dials).await
                    }
                };
                self.note(place.app, found);
            }
            metrics.app_bypassable(self.open().len());
            looks = looks.saturating_add(1);
            sleep(if looks < EARLY_LOOKS { EARLY } else { LATER }).await;
        }
    }

    /// Remembers it, and tells of it if it is news. What is unclear changes nothing that was known.
    fn note(&self, place: SocketAddr, now: Found) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = found.get(&place);
        let known = matches!(before, Some(Found::Open | Found::Closed));
        if before == Some(&now) || (known && matches!(now, Found::Unclear(_))) {
            return;
        }
        match &now {
            Found::Open => tracing::warn!(
                event = "app_bypassable",
                app = %place,
                "the app answers at the pod's address without mTLS; bind it to 127.0.0.1"
            ),
            Found::Closed => {
                tracing::info!(event = "app_not_bypassable", app = %place, "nobody answers at the pod's address");
            }
            Found::Unclear(why) => tracing::warn!(
                event = "app_bypass_unclear",
                app = %place,
                why,
                "whether the app answers at the pod's address without mTLS is not known"
            ),
        }
        found.insert(place, now);
    }

    /// Where somebody answers.
    fn open(&self) -> Vec<SocketAddr> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().filter(|(_, found)| **found == Found::Open).map(|(place, _)| *place).collect()
    }

    /// For `/readyz`, in words.
    pub(crate) fn condition(&self) -> Result<String, String> {
        let open: Vec<_> = self.open().iter().map(ToString::to_string).collect();
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |place: &SocketAddr| matches!(found.get(place), Some(Found::Open | Found::Closed));
        let text = match (open.is_empty(), self.places.iter().map(|place| place.app).find(|place| !known(place))) {
            (false, _) => {
                format!("the app answers at {} without mTLS; bind it to 127.0.0.1", open.join(" and at "))
            }
            (true, Some(place)) => match found.get(&place) {
                Some(Found::Unclear(why)) => format!("whether the app answers at {place} is not known ({why})"),
                Some(Found::Open | Found::Closed) | None => "it was not looked yet".to_owned(),
            },
            (true, None) => return Ok("nobody answers at the pod's address".to_owned()),
        };
        if self.enforces { Err(text) } else { Ok(format!("{text} (--bypass-check warn)")) }
    }
}

async fn dial(place: SocketAddr) -> Found {
    match timeout(WAIT, TcpStream::connect(place)).await {
        // With nobody listening the kernel may have chosen the very port that is dialled: the socket meets itself.
        Ok(Ok(stream)) if stream.local_addr().is_ok_and(|own| own == place) => Found::Closed,
        Ok(Ok(_)) => Found::Open,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Found::Closed,
        Ok(Err(error)) => Found::Unclear(error.to_string()),
        Err(_) => Found::Unclear(format!("no answer within {} s", WAIT.as_secs())),
    }
}

/// From a port that the rules catch. That nobody listens says nothing of the rules, and is no harm: somebody who begins
/// to listen is found out at the next look.
async fn dial_from(port: u16, app: SocketAddr, own_dials: &OwnDials) -> Found {
    let own = SocketAddr::new(app.ip(), port);
    let arrival = own_dials.announce(own.ip(), app);
    let dialled = async {
        let socket = if app.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // A reset at its end, or the port would wait for a minute before it could be dialled from again.
        socket.set_zero_linger()?;
        socket.bind(own)?;
        socket.connect(app).await
    };
    match timeout(WAIT, dialled).await {
        Ok(Ok(_held)) => match timeout(ARRIVAL, arrival).await {
            Ok(Ok(())) => Found::Closed,
            Ok(Err(_)) | Err(_) => Found::Open,
        },
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Found::Closed,
        Ok(Err(error)) => Found::Unclear(error.to_string()),
        Err(_) => Found::Unclear(format!("no answer within {} s", WAIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLACE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)), 8080);

    #[test]
    fn what_is_unclear_is_no_obstacle_once_something_was_known_and_one_before() {
        let bypass = Bypass::new(vec![Place { app: PLACE, redirected_from: None }], true);
        assert!(bypass.condition().unwrap_err().contains("not looked yet"));
        let unclear = || Found::Unclear("no route".to_owned());
        bypass.note(PLACE, unclear());
        assert!(bypass.condition().unwrap_err().contains("no route"));
        bypass.note(PLACE, Found::Closed);
        bypass.note(PLACE, unclear());
        assert!(bypass.condition().is_ok());
        bypass.note(PLACE, Found::Open);
        bypass.note(PLACE, unclear());
        assert!(bypass.condition().unwrap_err().contains("10.0.0.7:8080"));
        assert_eq!(bypass.open(), [PLACE]);
    }

    #[test]
    fn a_warning_makes_nobody_unready() {
        let bypass = Bypass::new(vec![Place { app: PLACE, redirected_from: None }], false);
        assert!(bypass.condition().unwrap().contains("not looked yet"));
        bypass.note(PLACE, Found::Open);
        assert!(bypass.condition().unwrap().contains("without mTLS"));
    }

    #[tokio::test]
    async fn a_dial_tells_a_listener_from_none() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        assert_eq!(dial(place).await, Found::Open);
        drop(listener);
        assert_eq!(dial(place).await, Found::Closed);
    }
}
