//! What a review may cost: a stranger who reaches the webhook may send any, and one thread answers all.
//!
//! It must never measure time: what is refused here is refused before the work that it would cause.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod support;

use injector::{Configuration, Facts, Verdict, judge};
use serde_json::{Value, json};
use support::configuration;

/// With so many containers in each list.
fn pod(containers: usize, inits: usize) -> Value {
    let named = |prefix: &str, count: usize| -> Value {
        (0..count).map(|number| json!({"name": format!("{prefix}{number}"), "image": "i"})).collect()
    };
    json!({
        "metadata": {"annotations": {
            "portcullis.dev/app-port": "8080", "portcullis.dev/allow": "uri:spiffe://td/*",
            "portcullis.dev/certificate": "secret:a", "portcullis.dev/revocations": "none",
        }},
        "spec": {"containers": named("c", containers), "initContainers": named("i", inits)},
    })
}

fn refused(pod: &Value, configuration: &Configuration) -> (&'static str, String) {
    match judge(pod, Facts::default(), configuration) {
        Verdict::Refused(refusal) => (refusal.reason.word(), refusal.sentence),
        other @ (Verdict::Skipped(_) | Verdict::Injected(_)) => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_with_more_containers_than_anybody_runs_is_refused_whichever_lists_hold_them() {
    let fits = judge(&pod(156, 100), Facts::default(), &configuration());
    assert!(matches!(fits, Verdict::Injected(_)), "{fits:?}");
    for (containers, inits) in [(157, 100), (257, 0), (1, 256), (100_000, 0)] {
        let (reason, sentence) = refused(&pod(containers, inits), &configuration());
        assert_eq!(reason, "malformed");
        let count = containers + inits;
        assert_eq!(sentence, format!("the pod has {count} containers, and more than 256 are not looked at; split it"));
    }
}

#[test]
fn an_injected_pod_may_have_as_many_and_the_sidecar() {
    let mut pod = pod(156, 100);
    let Verdict::Injected(injection) = judge(&pod, Facts::default(), &configuration()) else { panic!() };
    injector::apply(&mut pod, &injection.additions).unwrap();
    let again = judge(&pod, Facts::default(), &configuration());
    assert_eq!(again, Verdict::Skipped(injector::Skip::AlreadyInjected));
}
