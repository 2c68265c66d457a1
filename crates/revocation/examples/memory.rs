//! What a million revocations cost in memory, by the kernel's count.
//!
//! `cargo run --release -p revocation --example memory -- write DIR` writes the files, then `… -- DIR/FILE` reads one
//! in a fresh process and prints its size, its peak and what stays. Part of `make bench`; Linux only.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/forge/mod.rs"]
mod forge;

use std::path::{Path, PathBuf};
use std::time::Instant;

use forge::{Authority, NOW, SIGNS_ALL, bundle, large_compiled, large_crl, large_list, pem};
use revocation::{Library, read};
use rustls_pki_types::CertificateDer;
use trust::{Bundle, Speaks};

const ENTRIES: u32 = 1_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", folder] => write(Path::new(folder)),
        [file] => measure(Path::new(file)),
        _ => println!("memory write DIR | memory DIR/FILE"),
    }
}

fn write(folder: &Path) {
    let root = Authority::new("root", SIGNS_ALL);
    let _ = bundle(&[&root]);
    let der = large_crl(&root, ENTRIES);
    std::fs::write(folder.join("root.der"), &root.certificate).unwrap();
    std::fs::write(folder.join("crl.pem"), pem(&der)).unwrap();
    std::fs::write(folder.join("crl.der"), der).unwrap();
    std::fs::write(folder.join("list.jsonl"), large_list(ENTRIES)).unwrap();
    std::fs::write(folder.join("list.bin"), large_compiled(ENTRIES)).unwrap();
}

fn measure(file: &Path) {
    let root: PathBuf = file.with_file_name("root.der");
    let root = CertificateDer::from(std::fs::read(root).unwrap());
    let anchors = Bundle::new(vec![(root, Speaks::ForAnybody)]).unwrap();
    let mut library = Library::default();
    let before = kibibytes("VmRSS:");
    let start = Instant::now();
    let bytes = std::fs::read(file).unwrap();
    let size = bytes.len() / 1024;
    let accepted = library.accept(read(bytes).unwrap(), &anchors, NOW).unwrap();
    let took = start.elapsed().as_millis();
    let (peak, after) = (kibibytes("VmHWM:") - before, kibibytes("VmRSS:") - before);
    let name = file.file_name().unwrap().to_string_lossy();
    println!("{name}: {took} ms; file {size} KiB, peak {peak} KiB (file + {}), resident {after} KiB", peak - size);
    println!("{accepted}");
}

fn kibibytes(row: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(row)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
