//! Whoever asks: the owner of the Unix socket, or a guest with a certificate.
//!
//! Made by `control.rs` once for each connection, asked by `api.rs` for every request. It must never answer from
//! memory whether a guest is trusted.

use std::net::SocketAddr;

use proxy::Guest;
use trust::Denial;

use crate::roles::{Grant, Roles, roles_of};

/// One connection's operator.
pub(crate) enum Caller {
    /// Could open the socket, which only its owner and root may: every role.
    Owner {
        /// Of the peer's process.
        uid: u32,
    },
    /// Came in by a certificate.
    Guest { guest: Box<Guest>, roles: Roles, peer: SocketAddr },
}

impl Caller {
    pub(crate) fn guest(guest: Guest, grants: &[Grant], peer: SocketAddr) -> Caller {
        let roles = roles_of(guest.identity(), grants);
        Caller::Guest { guest: Box::new(guest), roles, peer }
    }

    pub(crate) fn roles(&self) -> Roles {
        match self {
            Caller::Owner { .. } => Roles::all(),
            Caller::Guest { roles, .. } => *roles,
        }
    }

    /// For logs and records: the identity, or the user.
    pub(crate) fn who(&self) -> String {
        match self {
            Caller::Owner { uid } => format!("unix:uid={uid}"),
            Caller::Guest { guest, .. } => guest.identity().typed().to_owned(),
        }
    }

    /// Of the certificate.
    pub(crate) fn serial(&self) -> Option<&str> {
        match self {
            Caller::Owner { .. } => None,
            Caller::Guest { guest, .. } => Some(guest.serial()),
        }
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Caller::Owner { .. } => None,
            Caller::Guest { peer, .. } => Some(*peer),
        }
    }

    /// Whether trust holds, now.
    pub(crate) fn judge(&self) -> Result<(), Denial> {
        match self {
            Caller::Owner { .. } => Ok(()),
            Caller::Guest { guest, .. } => guest.judge(),
        }
    }

    /// Returns when trust ends.
    pub(crate) async fn until_denied(&self) -> Denial {
        match self {
            Caller::Owner { .. } => std::future::pending().await,
            Caller::Guest { guest, .. } => guest.until_denied().await,
        }
    }
}
