//! What a review may cost: a stranger who reaches the webhook may send any, and one thread answers all.
//!
//! It must never measure time: what is refused here is refused before the work that it would cause.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod support;

use injector::{Configuration, Facts, Verdict, judge, review};
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

fn asked(pod: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "namespace": "shop", "object": pod,
        "resource": {"group": "", "version": "v1", "resource": "pods"},
    }})
}

#[test]
fn a_body_of_more_values_than_a_pod_can_have_is_no_review_and_commas_in_texts_are_no_values() {
    let many = format!("[{}0]", "0,".repeat(300_000));
    let why = review(many.as_bytes(), &configuration()).unwrap_err();
    assert_eq!(why, "the body has more than 200000 values, which no pod needs");
    let mut pod = pod(1, 0);
    pod["metadata"]["annotations"]["other/list"] = json!(format!("\\\"{}", ",[{".repeat(300_000)));
    let reviewed = review(asked(&pod).to_string().as_bytes(), &configuration()).unwrap();
    assert!(matches!(reviewed.verdict, Verdict::Injected(_)), "{:?}", reviewed.verdict);
}

#[test]
fn the_originals_of_probes_have_no_more_values_either() {
    let mut pod = pod(1, 0);
    let Verdict::Injected(injection) = judge(&pod, Facts::default(), &configuration()) else { panic!() };
    injector::apply(&mut pod, &injection.additions).unwrap();
    let many = json!({"name": "PORTCULLIS_APP_PROBES", "value": format!("{{\"a\":[{}0]}}", "0,".repeat(300_000))});
    pod["spec"]["initContainers"][0]["env"].as_array_mut().unwrap().push(many);
    let (reason, sentence) = refused(&pod, &configuration());
    assert_eq!(reason, "sidecar_differs");
    assert!(sentence.contains("PORTCULLIS_APP_PROBES has more than 200000 values"), "{sentence}");
}

#[test]
fn what_the_log_tells_of_a_review_is_short_whatever_it_holds() {
    let long = "n".repeat(1 << 20);
    let mut asked = asked(&pod(1, 0));
    for place in ["namespace", "name"] {
        asked["request"][place] = json!(long);
    }
    let reviewed = review(asked.to_string().as_bytes(), &configuration()).unwrap();
    assert_eq!((reviewed.namespace.len(), reviewed.name.len()), (253, 253));
    asked["request"]["uid"] = json!(long);
    assert_eq!(
        review(asked.to_string().as_bytes(), &configuration()).unwrap_err(),
        "the uid is longer than 253 letters"
    );
}

#[test]
fn a_name_that_no_container_can_have_is_refused_before_it_is_repeated() {
    let mut pod = pod(1, 0);
    pod["spec"]["containers"][0]["name"] = json!("n".repeat(64));
    let (reason, sentence) = refused(&pod, &configuration());
    let expected = "spec.containers holds a container whose name is longer than 63 letters; give it a shorter one";
    assert_eq!((reason, sentence.as_str()), ("malformed", expected));
}

#[test]
fn an_answer_that_would_be_large_is_a_refusal() {
    let mut pod = pod(1, 0);
    let probe = json!({"tcpSocket": {"port": 8080}, "future": "f".repeat(1 << 20)});
    pod["spec"]["containers"][0]["livenessProbe"] = probe;
    let reviewed = review(asked(&pod).to_string().as_bytes(), &configuration()).unwrap();
    let Verdict::Refused(refusal) = &reviewed.verdict else { panic!("it is no refusal") };
    assert_eq!(
        refusal.sentence,
        "the pod's probes are so long that the answer would have more than 512 KiB; shorten them"
    );
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
}

#[test]
fn whoever_locks_one_way_to_say_who_comes_in_locks_both() {
    for (locked, annotated, value) in [
        ("allow", "allow-any", "true"),
        ("allow-any", "allow", "uri:spiffe://td/*"),
        ("allow", "allow", "uri:spiffe://td/*"),
    ] {
        let defaults = json!({"allow": "uri:spiffe://td/ns/*", "locked": [locked]});
        let configuration = Configuration::new(Some("i"), Some(("d", &defaults)), |_, _| Ok(())).unwrap();
        let mut pod = pod(1, 0);
        let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.remove("portcullis.dev/allow");
        annotations.insert(format!("portcullis.dev/{annotated}"), json!(value));
        let (reason, sentence) = refused(&pod, &configuration);
        assert_eq!(reason, "bad_annotation");
        let expected = format!("the annotation portcullis.dev/{annotated} is locked by the injector's defaults");
        assert!(sentence.starts_with(&expected), "{sentence}");
    }
}
