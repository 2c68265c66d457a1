//! The authorities of a house, the proxy's own certificate, and clients' certificates by name.
//! Made by `house.rs`; tests ask it for leaves that deserve an alert.
//! It must never share a root between the proxy and its clients: an anchor confused with the other has to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proxy::Credential;
use testkit::{Authority, Leaf, LeafSpec};
use trust::{Bundle, Speaks, Time};

/// The trust domain of the named clients.
pub(crate) const TRUST_DOMAIN: &str = "td";

pub(crate) struct Pki {
    /// Vouches for clients; the bundle's only anchor at first.
    pub(crate) client_root: Authority,
    /// Issues the clients' certificates, so that every chain has three links.
    pub(crate) issuing: Authority,
    /// Vouches for the proxy; what clients trust.
    pub(crate) server_root: Authority,
    leaves: Mutex<BTreeMap<String, Leaf>>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let client_root = Authority::root("clients' root");
        let issuing = client_root.intermediate("clients' issuing authority");
        Self { client_root, issuing, server_root: Authority::root("servers' root"), leaves: Mutex::default() }
    }

    /// The certificate of `spiffe://td/<name>`, minted at the first call.
    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        let mut leaves = self.leaves.lock().expect("no user of the names panics");
        let mint = || self.issuing.issue(LeafSpec::spiffe(&format!("spiffe://{TRUST_DOMAIN}/{name}")));
        leaves.entry(name.to_owned()).or_insert_with(mint).clone()
    }

    /// From now on this is the certificate of that name.
    pub(crate) fn put(&self, name: &str, leaf: Leaf) {
        self.leaves.lock().expect("no user of the names panics").insert(name.to_owned(), leaf);
    }

    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        let anchors = vec![(self.client_root.der().clone(), Speaks::ForAnybody)];
        Arc::new(Bundle::new(anchors).expect("a root of the forge can be an anchor"))
    }

    pub(crate) fn credential(&self) -> Credential {
        credential_of(&self.server_root.issue(LeafSpec::dns("localhost")))
    }
}

/// A leaf as the proxy's own certificate.
pub(crate) fn credential_of(leaf: &Leaf) -> Credential {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf.key_der()).expect("the forge's keys are known");
    Credential {
        key: Arc::new(rustls::sign::CertifiedKey::new(leaf.chain(), key)),
        not_before: Time::from_seconds(leaf.not_after().unix_timestamp() - 24 * 3600),
        not_after: Time::from_seconds(leaf.not_after().unix_timestamp()),
    }
}
