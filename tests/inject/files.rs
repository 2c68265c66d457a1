//! Files and pipes: every kind of workload, what stays, twice, and back.

use serde_json::{Value, json};

use crate::injector::{IMAGE, inject, injected, objects, read, sample, text};

#[tokio::test]
async fn every_kind_of_workload_is_valid_for_kubernetes_after_injection() {
    let told = objects(&["validate", "1.33", "1.35", "1.37"], &injected(&text("workloads.yaml")).await).await;
    let (valid, other): (Vec<&str>, Vec<&str>) = told.lines().partition(|line| line.starts_with("valid"));
    // The kubelet's certificates came with 1.34, so that the schemas are seen to see.
    let expected: Vec<&str> = other.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(expected, ["invalid 1.33 Job job-", "foreign Job not-ours"], "{told}");
    assert_eq!(valid.len(), 10 * 3 - 1, "{told}");
}

#[tokio::test]
async fn another_reader_finds_what_was_there_and_the_sidecar() {
    let before = read(&text("workloads.yaml")).await;
    let after = read(&injected(&text("workloads.yaml")).await).await;
    assert_eq!(before.len(), after.len());
    let pod = &after[1];
    for (name, value) in
        [("SWITCH", "on"), ("PORT", "8080"), ("MODE", "0644"), ("TEXT", "a: b # c\n  d\n"), ("TIME", "12:30")]
    {
        let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        assert!(variables.contains(&json!({"name": name, "value": value})), "{name}: {variables:?}");
    }
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["defaultMode"], 0o644);
    let templates = [
        (1, ""),
        (2, "/spec/template"),
        (3, "/spec/template"),
        (4, "/spec/template"),
        (5, "/spec/template"),
        (6, "/spec/template"),
        (7, "/spec/jobTemplate/spec/template"),
        (8, "/items/1"),
    ];
    for (index, path) in templates {
        let pod = after[index].pointer(path).unwrap();
        assert_eq!(pod["spec"]["initContainers"][0]["name"], "portcullis", "{index}");
        assert_eq!(pod["spec"]["initContainers"][0]["image"], IMAGE, "{index}");
        assert_eq!(pod["metadata"]["annotations"]["portcullis.dev/status"], "injected", "{index}");
    }
    assert_eq!(after[8]["items"][0], before[8]["items"][0]);
    assert_eq!((&after[0], &after[9]), (&before[0], &before[9]));
    let names: Vec<&Value> = after[2]
        .pointer("/spec/template/spec/initContainers")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["portcullis", "migrate", "other"]);
}

#[tokio::test]
async fn what_holds_no_pod_stays_byte_for_byte() {
    let before = text("workloads.yaml");
    let after = injected(&before).await;
    let first = before.split("---\n").next().unwrap();
    let last = before.rsplit("---\n").next().unwrap();
    assert!(after.starts_with(first) && after.ends_with(last), "{after}");
    assert!(after.contains("---\n# Source: shop/templates/deployment.yaml\napiVersion: apps/v1\n"), "{after}");
    let none = "\u{feff}# only\r\n---\r\nkind:   ConfigMap\r\napiVersion: v1\r\n--- \n...\n";
    assert_eq!(injected(none).await, none);
    assert_eq!(injected("").await, "");
    let json = "{\"kind\":\"ConfigMap\",   \"apiVersion\":\"v1\"}\n  {\"kind\":\"Secret\"}";
    assert_eq!(injected(json).await, json);
}

#[tokio::test]
async fn marks_of_order_and_of_other_systems_hide_no_pod() {
    let pod = text("workloads.yaml").split("---\n").nth(1).unwrap().to_owned();
    for input in [
        format!("\u{feff}{pod}"),
        pod.replace('\n', "\r\n"),
        format!("%YAML 1.2\n---\n{pod}"),
        format!("--- # a\n{pod}...\n"),
    ] {
        let out = injected(&input).await;
        assert_eq!(read(&out).await[0]["spec"]["initContainers"][0]["name"], "portcullis", "{input:?}\n{out}");
        assert_eq!(injected(&out).await, out);
    }
}

#[tokio::test]
async fn twice_equals_once_and_uninject_gives_the_objects_back() {
    let once = injected(&text("workloads.yaml")).await;
    assert_eq!(injected(&once).await, once);
    let back = inject(&["-f", "-", "--uninject"], &once).await;
    assert_eq!(back.code, Some(0), "{back:?}");
    let (mut before, after) = (read(&text("workloads.yaml")).await, read(&back.out).await);
    // The name of a port came back as its number.
    before[1]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = json!(8080);
    assert_eq!(after, before);
}

#[tokio::test]
async fn json_stays_json_and_gets_the_same_sidecar() {
    let documents = read(&text("workloads.yaml")).await;
    let json: Vec<String> = documents.iter().map(Value::to_string).collect();
    let out = injected(&json.join("\n")).await;
    let stream = serde_json::Deserializer::from_str(&out).into_iter::<Value>();
    let from_json: Vec<Value> = stream.map(Result::unwrap).collect();
    assert_eq!(from_json, read(&injected(&text("workloads.yaml")).await).await);
}

#[tokio::test]
async fn several_files_and_standard_input_make_one_stream() {
    let file = sample("workloads.yaml");
    let more = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let told = inject(&["-f", &file, "-f", "-", "--image", IMAGE], more).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(read(&told.out).await.len(), 11);
    assert!(told.out.ends_with(&format!("---\n{more}")), "{}", told.out);
    for line in [
        "portcullis: Service shop: unchanged: it holds no pod",
        "portcullis: Pod one: injected",
        "portcullis: Deployment shop/shop: injected",
        "portcullis: Job job-: injected",
        "portcullis: Pod two: injected",
        "portcullis: Namespace shop: unchanged: it holds no pod",
    ] {
        assert!(told.err.lines().any(|found| found == line), "{line} is not in\n{}", told.err);
    }
}
