//! The forge's part: a root, an intermediate, the server's certificate and one for each client.
//!
//! Called once for a run. All clients share one key, since the bench has thousands of them; serials and SPIFFE IDs are
//! distinct, so that a list can name some. It must never write outside the folder it is given.

use std::fs;
use std::io;
use std::path::Path;

use testkit::{Authority, LeafSpec, hex, pem};

/// Writes `root.pem`, `server.pem`, `server.key`, `intermediate.pem`, `clients.pem` (leaves alone), `client.key`,
/// `client-chain.pem` (the first client's), `serials` (one a line, in the order of the clients) and `issuer` (the
/// digest of the key that signed them).
pub(crate) fn mint(folder: &Path, count: usize) -> io::Result<()> {
    let root = Authority::root("crowd root");
    let issuing = root.intermediate("crowd issuing");
    issuing.issue(LeafSpec::dns("localhost")).write_to(folder, "server");
    let first = issuing.issue(client(0));
    let (mut leaves, mut serials) = (first.cert_pem(), first.serial_hex() + "\n");
    for number in 1..count {
        let leaf = issuing.issue(client(number).reuse_key_of(&first));
        leaves.push_str(&leaf.cert_pem());
        serials.push_str(&leaf.serial_hex());
        serials.push('\n');
    }
    fs::write(folder.join("root.pem"), root.pem())?;
    fs::write(folder.join("intermediate.pem"), pem("CERTIFICATE", issuing.der()))?;
    fs::write(folder.join("clients.pem"), leaves)?;
    fs::write(folder.join("client.key"), first.key_pem())?;
    fs::write(folder.join("client-chain.pem"), first.chain_pem())?;
    fs::write(folder.join("serials"), serials)?;
    fs::write(folder.join("issuer"), hex(&issuing.spki_sha256()))
}

fn client(number: usize) -> LeafSpec {
    LeafSpec::spiffe(&format!("spiffe://bench.test/ns/crowd/sa/client-{number}"))
}
