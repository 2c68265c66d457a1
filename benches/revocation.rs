//! How long a million and ten million revocations take to read, and to ask.
//!
//! Run by `make bench`. Targets, each with everything from bytes to snapshot: 1,000,000 entries as signed lines 1.5 s,
//! compiled and signed 50 ms, as a CRL 1 s; 10,000,000 compiled and signed 500 ms, one look-up among them 300 ns.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../crates/revocation/tests/forge/mod.rs"]
mod forge;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use forge::{Authority, NOW, SIGNS_ALL, bundle, large_compiled, large_crl, large_list, pem, serial};
use revocation::{Keys, Library, Requirements, SecretKey, read_under, sign};
use trust::{Bundle, Sha256, serial_key};

const MILLION: u32 = 1_000_000;

struct Publisher {
    key: SecretKey,
    under: Requirements,
    anchors: Bundle,
}

impl Publisher {
    fn new(root: &Authority) -> Publisher {
        let key = SecretKey::generate().unwrap();
        let keys = Keys::new(vec![key.public()], 1).unwrap();
        let under = Requirements { keys: Some(Arc::new(keys)), ..Requirements::default() };
        Publisher { key, under, anchors: bundle(&[root]) }
    }

    fn sign(&self, file: Vec<u8>) -> Vec<u8> {
        sign(file, std::slice::from_ref(&self.key)).unwrap()
    }

    fn import(&self, bytes: Vec<u8>) -> Library {
        let mut library = Library::new(self.under.clone());
        library.accept(read_under(bytes, &self.under).unwrap(), &self.anchors, NOW).unwrap();
        library
    }

    fn measure(&self, group: &mut BenchmarkGroup<'_, WallTime>, name: &str, bytes: &[u8]) {
        let import = |bytes: Vec<u8>| self.import(bytes);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| bytes.to_vec(), import, BatchSize::PerIteration);
        });
    }
}

fn a_million(criterion: &mut Criterion) {
    let root = Authority::new("root", SIGNS_ALL);
    let publisher = Publisher::new(&root);
    let der = large_crl(&root, MILLION);
    let mut group = criterion.benchmark_group("import_1m");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(10));
    publisher.measure(&mut group, "lines_signed", &publisher.sign(large_list(MILLION)));
    publisher.measure(&mut group, "compiled_signed", &publisher.sign(large_compiled(MILLION)));
    publisher.measure(&mut group, "crl_pem", &pem(&der));
    publisher.measure(&mut group, "crl_der", &der);
    group.finish();
}

fn ten_million(criterion: &mut Criterion) {
    let root = Authority::new("root", SIGNS_ALL);
    let publisher = Publisher::new(&root);
    let file = publisher.sign(large_compiled(10 * MILLION));
    let mut group = criterion.benchmark_group("import_10m");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(10));
    publisher.measure(&mut group, "compiled_signed", &file);
    group.finish();

    let snapshot = publisher.import(file).snapshot().unwrap();
    let serials = &snapshot.lists().first().unwrap().selectors.serials;
    let issuer = Sha256::of(b"issuer");
    // Half of them revoked, in an order that no cache could guess.
    let keys: Vec<u128> = (0..1 << 16).map(|number| serial_key(&issuer, &serial(number * 305))).collect();
    let mut group = criterion.benchmark_group("lookup_10m");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.bench_function("one", |bencher| {
        let mut all = keys.iter().cycle();
        bencher.iter(|| serials.find(black_box(*all.next().unwrap())));
    });
    group.finish();
    let resident = serials.resident_bytes();
    assert!(resident <= 18 * serials.len(), "{resident} bytes for {} entries", serials.len());
}

criterion_group!(benches, a_million, ten_million);
criterion_main!(benches);
