//! Objects of Kubernetes that hold a pod, and where.
//!
//! Called by `documents.rs` for each document. It must never touch an object of another API group that has the same
//! name of a kind.

use serde_json::{Map, Value};

use crate::configuration::Configuration;
use crate::keys::PREFIX;
use crate::patch::{Facts, judge};
use crate::sidecar::SIDECAR;
use crate::verdict::{Skip, Verdict};
use crate::{installed, pointer};

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Put the sidecar in.
    Inject(&'a Configuration),
    /// Take it out.
    Uninject,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Kind, namespace and name.
    pub object: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How one object ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has its sidecar, or has it no more; with sentences about what deserves a look.
    Changed(Vec<String>),
    /// It stays as it is; why.
    Unchanged(String),
    /// It must not be created so; why.
    Refused(String),
}

/// Kinds, the beginning of their API version, and where the pod is.
const KINDS: [(&str, &str, &str); 7] = [
    ("Pod", "v1", ""),
    ("Deployment", "apps/", "/spec/template"),
    ("StatefulSet", "apps/", "/spec/template"),
    ("DaemonSet", "apps/", "/spec/template"),
    ("ReplicaSet", "apps/", "/spec/template"),
    ("Job", "batch/", "/spec/template"),
    ("CronJob", "batch/", "/spec/jobTemplate/spec/template"),
];

/// Changes the object's pods; whether anything of it is different now.
pub(crate) fn change(object: &mut Value, mode: &Mode<'_>, reports: &mut Vec<Report>) -> bool {
    if is_list(object) {
        let items = object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten();
        // Every one, not only up to the first that changes.
        return items.fold(false, |changed, item| change(item, mode, reports) | changed);
    }
    let name = named(object);
    let Some(path) = place(object) else {
        reports.push(Report { object: name, outcome: Outcome::Unchanged("it holds no pod".to_owned()) });
        return false;
    };
    let namespace = text(object, "/metadata/namespace").map(str::to_owned);
    let misplaced = !path.is_empty() && own_annotations(object).any(|key| key == "app-port");
    let outcome = match object.pointer_mut(path) {
        None => Outcome::Unchanged(format!("it has no {}", path.trim_start_matches('/').replace('/', "."))),
        Some(pod) => match mode {
            Mode::Inject(configuration) => inject(pod, (namespace.as_deref(), misplaced), configuration),
            Mode::Uninject => uninject(pod),
        },
    };
    let changed = matches!(outcome, Outcome::Changed(_));
    reports.push(Report { object: name, outcome });
    changed
}

fn inject(pod: &mut Value, (namespace, misplaced): (Option<&str>, bool), configuration: &Configuration) -> Outcome {
    match judge(pod, Facts { namespace }, configuration) {
        Verdict::Injected(injection) => match pointer::apply(pod, &injection.additions) {
            Some(()) => Outcome::Changed(injection.warnings),
            None => Outcome::Refused("the sidecar finds no place in it; report this with the object".to_owned()),
        },
        Verdict::Skipped(Skip::NoAppPort) if misplaced => Outcome::Unchanged(format!(
            "the annotation {PREFIX}app-port stands on the workload; write it in the metadata of its pod template"
        )),
        Verdict::Skipped(skip) => Outcome::Unchanged(skip.sentence().to_owned()),
        Verdict::Refused(refusal) => Outcome::Refused(refusal.sentence),
    }
}

fn uninject(pod: &mut Value) -> Outcome {
    let containers = pod.pointer("/spec/initContainers").and_then(Value::as_array).into_iter().flatten();
    if !containers.into_iter().any(|container| container.get("name").is_some_and(|name| name == SIDECAR)) {
        return Outcome::Unchanged("it holds no sidecar".to_owned());
    }
    match installed::take_out(pod) {
        Ok(_) => Outcome::Changed(Vec::new()),
        Err(why) => Outcome::Refused(format!("the sidecar cannot be taken out: {why}; take it out by hand")),
    }
}

fn is_list(object: &Value) -> bool {
    text(object, "/kind") == Some("List") && text(object, "/apiVersion") == Some("v1")
}

fn place(object: &Value) -> Option<&'static str> {
    let (kind, version) = (text(object, "/kind")?, text(object, "/apiVersion")?);
    let fits = |(name, group, _): &&(&str, &str, &str)| match group.ends_with('/') {
        true => *name == kind && version.starts_with(group),
        false => *name == kind && version == *group,
    };
    KINDS.iter().find(fits).map(|(_, _, path)| *path)
}

fn own_annotations(object: &Value) -> impl Iterator<Item = &str> {
    let found = object.pointer("/metadata/annotations").and_then(Value::as_object);
    found.into_iter().flat_map(Map::keys).filter_map(|name| name.strip_prefix(PREFIX))
}

fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    object.pointer(path)?.as_str()
}

fn named(object: &Value) -> String {
    let kind = text(object, "/kind").unwrap_or("a document without a kind");
    let name = text(object, "/metadata/name").or_else(|| text(object, "/metadata/generateName"));
    match (text(object, "/metadata/namespace"), name) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => kind.to_owned(),
    }
}
