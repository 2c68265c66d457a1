//! A socket to what a probe asks.
//!
//! Used by the three kinds of probes. Without a host in the probe it is dialled on loopback, where an app behind the
//! proxy listens, and at the pod's addresses if nothing listens there. It must never dial anything else.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::net::TcpStream;

use super::probe::Target;

/// Dials.
#[derive(Clone)]
pub(crate) struct Dialer {
    pod_addresses: Arc<[IpAddr]>,
}

impl Dialer {
    pub(crate) fn new(pod_addresses: &[IpAddr]) -> Dialer {
        Dialer { pod_addresses: pod_addresses.into() }
    }

    /// The address that kubelet would take.
    pub(crate) fn pod(&self) -> Option<IpAddr> {
        self.pod_addresses.first().copied()
    }

    pub(crate) async fn dial(&self, target: &Target) -> io::Result<TcpStream> {
        if let Some(host) = &target.host {
            return TcpStream::connect((host.as_str(), target.port)).await;
        }
        let mut answer = TcpStream::connect((Ipv4Addr::LOCALHOST, target.port)).await;
        for address in self.pod_addresses.iter() {
            match &answer {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    answer = TcpStream::connect((*address, target.port)).await;
                }
                Ok(_) | Err(_) => break,
            }
        }
        answer
    }
}
