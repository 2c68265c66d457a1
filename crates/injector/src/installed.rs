//! A pod that holds the sidecar already: whether it is what would be injected, and how it was without.
//!
//! Called by `patch.rs`, when an API server asks again or a pod is made from another, and by `manifest.rs` for
//! `--uninject`. It must never take a container for ours that differs where it matters: its image, arguments,
//! environment, mounts, ports, probes and rights.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::configuration::Configuration;
use crate::keys::STATUS;
use crate::patch::{self, Plan, VOLUMES, containers};
use crate::probes::{self, name_of};
use crate::sidecar::{OURS, SIDECAR, meant};
use crate::verdict::{Reason, Refusal};
use crate::wish::Wish;

/// What the API server and its plugins add by themselves to any container. A pull policy chooses no image, and
/// resources that a LimitRange adds take nothing away.
const ADDED: [&str; 3] = ["imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy"];
const REMEDY: &str = "take it out, with portcullis inject --uninject where it is in a file";

/// Compares what is there with what this wish would bring.
pub(crate) fn is_what_would_be_injected(
    pod: &Map<String, Value>,
    wish: &Wish,
    configuration: &Configuration,
) -> Result<(), Refusal> {
    let differs = |what: &str| {
        Reason::SidecarDiffers.because(format!(
            "the pod holds a container named {SIDECAR} that is not what would be injected: {what}; {REMEDY}"
        ))
    };
    let mut before = Value::Object(pod.clone());
    let keys = take_out(&mut before).map_err(|why| differs(&why))?;
    let (Some(before), Some(now)) = (spec(&before), pod.get("spec").and_then(Value::as_object)) else {
        return Err(differs("it has no spec"));
    };
    let Plan { rewrites, containers: ours, volumes, .. } = patch::plan(before, wish, configuration, Some(&keys));
    let there: Vec<&Map<String, Value>> =
        containers(now, "initContainers").filter(|container| OURS.contains(&name_of(container))).collect();
    if there.len() != ours.len() {
        return Err(differs("the number of the sidecar's containers"));
    }
    for (there, ours) in there.into_iter().zip(&ours) {
        container_is(there, ours).map_err(|field| differs(&format!("{field} of {}", name_of(there))))?;
    }
    let named =
        |volume: &&Value| volume.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with(VOLUMES));
    let found: Vec<&Value> = now.get("volumes").and_then(Value::as_array).into_iter().flatten().filter(named).collect();
    if found.len() != volumes.len() || !volumes.iter().all(|volume| found.contains(&volume)) {
        return Err(differs("the volumes"));
    }
    // The environment was compared as a whole: every key of it is among these.
    match rewrites.iter().all(|rewrite| probes::find(now, &rewrite.key) == Some(&rewrite.probe)) {
        true => Ok(()),
        false => Err(differs("the app's probes")),
    }
}

fn spec(pod: &Value) -> Option<&Map<String, Value>> {
    pod.get("spec")?.as_object()
}

/// Every field as it would be, besides what others add; an error names the field.
fn container_is(there: &Map<String, Value>, ours: &Value) -> Result<(), String> {
    let ours = ours.as_object().ok_or("the shape")?;
    for (field, wanted) in ours.iter().filter(|(field, _)| field.as_str() != "imagePullPolicy") {
        let found = there.get(field).unwrap_or(&Value::Null);
        let same = if field == "resources" { covers(found, wanted) } else { found == wanted };
        if !same {
            return Err(field.clone());
        }
    }
    let foreign = there.keys().find(|field| !ours.contains_key(*field) && !ADDED.contains(&field.as_str()));
    foreign.map_or(Ok(()), |field| Err(field.clone()))
}

/// Whether everything of `wanted` is in `found`.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| found.get(name).map_or(is_empty(wanted), |found| covers(found, wanted)))
        }
        (found, wanted) => found == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// Takes the sidecar out and puts the app's probes back; tells which. An error says what cannot be taken back.
pub(crate) fn take_out(pod: &mut Value) -> Result<BTreeSet<String>, String> {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut).ok_or("it has no spec")?;
    let originals = originals(spec);
    if let Some(Value::Array(found)) = spec.get_mut("initContainers") {
        found
            .retain(|container| container.get("name").and_then(Value::as_str).is_none_or(|name| !OURS.contains(&name)));
    }
    if let Some(Value::Array(volumes)) = spec.get_mut("volumes") {
        let ours =
            |volume: &Value| volume.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with(VOLUMES));
        volumes.retain(|volume| !ours(volume));
    }
    for list in ["initContainers", "volumes"] {
        if spec.get(list).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            spec.remove(list);
        }
    }
    let keys = match originals {
        Some(originals) => probes::restore(spec, &meant(&originals))?,
        None => BTreeSet::new(),
    };
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(STATUS);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    Ok(keys)
}

/// The app's probes as the sidecar's environment holds them.
fn originals(spec: &Map<String, Value>) -> Option<String> {
    let sidecar = containers(spec, "initContainers").find(|container| name_of(container) == SIDECAR)?;
    let variables = sidecar.get("env")?.as_array()?;
    let probes = variables.iter().find(|one| one.get("name").is_some_and(|name| name == "PORTCULLIS_APP_PROBES"))?;
    Some(probes.get("value")?.as_str()?.to_owned())
}
