//! How long a million revocations take to read: JSON lines and a CRL.
//!
//! Run by `make bench`. Targets: the list 1.5 s, the CRL 1 s, both with everything from bytes to snapshot.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../crates/revocation/tests/forge/mod.rs"]
mod forge;

use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use forge::{Authority, NOW, SIGNS_ALL, bundle, large_crl, large_list, pem};
use revocation::{Library, read};

const ENTRIES: u32 = 1_000_000;

fn a_million(criterion: &mut Criterion) {
    let root = Authority::new("root", SIGNS_ALL);
    let anchors = bundle(&[&root]);
    let der = large_crl(&root, ENTRIES);
    let files = [("list", large_list(ENTRIES)), ("crl_pem", pem(&der)), ("crl_der", der)];
    let mut group = criterion.benchmark_group("import_1m");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(10));
    for (name, bytes) in files {
        let import = |bytes: Vec<u8>| {
            let mut library = Library::new();
            library.accept(read(bytes).unwrap(), &anchors, NOW).unwrap();
            library
        };
        group.bench_function(name, |bencher| bencher.iter_batched(|| bytes.clone(), import, BatchSize::PerIteration));
    }
    group.finish();
}

criterion_group!(benches, a_million);
criterion_main!(benches);
