//! What holds for every pod, tried with pods that nobody would write.
//!
//! It must never generate only what the code expects: fields have wrong types, lists are null or missing, names collide.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod support;

use injector::{Facts, Mode, Outcome, Skip, Verdict, apply, filter, judge};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::{configuration, patched, survives};

/// Any JSON, small.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z$()\"'\\\\ é]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |deeper| {
        prop_oneof![
            prop::collection::vec(deeper.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", deeper, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![(1..15000_u16).prop_map(Value::from), Just(json!("http")), Just(json!("8081")), Just(json!("nowhere"))]
}

fn probe() -> impl Strategy<Value = Value> {
    let handler = prop_oneof![
        (port(), "/[a-z$()]{0,5}", anything())
            .prop_map(|(port, path, more)| json!({"httpGet": {"port": port, "path": path, "more": more}})),
        port().prop_map(|port| json!({"tcpSocket": {"port": port}})),
        (1..15000_u16).prop_map(|port| json!({"grpc": {"port": port}})),
        port().prop_map(|port| json!({"httpGet": {"port": port, "host": "example.org"}})),
        Just(json!({"exec": {"command": ["true"]}})),
    ];
    (handler, prop::option::of(1..9_u32), anything()).prop_map(|(mut probe, timeout, more)| {
        probe["future"] = more;
        if let Some(timeout) = timeout {
            probe["timeoutSeconds"] = json!(timeout);
        }
        probe
    })
}

fn container(name: String) -> impl Strategy<Value = Value> {
    let probes = prop::collection::btree_map(
        prop::sample::select(vec!["startupProbe", "readinessProbe", "livenessProbe"]),
        probe(),
        0..4,
    );
    (probes, anything(), any::<bool>(), any::<bool>()).prop_map(move |(probes, more, stays, declares)| {
        let mut container = json!({"name": name, "image": "i", "future": more});
        if stays {
            container["restartPolicy"] = json!("Always");
        }
        if declares {
            container["ports"] = json!([{"name": "http", "containerPort": 8080}]);
        }
        probes.into_iter().for_each(|(field, probe)| container[field] = probe);
        container
    })
}

fn containers(prefix: &'static str, least: usize) -> impl Strategy<Value = Value> {
    (least..5).prop_flat_map(move |count| {
        (0..count).map(|number| container(format!("{prefix}{number}"))).collect::<Vec<_>>().prop_map(Value::from)
    })
}

/// A pod that asks for the sidecar.
fn pod() -> impl Strategy<Value = Value> {
    let volumes = prop_oneof![Just(Value::Null), Just(json!([])), Just(json!([{"name": "v", "emptyDir": {}}]))];
    let inits = prop_oneof![Just(Value::Null), Just(json!([])), containers("i", 1)];
    let certificates =
        prop::sample::select(vec!["secret:a", "pod-certificate:a.b/c", "csi-spiffe", "cert-manager-csi:a"]);
    let ports = prop::sample::select(vec!["8080", "8080,9090", "1,2,3"]);
    let fixed = (certificates, ports, any::<bool>());
    (containers("c", 1), inits, volumes, (anything(), anything()), fixed).prop_map(
        |(containers, inits, volumes, (more, meta), (certificate, ports, redirects))| {
            let mut spec = json!({"containers": containers, "future": more});
            for (name, value) in [("initContainers", inits), ("volumes", volumes)] {
                if !value.is_null() {
                    spec[name] = value;
                }
            }
            let annotations = json!({
                "portcullis.dev/app-port": ports, "portcullis.dev/allow": "uri:spiffe://td/*",
                "portcullis.dev/certificate": certificate, "portcullis.dev/revocations": "configmap:r",
                "portcullis.dev/mode": if redirects { "redirect" } else { "port" }, "other/x": "y",
            });
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": annotations, "future": meta}, "spec": spec})
        },
    )
}

fn injected(pod: &Value) -> Value {
    match judge(pod, Facts::default(), &configuration()) {
        Verdict::Injected(injection) => patched(pod, &injection.additions),
        other @ (Verdict::Skipped(_) | Verdict::Refused(_)) => panic!("{other:?}"),
    }
}

/// The pod as `--uninject` gives it back: ports that had a name have their number.
fn without_names(value: &mut Value, ports: &Map<String, Value>) {
    let Some(spec) = value["spec"].as_object_mut() else { return };
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                for kind in ["httpGet", "tcpSocket"] {
                    let name = container[probe][kind]["port"].as_str().unwrap_or_default().to_owned();
                    if let Some(number) = ports.get(&name) {
                        container[probe][kind]["port"] = number.clone();
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_patch_only_adds_and_everything_else_survives(pod in pod()) {
        let result = injected(&pod);
        prop_assert_eq!(survives(&pod, &result), Ok(()));
        let Verdict::Injected(injection) = judge(&pod, Facts::default(), &configuration()) else { panic!() };
        let mut own = pod.clone();
        prop_assert!(apply(&mut own, &injection.additions).is_some());
        prop_assert_eq!(own, result);
    }

    #[test]
    fn injecting_twice_equals_once(pod in pod()) {
        let once = injected(&pod);
        prop_assert_eq!(judge(&once, Facts::default(), &configuration()), Verdict::Skipped(Skip::AlreadyInjected));
    }

    #[test]
    fn no_piece_of_the_sidecar_can_be_changed(pod in pod(), which in any::<prop::sample::Index>(), more in anything()) {
        let mut changed = injected(&pod);
        let sidecar = changed["spec"]["initContainers"][0].as_object_mut().unwrap();
        let fields: Vec<String> = sidecar.keys().filter(|field| *field != "name").cloned().collect();
        let field = which.get(&fields);
        if field == "env" {
            let name = more.as_str().unwrap_or("PORTCULLIS_ALLOW_ANY");
            sidecar["env"].as_array_mut().unwrap().push(json!({"name": name, "value": "true"}));
        } else {
            prop_assume!(sidecar[field] != more);
            sidecar.insert(field.clone(), more);
        }
        let verdict = judge(&changed, Facts::default(), &configuration());
        prop_assert!(matches!(&verdict, Verdict::Refused(why) if why.reason.word() == "sidecar_differs"), "{field}: {verdict:?}");
    }

    #[test]
    fn what_is_put_in_can_be_taken_out(pod in pod()) {
        let text = injected(&pod).to_string();
        let filtered = filter(&text, &Mode::Uninject).unwrap();
        let mut back: Value = serde_json::from_str(&filtered.text).unwrap();
        let mut before = pod.clone();
        for list in ["initContainers", "volumes"] {
            if before["spec"][list] == json!([]) {
                before["spec"].as_object_mut().unwrap().remove(list);
            }
        }
        let ports = json!({"http": 8080, "8081": 8081});
        without_names(&mut before, ports.as_object().unwrap());
        without_names(&mut back, ports.as_object().unwrap());
        prop_assert_eq!(back, before);
    }

    #[test]
    fn nothing_makes_it_panic_and_no_sentence_has_two_lines(pod in anything(), spec in anything(), list in anything()) {
        let wild = [
            pod.clone(),
            json!({"metadata": pod, "spec": spec}),
            json!({"metadata": {"annotations": {"portcullis.dev/app-port": "1"}}, "spec": {"containers": list, "volumes": spec}}),
            json!({"metadata": {"annotations": list}, "spec": {"initContainers": [{"name": "portcullis", "env": spec}]}}),
        ];
        for pod in wild {
            if let Verdict::Refused(refusal) = judge(&pod, Facts::default(), &configuration()) {
                prop_assert!(!refusal.sentence.is_empty() && !refusal.sentence.contains('\n'));
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused_and_what_holds_no_pod_stays(pieces in prop::collection::vec(piece(), 0..24)) {
        let text = pieces.concat();
        if let Ok(filtered) = filter(&text, &Mode::Uninject) {
            prop_assert_eq!(filtered.text, text.clone());
        }
        let configuration = configuration();
        let _ = filter(&format!("apiVersion: v1\nkind: Pod\nmetadata: {text}"), &Mode::Inject(&configuration));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_file_with_slips_is_injected_once_and_taken_out_or_not_at_all(
        slips in prop::collection::vec((any::<prop::sample::Index>(), piece(), 0..3_usize), 1..3),
    ) {
        let mut text: Vec<char> = include_str!("../../../tests/inject/samples/workloads.yaml").chars().collect();
        for (index, piece, gone) in slips {
            let at = index.index(text.len());
            text.splice(at..(at + gone).min(text.len()), piece.chars());
        }
        let (text, configuration) = (text.into_iter().collect::<String>(), configuration());
        let Ok(once) = filter(&text, &Mode::Inject(&configuration)) else { return Ok(()) };
        let twice = filter(&once.text, &Mode::Inject(&configuration)).unwrap();
        prop_assert_eq!(&twice.text, &once.text);
        let out = filter(&once.text, &Mode::Uninject).unwrap();
        prop_assert!(!out.reports.iter().any(|report| matches!(report.outcome, Outcome::Refused(_))), "{:?}", out.reports);
    }
}

/// Pieces of which YAML and what is nearly YAML are made.
fn piece() -> impl Strategy<Value = String> {
    let marks = [
        "---\n",
        "...\n",
        "- ",
        ": ",
        "? ",
        "\n",
        "\n  ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "|\n",
        ">-\n ",
        "{",
        "}",
        "[",
        "]",
        "#",
        "\"",
        "'",
        "%YAML 1.2\n",
        "\t",
        "\r\n",
        "\u{feff}",
    ];
    prop_oneof![
        4 => prop::sample::select(marks.to_vec()).prop_map(str::to_owned),
        2 => "[a-z0-9]{1,4}",
        1 => any::<String>(),
    ]
}
