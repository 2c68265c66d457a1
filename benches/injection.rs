//! What a pod costs the webhook: a whole review in, its answer out, for a usual pod and for one of forty containers.
//!
//! Run by `make bench`; `benches/admission` asks the running webhook. Target: 5 ms.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../crates/injector/tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use injector::{filter, review};

fn reviews(bench: &mut Criterion) {
    let configuration = support::configuration();
    for name in ["pod_of_a_deployment", "forty_containers", "asked_again", "no_annotations"] {
        let path = format!("{}/tests/golden/reviews/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let body = std::fs::read(path).unwrap();
        bench.bench_function(&format!("review/{name}"), |bench| {
            bench.iter(|| review(black_box(&body), &configuration).unwrap());
        });
    }
}

fn files(bench: &mut Criterion) {
    let configuration = support::configuration();
    let path = format!("{}/../../tests/inject/samples/workloads.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    bench.bench_function("inject/ten documents", |bench| {
        bench.iter(|| filter(black_box(&text), &injector::Mode::Inject(&configuration)).unwrap());
    });
}

criterion_group!(benches, reviews, files);
criterion_main!(benches);
