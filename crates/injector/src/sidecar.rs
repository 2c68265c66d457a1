//! The sidecar as a container, and the init container of redirect mode.
//!
//! Called by `patch.rs`. Everything that the sidecar is told stands in its environment as literal values, so that a
//! policy can pin it. It must never ask for a right that Pod Security's `restricted` forbids.

use serde_json::{Map, Value, json};

use crate::certificate::{Material, mount};
use crate::configuration::Configuration;
use crate::probes::Rewrite;
use crate::wish::{Redirect, Wish};

/// The sidecar's name.
pub const SIDECAR: &str = "portcullis";
/// The init container of redirect mode.
pub(crate) const REDIRECT: &str = "portcullis-redirect";
/// Containers of ours.
pub(crate) const OURS: [&str; 2] = [SIDECAR, REDIRECT];
/// Where clients come in; more app ports take the ports behind it.
pub(crate) const MTLS: u16 = 15443;
/// Metrics and probes.
pub(crate) const OBSERVE: u16 = 15020;
/// Where redirected connections come in.
pub(crate) const REDIRECTED: u16 = 15006;

/// Everything that the sidecar listens on for this wish, or might.
pub(crate) fn ports(wish: &Wish) -> Vec<u16> {
    mtls_ports(wish).chain([OBSERVE, REDIRECTED]).collect()
}

fn mtls_ports(wish: &Wish) -> impl Iterator<Item = u16> {
    (MTLS..).take(wish.app_ports.len())
}

/// Neither root nor any user that an image usually has.
const USER: u32 = 65532;
/// A token that is mounted here already is not mounted again: an empty folder keeps the pod's from the sidecar.
const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The empty folder.
pub(crate) const NO_TOKEN: &str = "portcullis-no-token";

/// The sidecar's container.
pub(crate) fn container(
    wish: &Wish,
    material: &Material,
    rewrites: &[Rewrite],
    configuration: &Configuration,
) -> Value {
    let mut container = json!({
        "name": SIDECAR,
        "image": wish.image,
        "args": ["run"],
        "restartPolicy": "Always",
        "env": environment(wish, material, rewrites),
        "ports": container_ports(wish),
        "resources": wish.resources.value(),
        "securityContext": security(),
        "startupProbe": probe("/readyz", 1, wish.startup),
        "livenessProbe": probe("/livez", 10, 3),
        "readinessProbe": probe("/readyz", 5, 2),
        "volumeMounts": mounts(material),
    });
    pull(&mut container, configuration);
    container
}

fn pull(container: &mut Value, configuration: &Configuration) {
    if let (Some(policy), Some(container)) = (&configuration.pull_policy, container.as_object_mut()) {
        container.insert("imagePullPolicy".to_owned(), json!(policy));
    }
}

/// Sends every inbound port to the sidecar; it has to be user 0 and may administer this pod's network, nothing else.
pub(crate) fn redirect(wish: &Wish, redirect: &Redirect, configuration: &Configuration) -> Value {
    // The sidecar's own ports are reached as they are.
    let exclude = redirect.exclude.iter().copied().chain([OBSERVE]).chain(mtls_ports(wish));
    let exclude = exclude.map(|port| port.to_string());
    let mut container = json!({
        "name": REDIRECT,
        "image": redirect.image,
        "args": ["redirect"],
        "env": [
            {"name": "PORTCULLIS_REDIRECT_TO", "value": REDIRECTED.to_string()},
            {"name": "PORTCULLIS_EXCLUDE_PORT", "value": exclude.collect::<Vec<_>>().join("\n")},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false, "privileged": false,
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [no_token()],
    });
    pull(&mut container, configuration);
    container
}

fn security() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "privileged": false,
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Written with all its defaults: what the API server adds by itself would look like a change.
fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "metrics", "scheme": "HTTP"},
        "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 1, "successThreshold": 1,
    })
}

fn container_ports(wish: &Wish) -> Value {
    let inbound = wish.app_ports.iter().zip(MTLS..).enumerate().map(|(index, (app, port))| {
        let name = if index == 0 { "mtls".to_owned() } else { format!("mtls-{app}") };
        json!({"name": name, "containerPort": port, "protocol": "TCP"})
    });
    inbound.chain([json!({"name": "metrics", "containerPort": OBSERVE, "protocol": "TCP"})]).collect()
}

fn environment(wish: &Wish, material: &Material, rewrites: &[Rewrite]) -> Value {
    let protocol = wish.protocol.as_ref().map_or(String::new(), |protocol| format!(",protocol={protocol}"));
    let inbound = wish.app_ports.iter().zip(MTLS..);
    let mut inbound: Vec<String> =
        inbound.map(|(app, port)| format!("0.0.0.0:{port}=127.0.0.1:{app}{protocol}")).collect();
    if wish.redirect.is_some() {
        let ports: Vec<String> = wish.app_ports.iter().map(u16::to_string).collect();
        inbound.push(format!("0.0.0.0:{REDIRECTED}=redirect:{}{protocol}", ports.join("+")));
    }
    let mut values: Vec<(&str, String)> = vec![("PORTCULLIS_INBOUND", inbound.join("\n"))];
    values.extend(material.environment.iter().cloned());
    match &wish.allow {
        Some(identities) => values.push(("PORTCULLIS_ALLOW", identities.join("\n"))),
        None => values.push(("PORTCULLIS_ALLOW_ANY", "true".to_owned())),
    }
    values.push(("PORTCULLIS_OBSERVE", format!("0.0.0.0:{OBSERVE}")));
    values.push(("PORTCULLIS_BYPASS_CHECK", wish.bypass_check.clone()));
    values.extend(wish.flags.iter().map(|(name, value)| (name.as_str(), value.clone())));
    if !rewrites.is_empty() {
        let probes: Map<String, Value> =
            rewrites.iter().map(|rewrite| (rewrite.key.clone(), rewrite.original.clone())).collect();
        values.push(("PORTCULLIS_APP_PROBES", Value::Object(probes).to_string()));
    }
    let address = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}});
    let address = json!({"name": "PORTCULLIS_POD_IP", "valueFrom": address});
    let literal = values.iter().map(|(name, value)| json!({"name": name, "value": literal(value)}));
    literal.chain([address]).collect()
}

/// The kubelet puts variables in for `$(NAME)` and takes `$$` for `$`: here every value means itself.
pub(crate) fn literal(value: &str) -> String {
    let mut literal = String::with_capacity(value.len());
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        literal.push(letter);
        if letter == '$' && matches!(letters.peek(), Some('$' | '(')) {
            literal.push('$');
        }
    }
    literal
}

/// What the kubelet would make of a literal.
pub(crate) fn meant(literal: &str) -> String {
    let mut value = String::with_capacity(literal.len());
    let mut letters = literal.chars().peekable();
    while let Some(letter) = letters.next() {
        value.push(letter);
        if letter == '$' && letters.peek() == Some(&'$') {
            letters.next();
        }
    }
    value
}

fn mounts(material: &Material) -> Value {
    let names = material.volumes.iter().filter_map(|volume| volume.get("name")?.as_str());
    names.map(mount).chain([no_token()]).collect()
}

fn no_token() -> Value {
    json!({"name": NO_TOKEN, "mountPath": TOKEN_FOLDER, "readOnly": true})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_means_itself_to_the_kubelet() {
        for value in ["", "$", "$$", "a$(HOME)b", "$$(X)", "$x", "a$$$", "$($", "{\"a\":\"$(b)\"}"] {
            assert_eq!(meant(&literal(value)), value);
            assert!(!literal(value).replace("$$", "").contains("$("), "{value}");
        }
    }
}
