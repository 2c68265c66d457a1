//! `portcullis revocations keygen`, and the keys that other commands are given.
//!
//! Called by `revocations.rs`; `edit.rs`, `import.rs`, `rewrite.rs` and `verify.rs` read keys here. It must never print
//! a secret key, replace one, or leave one readable to others for a moment.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use revocation::{PublicKey, SecretKey};
use serde_json::json;

use crate::revocations::args::KeygenWish;
use crate::revocations::file;
use crate::{Failure, print};

/// Makes a key pair.
pub(crate) fn keygen(wish: &KeygenWish) -> Result<(), Failure> {
    let public = wish.public.clone().unwrap_or_else(|| wish.out.with_extension("pub"));
    if file::is_stream(&wish.out) {
        let sentence = "--out -: a secret key goes to no stream; name a file";
        return Err(Failure::AtStart(sentence.to_owned()));
    }
    if public == wish.out {
        let sentence = format!("--out {}: the public key would go there too; add --public", wish.out.display());
        return Err(Failure::AtStart(sentence));
    }
    for (flag, path) in [("--out", &wish.out), ("--public", &public)] {
        if !file::is_stream(path) && fs::symlink_metadata(path).is_ok() {
            return Err(there_already(flag, path));
        }
    }
    let key = SecretKey::generate()
        .map_err(|why| Failure::WhileRunning(format!("no key could be made ({why}); try again")))?;
    let secret = key.to_pem().map_err(|why| Failure::WhileRunning(format!("no key could be written ({why})")))?;
    create("--out", &wish.out, &secret, 0o600)?;
    let (pem, id) = (key.public().to_pem(), key.public().id().to_string());
    if !file::is_stream(&public) {
        create("--public", &public, &pem, 0o644)?;
    }
    print::out(&if wish.json {
        let (secret, public) = (wish.out.display().to_string(), public.display().to_string());
        format!("{}\n", json!({ "secret_key": secret, "public_key": public, "id": id, "public_key_pem": pem }))
    } else if file::is_stream(&public) {
        pem
    } else {
        format!(
            "secret key  {}, for `portcullis revocations sign --key`; keep it offline\n\
             public key  {}, for --revocation-key of every sidecar\n\
             id          {id}\n{pem}",
            wish.out.display(),
            public.display()
        )
    });
    Ok(())
}

fn there_already(flag: &str, path: &Path) -> Failure {
    Failure::AtStart(format!(
        "{flag} {}: this file is there already and a key is never replaced; choose another name, or move it away",
        path.display()
    ))
}

/// A file that was not there before, with its mode from the first byte.
fn create(flag: &str, path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return there_already(flag, path);
        }
        let remedy = "name a file in a folder that you may write";
        Failure::AtStart(format!("{flag} {}: it cannot be written ({error}); {remedy}", path.display()))
    })
}

/// The secret keys of these files.
pub(crate) fn secret(paths: &[PathBuf]) -> Result<Vec<SecretKey>, Failure> {
    paths
        .iter()
        .map(|path| SecretKey::from_pem(&file::read_text(path)?).map_err(|why| wrong("--key", path, &why)))
        .collect()
}

/// The public keys of these files.
pub(crate) fn public(flag: &str, paths: &[PathBuf]) -> Result<Vec<PublicKey>, Failure> {
    paths
        .iter()
        .map(|path| PublicKey::from_pem(&file::read_text(path)?).map_err(|why| wrong(flag, path, &why)))
        .collect()
}

fn wrong(flag: &str, path: &Path, why: &str) -> Failure {
    Failure::AtStart(format!("{flag} {}: {why}", file::shown(path)))
}
