//! Reviews as API servers send them, and what must come back, byte for byte.
//!
//! `golden/reviews` holds one for each kind of workload, each incumbent's pod, and each way to be skipped or refused;
//! `golden/expected` the answers. `UPDATE=1 cargo nextest run -p injector --test golden` writes them anew: read the
//! difference. It must never be content with an answer that only looks right: every patch is carried out by another's
//! implementation and judged again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod support;

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use injector::{Facts, Skip, Verdict, apply, judge, review};
use serde_json::{Value, json};
use support::{configuration, patched_by, survives};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn reviews() -> Vec<(String, Value)> {
    let mut reviews: Vec<(String, Value)> = fs::read_dir(folder("reviews"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        })
        .collect();
    reviews.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(reviews.len() > 40, "only {} reviews", reviews.len());
    reviews
}

/// The answer, with its patch readable.
fn answered(asked: &Value) -> Value {
    let reviewed = review(asked.to_string().as_bytes(), &configuration()).unwrap();
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    assert_eq!((&answer["kind"], &answer["apiVersion"]), (&json!("AdmissionReview"), &json!("admission.k8s.io/v1")));
    let mut response = answer["response"].clone();
    assert_eq!(response["uid"], asked["request"]["uid"]);
    if let Some(patch) = response.get("patch") {
        assert_eq!(response["patchType"], "JSONPatch");
        let operations: Value = serde_json::from_slice(&STANDARD.decode(patch.as_str().unwrap()).unwrap()).unwrap();
        response["patch"] = operations;
    }
    let reason = match &reviewed.verdict {
        Verdict::Injected(_) => "injected",
        Verdict::Skipped(skip) => skip.word(),
        Verdict::Refused(refusal) => refusal.reason.word(),
    };
    json!({"reason": reason, "response": response})
}

#[test]
fn every_review_gets_the_answer_that_is_written_down() {
    let mut wrong = Vec::new();
    for (name, asked) in reviews() {
        let path = folder("expected").join(format!("{name}.json"));
        let answer = format!("{}\n", serde_json::to_string_pretty(&answered(&asked)).unwrap());
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(folder("expected")).unwrap();
            fs::write(&path, answer).unwrap();
        } else if fs::read_to_string(&path).ok().as_deref() != Some(answer.as_str()) {
            wrong.push(format!("{name} is answered by\n{answer}"));
        }
    }
    let expected = fs::read_dir(folder("expected")).unwrap().count();
    assert_eq!(expected, reviews().len(), "an expected answer without its review");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_patch_leaves_a_pod_that_needs_no_other_and_lacks_nothing() {
    let mut patches = 0;
    for (name, asked) in reviews() {
        let answer = answered(&asked);
        let (operations, pod) = (&answer["response"]["patch"], &asked["request"]["object"]);
        if operations.is_null() {
            continue;
        }
        patches += 1;
        let result = patched_by(pod, operations);
        survives(pod, &result).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(result["spec"]["initContainers"][0]["name"], "portcullis", "{name}");
        let mut again = asked.clone();
        again["request"]["object"] = result.clone();
        assert_eq!(answered(&again)["reason"], "already_injected", "{name}");
        let Verdict::Injected(injection) = judge(pod, Facts { namespace: Some("shop") }, &configuration()) else {
            panic!("{name}: another verdict without the review");
        };
        let mut own = pod.clone();
        apply(&mut own, &injection.additions).unwrap();
        assert_eq!(own, result, "{name}: our own way to carry a patch out is another");
    }
    assert!(patches > 20, "only {patches} patches");
}

#[test]
fn what_the_api_server_adds_to_the_sidecar_is_no_difference() {
    let asked = reviews().into_iter().find(|(name, _)| name == "pod_of_a_deployment").unwrap().1;
    let mut pod = patched_by(&asked["request"]["object"], &answered(&asked)["response"]["patch"]);
    let sidecar = &mut pod["spec"]["initContainers"][0];
    sidecar["terminationMessagePath"] = json!("/dev/termination-log");
    sidecar["terminationMessagePolicy"] = json!("File");
    sidecar["imagePullPolicy"] = json!("Always");
    sidecar["resources"]["limits"]["cpu"] = json!("500m");
    // Another injector's container in front, and one with a probe behind.
    let other = json!({"name": "other", "image": "o", "readinessProbe": {"httpGet": {"path": "/", "port": 9}}});
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "first", "image": "f"}));
    pod["spec"]["containers"].as_array_mut().unwrap().push(other);
    let verdict = judge(&pod, Facts::default(), &configuration());
    assert_eq!(verdict, Verdict::Skipped(Skip::AlreadyInjected));
}

#[test]
fn nothing_that_weakens_the_sidecar_can_be_added_beside_it() {
    let asked = reviews().into_iter().find(|(name, _)| name == "pod_of_a_deployment").unwrap().1;
    let pod = patched_by(&asked["request"]["object"], &answered(&asked)["response"]["patch"]);
    let spoil = |change: &dyn Fn(&mut Value)| {
        let mut pod = pod.clone();
        change(&mut pod["spec"]);
        let verdict = judge(&pod, Facts::default(), &configuration());
        assert!(matches!(&verdict, Verdict::Refused(why) if why.reason.word() == "sidecar_differs"), "{verdict:?}");
    };
    for (field, value) in [
        ("command", json!(["/bin/sh"])),
        ("envFrom", json!([{"configMapRef": {"name": "weak"}}])),
        ("lifecycle", json!({"postStart": {"exec": {"command": ["x"]}}})),
        ("workingDir", json!("/")),
        ("tty", json!(true)),
    ] {
        spoil(&|spec| spec["initContainers"][0][field] = value.clone());
    }
    spoil(&|spec| spec["initContainers"][0]["securityContext"]["capabilities"]["add"] = json!(["NET_RAW"]));
    spoil(&|spec| spec["initContainers"][0]["resources"]["limits"]["memory"] = json!("1Ki"));
    spoil(&|spec| spec["volumes"].as_array_mut().unwrap().push(json!({"name": "portcullis-x", "emptyDir": {}})));
    spoil(&|spec| spec["volumes"].as_array_mut().unwrap().retain(|volume| volume["name"] != "portcullis-no-token"));
    spoil(&|spec| spec["containers"][0]["readinessProbe"]["httpGet"]["path"] = json!("/elsewhere"));
    let mut twice = pod.clone();
    let sidecar = twice["spec"]["initContainers"][0].clone();
    twice["spec"]["initContainers"].as_array_mut().unwrap().push(sidecar);
    let verdict = judge(&twice, Facts::default(), &configuration());
    assert!(matches!(&verdict, Verdict::Refused(why) if why.reason.word() == "malformed"), "{verdict:?}");
}

#[test]
fn the_document_names_every_annotation_and_every_reason() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/injection.md")).unwrap();
    let mut words: Vec<&str> = injector::KEYS.into_iter().filter(|key| *key != "status").collect();
    words.extend(["image-annotation", "image-pull-policy", "locked", "redirect-image"]);
    let reasons = fs::read_dir(folder("expected")).unwrap().map(|entry| {
        let answer: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        answer["reason"].as_str().unwrap().to_owned()
    });
    let reasons: std::collections::BTreeSet<String> = reasons.filter(|reason| reason != "injected").collect();
    words.extend(reasons.iter().map(String::as_str));
    // Eight skips and seven refusals: a reason that no review here meets is proved by none.
    assert_eq!(reasons.len(), 15, "{reasons:?}");
    let missing: Vec<&str> = words.into_iter().filter(|word| !page.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "docs/injection.md does not tell of {missing:?}");
}

#[test]
fn what_is_no_review_is_an_error() {
    for body in ["", "{", "[]", "{}", r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}"#] {
        assert!(review(body.as_bytes(), &configuration()).is_err(), "{body}");
    }
    let empty = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {}});
    assert!(review(empty.to_string().as_bytes(), &configuration()).is_err());
}
