//! The public keys that sign lists: files of `--revocation-key`, read once at start.
//!
//! Called by `portcullis` before the first load. It must never read a private key without saying so.

use std::path::PathBuf;
use std::sync::Arc;

use revocation::{Keys, PublicKey};

use crate::LoadFailure;
use crate::file::{Named, PEM_LIMIT, read};

const FLAG: &str = "--revocation-key";

/// The set of keys of these files, of which `threshold` must have signed; `None` without a file.
pub fn read_keys(files: &[PathBuf], threshold: usize) -> Result<Option<Arc<Keys>>, LoadFailure> {
    let mut keys = Vec::new();
    for path in files {
        let named = Named { flag: FLAG, path };
        let bytes = read(path, PEM_LIMIT).map_err(|why| named.failure(why))?.bytes;
        let text = String::from_utf8(bytes).map_err(|_| named.failure("is no PEM file; name a public key in PEM"))?;
        keys.push(PublicKey::from_pem(&text).map_err(|why| named.failure(why))?);
    }
    if keys.is_empty() {
        return Ok(None);
    }
    let keys = Keys::new(keys, threshold).map_err(|why| LoadFailure(format!("{FLAG}: {why}")))?;
    Ok(Some(Arc::new(keys)))
}
