//! One pod in, one verdict out: the patch that webhook and command share.
//!
//! Pure: no clock, no files, no network. The patch is computed from the raw object and only adds, so fields that we
//! do not know survive. It must never let a pod pass that holds something under the sidecar's name and is not it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::certificate::{Material, material};
use crate::configuration::Configuration;
use crate::installed;
use crate::keys::{INJECT_LABEL, INJECTED, STATUS, Values};
use crate::pointer;
use crate::probes::{self, Rewrite, name_of};
use crate::sidecar::{self, NO_TOKEN, OURS, SIDECAR};
use crate::verdict::{Addition, Injection, Reason, Refusal, Skip, Verdict};
use crate::wish::{Wish, checked_image};

/// Names of volumes with this in front are ours.
pub(crate) const VOLUMES: &str = "portcullis-";
/// Namespaces of the cluster itself: a webhook that is down must not keep it from starting.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Lists of a pod that hold containers.
const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Of all lists together, besides the sidecar's. Names are looked for among all of them, so the work for one pod may grow
/// with their square; no pod known to us has a tenth.
const MOST_CONTAINERS: usize = 256;

/// As Kubernetes has it; sentences, probes' paths and warnings repeat a name many times.
const LONGEST_NAME: usize = 63;

/// What is known of a pod besides itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Where it is created; templates in files may not say.
    pub namespace: Option<&'a str>,
}

/// What becomes of `pod`: an object with `metadata` and `spec`, like a pod or the template of a workload.
#[must_use]
pub fn judge(pod: &Value, facts: Facts<'_>, configuration: &Configuration) -> Verdict {
    match consider(pod, facts, configuration) {
        Ok(verdict) => verdict,
        Err(refusal) => Verdict::Refused(refusal),
    }
}

fn consider(pod: &Value, facts: Facts<'_>, configuration: &Configuration) -> Result<Verdict, Refusal> {
    let malformed = |what: &str| Reason::Malformed.because(format!("{what} is no object; this is no pod"));
    let pod = pod.as_object().ok_or_else(|| malformed("it"))?;
    let metadata = match pod.get("metadata") {
        None | Some(Value::Null) => None,
        Some(found) => Some(found.as_object().ok_or_else(|| malformed("metadata"))?),
    };
    let spec = pod.get("spec").and_then(Value::as_object).ok_or_else(|| malformed("spec"))?;
    if let Some(skip) = skipped(metadata, spec, facts) {
        return Ok(Verdict::Skipped(skip));
    }
    are_few(spec)?;
    let values = Values::of(metadata, configuration)?;
    checked_image(&values)?;
    let installed = holds_sidecar(spec)?;
    let Some(wish) = Wish::read(&values, configuration)? else {
        return match installed {
            true => Err(Reason::SidecarDiffers.because(format!(
                "the pod holds a container named {SIDECAR}, and no annotation portcullis.dev/app-port; name the app's \
                 port, or the container otherwise"
            ))),
            false => Ok(Verdict::Skipped(Skip::NoAppPort)),
        };
    };
    ports_are_free(spec, &wish)?;
    volumes_are_ours(spec)?;
    if installed {
        installed::is_what_would_be_injected(pod, &wish, configuration)?;
        return Ok(Verdict::Skipped(Skip::AlreadyInjected));
    }
    names_are_free(spec)?;
    Ok(Verdict::Injected(inject((metadata, spec), &wish, configuration)))
}

fn skipped(metadata: Option<&Map<String, Value>>, spec: &Map<String, Value>, facts: Facts<'_>) -> Option<Skip> {
    let has = |list: &str, name: &str| metadata.and_then(|metadata| metadata.get(list)?.get(name));
    let own = metadata.and_then(|metadata| metadata.get("namespace")?.as_str());
    if facts.namespace.or(own).is_some_and(|namespace| SYSTEM.contains(&namespace)) {
        Some(Skip::SystemNamespace)
    } else if has("labels", INJECT_LABEL).is_some_and(|label| label == "disabled") {
        Some(Skip::OptedOut)
    } else if has("annotations", MIRROR).is_some() {
        Some(Skip::MirrorPod)
    } else if spec.get("os").and_then(|os| os.get("name")).is_some_and(|name| name == "windows") {
        Some(Skip::Windows)
    } else if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        Some(Skip::HostNetwork)
    } else {
        None
    }
}

pub(crate) fn containers<'a>(spec: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    spec.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// Before anything that costs more than to count them.
fn are_few(spec: &Map<String, Value>) -> Result<(), Refusal> {
    let all = LISTS.iter().flat_map(|list| containers(spec, list));
    let count = all.filter(|container| !OURS.contains(&name_of(container))).count();
    if count > MOST_CONTAINERS {
        return Err(Reason::Malformed.because(format!(
            "the pod has {count} containers, and more than {MOST_CONTAINERS} are not looked at; split it"
        )));
    }
    Ok(())
}

/// Whether something has the sidecar's name where the sidecar belongs.
fn holds_sidecar(spec: &Map<String, Value>) -> Result<bool, Refusal> {
    let mut names = BTreeSet::new();
    for list in LISTS {
        match spec.get(list) {
            None | Some(Value::Null) => {}
            Some(Value::Array(found)) if found.iter().all(Value::is_object) => {}
            Some(_) => {
                return Err(Reason::Malformed.because(format!("spec.{list} is no list of containers; this is no pod")));
            }
        }
        for name in containers(spec, list).map(name_of) {
            if name.len() > LONGEST_NAME {
                return Err(Reason::Malformed.because(format!(
                    "spec.{list} holds a container whose name is longer than {LONGEST_NAME} letters; give it a \
                     shorter one"
                )));
            }
            if name.is_empty() || !names.insert(name) {
                return Err(Reason::Malformed.because(format!(
                    "spec.{list} holds a container without a name of its own ({name:?}); give each another one"
                )));
            }
        }
        let named = containers(spec, list).any(|container| name_of(container) == SIDECAR);
        if named && list != "initContainers" {
            return Err(Reason::SidecarDiffers.because(format!(
                "the pod holds a container named {SIDECAR} in spec.{list}, which is not the sidecar; give it another \
                 name"
            )));
        }
    }
    Ok(containers(spec, "initContainers").any(|container| name_of(container) == SIDECAR))
}

/// A port that somebody else declares would leave one of the two without it, and a name of ours would lead Services
/// to the app, past the sidecar.
fn ports_are_free(spec: &Map<String, Value>, wish: &Wish) -> Result<(), Refusal> {
    let ours = sidecar::ports(wish);
    if let Some(port) = wish.app_ports.iter().find(|port| ours.contains(port)) {
        return Err(Reason::PortTaken.because(format!(
            "the annotation portcullis.dev/app-port names {port}, where the sidecar listens; let the app listen elsewhere"
        )));
    }
    let all = containers(spec, "containers").chain(containers(spec, "initContainers"));
    for container in all.filter(|container| !OURS.contains(&name_of(container))) {
        let name = name_of(container);
        for port in container.get("ports").and_then(Value::as_array).into_iter().flatten() {
            let number = port.get("containerPort").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
            let tcp = port.get("protocol").is_none_or(|protocol| protocol == "TCP");
            if let Some(number) = number.filter(|number| tcp && ours.contains(number)) {
                return Err(Reason::PortTaken.because(format!(
                    "container {name} declares port {number}, where the sidecar listens; let it listen elsewhere"
                )));
            }
            let called = port.get("name").and_then(Value::as_str).unwrap_or_default();
            if called == "mtls" || called.starts_with("mtls-") {
                return Err(Reason::PortTaken.because(format!(
                    "container {name} declares a port named {called}, and Services would reach it past the sidecar; \
                     give it another name"
                )));
            }
        }
        // Its agent listens there without declaring it.
        if name == "istio-proxy" {
            return Err(Reason::PortTaken.because(format!(
                "the pod holds Istio's sidecar, which listens on port {} as well and answers mTLS itself; set the label \
                 portcullis.dev/inject: disabled, or sidecar.istio.io/inject: \"false\"",
                sidecar::OBSERVE
            )));
        }
    }
    Ok(())
}

/// Whoever mounted the sidecar's key or its state beside it could speak for it, or take back what it knows.
fn volumes_are_ours(spec: &Map<String, Value>) -> Result<(), Refusal> {
    let all = LISTS.iter().flat_map(|list| containers(spec, list));
    for container in all.filter(|container| !OURS.contains(&name_of(container))) {
        let uses = ["volumeMounts", "volumeDevices"].into_iter().filter_map(|list| container.get(list)?.as_array());
        let mut names = uses.flatten().filter_map(|one| one.get("name")?.as_str());
        if let Some(volume) = names.find(|name| name.starts_with(VOLUMES)) {
            return Err(Reason::NameTaken.because(format!(
                "container {} mounts {volume}, and the volumes that begin with {VOLUMES} are for the sidecar alone; \
                 mount another one",
                name_of(container)
            )));
        }
    }
    Ok(())
}

fn names_are_free(spec: &Map<String, Value>) -> Result<(), Refusal> {
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let mut names = volumes.filter_map(|volume| volume.get("name")?.as_str());
    if let Some(name) = names.find(|name| name.starts_with(VOLUMES)) {
        return Err(Reason::NameTaken.because(format!(
            "the volume {name} has a name that belongs to the sidecar; give it one that does not begin with {VOLUMES}"
        )));
    }
    let all = LISTS.iter().flat_map(|list| containers(spec, list));
    if let Some(name) = all.map(name_of).find(|name| OURS.contains(name)) {
        return Err(Reason::NameTaken
            .because(format!("the container {name} has a name that belongs to the sidecar; give it another one")));
    }
    Ok(())
}

/// Everything that the pod gets.
pub(crate) struct Plan {
    pub(crate) rewrites: Vec<Rewrite>,
    /// In their order, from the front of `initContainers`.
    pub(crate) containers: Vec<Value>,
    pub(crate) volumes: Vec<Value>,
    pub(crate) warnings: Vec<String>,
}

/// For this wish, with the probes of these keys only if given.
pub(crate) fn plan(
    spec: &Map<String, Value>,
    wish: &Wish,
    configuration: &Configuration,
    only: Option<&BTreeSet<String>>,
) -> Plan {
    let material: Material = material(wish);
    let (rewrites, warnings) = probes::plan(spec, only);
    let mut containers = vec![sidecar::container(wish, &material, &rewrites, configuration)];
    containers.extend(wish.redirect.iter().map(|redirect| sidecar::redirect(wish, redirect, configuration)));
    let mut volumes = material.volumes;
    volumes.push(json!({"name": NO_TOKEN, "emptyDir": {}}));
    Plan { rewrites, containers, volumes, warnings }
}

fn inject(
    (metadata, spec): (Option<&Map<String, Value>>, &Map<String, Value>),
    wish: &Wish,
    configuration: &Configuration,
) -> Injection {
    let Plan { rewrites, containers: ours, volumes, mut warnings } = plan(spec, wish, configuration, None);
    warnings.extend(others(spec));
    let mut additions = Vec::new();
    let mut add = |path: String, value: Value| additions.push(Addition { path, value });
    // Probes first: their places move when containers come before them.
    for Rewrite { path, probe, .. } in rewrites {
        add(path, probe);
    }
    if has_entries(spec.get("initContainers")) {
        for (index, container) in ours.into_iter().enumerate() {
            add(format!("/spec/initContainers/{index}"), container);
        }
    } else {
        add("/spec/initContainers".to_owned(), Value::Array(ours));
    }
    if has_entries(spec.get("volumes")) {
        for volume in volumes {
            add("/spec/volumes/-".to_owned(), volume);
        }
    } else {
        add("/spec/volumes".to_owned(), Value::Array(volumes));
    }
    let annotations = metadata.and_then(|metadata| metadata.get("annotations"));
    match (metadata, annotations.and_then(Value::as_object)) {
        (_, Some(_)) => add(format!("/metadata/annotations/{}", pointer::escaped(STATUS)), json!(INJECTED)),
        (Some(_), None) => add("/metadata/annotations".to_owned(), json!({STATUS: INJECTED})),
        (None, None) => add("/metadata".to_owned(), json!({"annotations": {STATUS: INJECTED}})),
    }
    Injection { additions, warnings }
}

fn has_entries(list: Option<&Value>) -> bool {
    list.and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// What others in the pod do that concerns the sidecar.
fn others(spec: &Map<String, Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut all = containers(spec, "containers").chain(containers(spec, "initContainers"));
    if all.any(|container| name_of(container) == "linkerd-proxy") {
        warnings.push(format!(
            "Linkerd's sidecar takes inbound connections first; set config.linkerd.io/skip-inbound-ports: \"{},{}\"",
            sidecar::MTLS,
            sidecar::OBSERVE
        ));
    }
    for field in ["shareProcessNamespace", "hostPID"] {
        if spec.get(field) == Some(&Value::Bool(true)) {
            warnings.push(format!("{field} is true: a container of user 65532 or 0 can read the sidecar's key"));
        }
    }
    warnings
}
