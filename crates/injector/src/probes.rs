//! The app's probes, sent through the sidecar.
//!
//! An app behind the proxy listens on loopback, where the kubelet cannot reach it: each probe by httpGet, tcpSocket or
//! grpc becomes one of the sidecar's `/app-probe/…`, and the original goes along in PORTCULLIS_APP_PROBES. Called by
//! `patch.rs` and `installed.rs`. It must never touch exec, nor a probe of another host, nor a lifecycle hook: a hook
//! runs once and its failure kills the container, so a request that somebody else repeats would not be the same.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::sidecar::{OBSERVE, OURS};
use crate::values::{MOST_VALUES, are_few};

/// Fields of a container, and the words of the sidecar's path.
const KINDS: [(&str, &str); 3] =
    [("startupProbe", "startup"), ("readinessProbe", "readiness"), ("livenessProbe", "liveness")];
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// One probe of the app.
pub(crate) struct Rewrite {
    /// A JSON Pointer from the pod.
    pub(crate) path: String,
    /// `<container>/<kind>`.
    pub(crate) key: String,
    /// What the sidecar shall ask, as PORTCULLIS_APP_PROBES holds it.
    pub(crate) original: Value,
    /// What the kubelet shall ask.
    pub(crate) probe: Value,
}

/// Every probe that goes through the sidecar; of these keys only, if given. Beside them sentences about what stays.
pub(crate) fn plan(spec: &Map<String, Value>, only: Option<&BTreeSet<String>>) -> (Vec<Rewrite>, Vec<String>) {
    let (mut rewrites, mut warnings) = (Vec::new(), Vec::new());
    for (list, index, container) in running(spec) {
        let name = name_of(container);
        for (field, kind) in KINDS {
            let Some(Value::Object(probe)) = container.get(field) else { continue };
            let key = format!("{name}/{kind}");
            if only.is_some_and(|only| !only.contains(&key)) {
                continue;
            }
            match original(probe, container) {
                Ok(Some(original)) => {
                    let path = format!("/spec/{list}/{index}/{field}");
                    rewrites.push(Rewrite { path, probe: through_sidecar(probe, &key), original, key });
                }
                Ok(None) => {}
                Err(why) => warnings.push(format!("container {name}: its {field} {why}, and stays as it is")),
            }
        }
        if has_web_hook(container) {
            warnings.push(format!(
                "container {name}: a lifecycle hook by httpGet stays as it is, and cannot reach an app that listens on \
                 loopback; use exec or sleep"
            ));
        }
    }
    (rewrites, warnings)
}

/// Containers that have probes: those of the app, and sidecars of others.
fn running(spec: &Map<String, Value>) -> impl Iterator<Item = (&'static str, usize, &Map<String, Value>)> {
    let listed = |list: &'static str| {
        let containers = spec.get(list).and_then(Value::as_array).into_iter().flatten().enumerate();
        containers.filter_map(move |(index, container)| Some((list, index, container.as_object()?)))
    };
    let stays = |container: &Map<String, Value>| container.get("restartPolicy").is_some_and(|when| when == "Always");
    let sidecars = listed("initContainers").filter(move |(_, _, container)| stays(container));
    listed("containers").chain(sidecars).filter(|(_, _, container)| !OURS.contains(&name_of(container)))
}

pub(crate) fn name_of(container: &Map<String, Value>) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// `None` for what the kubelet can go on to ask by itself.
fn original(probe: &Map<String, Value>, container: &Map<String, Value>) -> Result<Option<Value>, String> {
    let found = HANDLERS.iter().find_map(|kind| Some((*kind, probe.get(*kind)?.as_object()?)));
    let Some((kind, handler)) = found else { return Ok(None) };
    if handler.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty()) {
        return Err("names a host of its own".to_owned());
    }
    let Some(port) = resolved(handler.get("port"), container) else {
        let port = handler.get("port").unwrap_or(&Value::Null);
        return Err(format!("names the port {port}, which the container does not declare"));
    };
    if port == OBSERVE {
        // It is about the sidecar, which must not ask itself.
        return Err(format!("is about port {OBSERVE}, the sidecar's own"));
    }
    let mut handler = handler.clone();
    handler.insert("port".to_owned(), json!(port));
    let timeout = probe.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(1);
    Ok(Some(json!({kind: handler, "timeoutSeconds": timeout})))
}

/// As the kubelet resolves it: a number, the name of a port of this container, or a number as text.
fn resolved(port: Option<&Value>, container: &Map<String, Value>) -> Option<u16> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok().filter(|port| *port > 0);
    let port = port?;
    let Value::String(name) = port else { return number(port) };
    let declared = container.get("ports").and_then(Value::as_array).into_iter().flatten();
    let mut named = declared.filter(|port| port.get("name").and_then(Value::as_str) == Some(name));
    match named.next() {
        Some(port) => number(port.get("containerPort")?),
        None => name.parse().ok().filter(|port| *port > 0),
    }
}

/// Everything else of the probe stays, fields that we do not know included.
fn through_sidecar(probe: &Map<String, Value>, key: &str) -> Value {
    let mut probe = probe.clone();
    for kind in HANDLERS {
        probe.remove(kind);
    }
    let request = json!({"path": format!("/app-probe/{key}"), "port": OBSERVE, "scheme": "HTTP"});
    probe.insert("httpGet".to_owned(), request);
    Value::Object(probe)
}

fn has_web_hook(container: &Map<String, Value>) -> bool {
    let hooks = container.get("lifecycle").and_then(Value::as_object).into_iter().flat_map(Map::values);
    hooks.filter_map(Value::as_object).any(|hook| hook.contains_key("httpGet") || hook.contains_key("tcpSocket"))
}

/// Where the probe of a key stands: the list, the container's place in it, and the field.
fn place(spec: &Map<String, Value>, key: &str) -> Option<(&'static str, usize, &'static str)> {
    let (name, kind) = key.split_once('/')?;
    let (field, _) = KINDS.into_iter().find(|(_, word)| *word == kind)?;
    ["containers", "initContainers"].into_iter().find_map(|list| {
        let containers = spec.get(list)?.as_array()?;
        let index = containers.iter().position(|found| found.get("name").is_some_and(|found| found == name))?;
        Some((list, index, field))
    })
}

/// The probe of a key.
pub(crate) fn find<'a>(spec: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let (list, index, field) = place(spec, key)?;
    spec.get(list)?.get(index)?.get(field)
}

/// Puts the originals back into the pod, and tells their keys; an error if one has no place there.
pub(crate) fn restore(spec: &mut Map<String, Value>, originals: &str) -> Result<BTreeSet<String>, String> {
    if !are_few(originals.as_bytes()) {
        return Err(format!("PORTCULLIS_APP_PROBES has more than {MOST_VALUES} values"));
    }
    let originals: Map<String, Value> = serde_json::from_str(originals)
        .map_err(|error| format!("PORTCULLIS_APP_PROBES is no JSON object ({error})"))?;
    let mut keys = BTreeSet::new();
    for (key, original) in originals {
        let mut back = || {
            let (list, index, field) = place(spec, &key)?;
            let probe = spec.get_mut(list)?.get_mut(index)?.get_mut(field)?.as_object_mut()?;
            let (kind, handler) = HANDLERS.iter().find_map(|kind| Some((*kind, original.get(*kind)?.clone())))?;
            probe.remove("httpGet")?;
            probe.insert(kind.to_owned(), handler);
            Some(())
        };
        let lost = || format!("PORTCULLIS_APP_PROBES names {key}, which is no probe of this pod that asks the sidecar");
        back().ok_or_else(lost)?;
        keys.insert(key);
    }
    Ok(keys)
}
