//! Plain renderings of bytes: hex, PEM, SHA-256, and a file replaced in one step.
//! Every part of the forge calls it, and so do tests.
//! It must never interpret what it renders: a broken certificate is rendered as faithfully as a good one.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The bytes as lower-case hex digits without separators.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}

/// The SHA-256 digest of the bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}

/// The DER bytes as one PEM block with the given label, for example `CERTIFICATE` or `X509 CRL`.
pub fn pem(label: &str, der: &[u8]) -> String {
    let armour = STANDARD.encode(der);
    let mut text = String::with_capacity(armour.len() + armour.len() / 64 + 2 * label.len() + 40);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = armour.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Replaces the file in one step, as a careful publisher does: written beside it first, then renamed over it.
pub fn atomic_write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let path = path.as_ref();
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    // The leading dot keeps the draft out of folders that are read by extension; the turn keeps parallel writers apart.
    let draft = folder.join(format!(".draft-{}-{}", std::process::id(), TURN.fetch_add(1, Ordering::Relaxed)));
    fs::write(&draft, bytes)?;
    fs::rename(&draft, path)
}
