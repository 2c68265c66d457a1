//! What is skipped and what is refused, with the sentences that people read.

use std::fs;

use crate::injector::{IMAGE, inject};

fn pod(annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations: {{{annotations}}}\nspec:\n  containers: [{{name: app, image: i}}]\n{spec}"
    )
}

const GOOD: &str = r#"portcullis.dev/app-port: "8080", portcullis.dev/allow: "uri:spiffe://td/*", portcullis.dev/certificate: "secret:a", portcullis.dev/revocations: "none""#;

#[tokio::test]
async fn a_refused_object_is_told_and_nothing_is_printed() {
    for (annotations, spec, sentence) in [
        (
            r#", portcullis.dev/app_port: "1""#,
            "",
            "the annotation portcullis.dev/app_port is not known; the nearest that is known is portcullis.dev/app-port",
        ),
        (
            r#", portcullis.dev/max-session-age: "90""#,
            "",
            "the annotation portcullis.dev/max-session-age \"90\": write a number and a unit (ms, s, m, h, d), like 500ms, \
             10s or 1h30m",
        ),
        (r#", portcullis.dev/stale: "grace""#, "", "the annotation portcullis.dev/stale \"grace\": "),
        (r#", portcullis.dev/mode: redirect"#, "", "the injector's defaults name no redirect-image"),
        (
            "",
            "  initContainers: [{name: portcullis, image: other}]\n",
            "the pod holds a container named portcullis that is not what would be injected: ",
        ),
        ("", "  volumes: [{name: portcullis-x, emptyDir: {}}]\n", "the volume portcullis-x has a name that belongs"),
    ] {
        let fine = pod(GOOD, "");
        let input = format!("{fine}---\n{}", pod(&format!("{GOOD}{annotations}"), spec));
        let told = inject(&["-f", "-", "--image", IMAGE], &input).await;
        assert_eq!((told.code, told.out.as_str()), (Some(1), ""), "{told:?}");
        assert!(
            told.err.contains(&format!("portcullis: Pod a: refused: {sentence}")) || told.err.contains(sentence),
            "{told:?}"
        );
        assert!(told.err.contains("nothing is printed"), "{told:?}");
    }
}

#[tokio::test]
async fn a_skipped_object_stays_and_says_why() {
    let workload = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, annotations: {portcullis.dev/app-port: \"1\"}}\n\
                    spec: {template: {spec: {containers: [{name: app, image: i}]}}}\n";
    for (input, why) in [
        (pod("a: b", ""), "no annotation portcullis.dev/app-port names the port"),
        (pod(GOOD, "  hostNetwork: true\n"), "hostNetwork is true"),
        (pod(GOOD, "  os: {name: windows}\n"), "it is for Windows"),
        (
            pod(GOOD, "").replace("  name: a\n", "  name: a\n  labels: {portcullis.dev/inject: disabled}\n"),
            "disabled is set",
        ),
        (
            pod(GOOD, "").replace("  name: a\n", "  name: a\n  namespace: kube-system\n"),
            "a namespace of the cluster itself",
        ),
        (workload.to_owned(), "stands on the workload; write it in the metadata of its pod template"),
    ] {
        let told = inject(&["-f", "-", "--image", IMAGE], &input).await;
        assert_eq!((told.code, told.out.as_str()), (Some(0), input.as_str()), "{told:?}");
        assert!(told.err.contains("unchanged: ") && told.err.contains(why), "{told:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_flags_and_files_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (typo, locked) = (file("typo.yaml", "revocation: none\n"), file("lock.yaml", "locked: [revocations]\n"));
    let bad = file("bad.yaml", "stale: grace\n");
    let tabs = file("tabs.yaml", "kind: Pod\nmetadata:\n\tname: a\n");
    for (arguments, code, sentence) in [
        (vec!["-f", "-"], 64, "no --image is given; name the sidecar's image, or set image in --defaults"),
        (vec!["-f", "/nowhere", "--image", IMAGE], 64, "-f /nowhere: it cannot be read"),
        (vec!["-f", "-", "--image", "a b"], 64, "--image \"a b\" is no image"),
        (
            vec!["-f", "-", "--image", IMAGE, "--defaults", &typo],
            64,
            "the key \"revocation\" is not known; did you mean revocations?",
        ),
        (vec!["-f", "-", "--image", IMAGE, "--defaults", &bad], 64, "the defaults' stale \"grace\": "),
        (vec!["-f", &tabs, "--image", IMAGE], 64, "tabs.yaml: line 3: "),
        (vec!["--image", IMAGE], 64, "--file"),
        (
            vec!["-f", "-", "--image", IMAGE, "--defaults", &locked],
            1,
            "revocations is locked by the injector's defaults",
        ),
    ] {
        let told = inject(&arguments, &pod(GOOD, "")).await;
        assert_eq!((told.code, told.out.as_str()), (Some(code), ""), "{arguments:?}: {told:?}");
        assert!(told.err.contains(sentence), "{arguments:?}: {told:?}");
        assert!(code != 64 || told.err.lines().count() == 1, "{told:?}");
    }
}

#[tokio::test]
async fn defaults_fill_in_what_a_pod_does_not_say() {
    let folder = tempfile::tempdir().unwrap();
    let defaults = folder.path().join("defaults.yaml");
    fs::write(
        &defaults,
        "image: registry.example/own:2\ncertificate: secret:default\nrevocations: none\nallow-any: true\nmemory-limit: none\n",
    )
    .unwrap();
    let defaults = defaults.to_str().unwrap();
    let told = inject(&["-f", "-", "--defaults", defaults], &pod("portcullis.dev/app-port: \"1\"", "")).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for text in
        ["image: registry.example/own:2", "secretName: default", "PORTCULLIS_NO_REVOCATIONS", "PORTCULLIS_ALLOW_ANY"]
    {
        assert!(told.out.contains(text), "{text} is not in\n{}", told.out);
    }
    // Who may come in is one question: the pod's answer replaces all of the default's.
    let allows = r#"portcullis.dev/app-port: "1", portcullis.dev/allow: "dns:a.test""#;
    let told = inject(&["-f", "-", "--defaults", defaults], &pod(allows, "")).await;
    assert!(told.out.contains("dns:a.test") && !told.out.contains("ALLOW_ANY"), "{told:?}");
}
