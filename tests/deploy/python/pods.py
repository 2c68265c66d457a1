"""Pods: one as the injector makes it, and ways to spoil it.

Used by `policy.py` and `mutation.py`. It must never say what the injector says by asking the chart: the two are to be
compared.
"""

import copy

ANNOTATIONS = {
    "portcullis.dev/app-port": "8080",
    "portcullis.dev/allow": "uri:spiffe://td/ns/shop/*",
    "portcullis.dev/certificate": "secret:web-tls",
    "portcullis.dev/client-ca": "roots",
    "portcullis.dev/revocations": "configmap:revoked",
}
ROOM = "/var/run/portcullis"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def plain(annotations=None, labels=None):
    """What a team writes."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "labels": {"app": "web"} | (labels or {}),
            "annotations": dict(ANNOTATIONS if annotations is None else annotations),
        },
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": "registry.example/web:3",
                    "ports": [{"name": "http", "containerPort": 8080}],
                }
            ]
        },
    }


def sidecar():
    """The container for ANNOTATIONS."""
    environment = {
        "PORTCULLIS_INBOUND": "0.0.0.0:15443=127.0.0.1:8080",
        "PORTCULLIS_ALLOW": "uri:spiffe://td/ns/shop/*",
        "PORTCULLIS_CERT": f"{ROOM}/certificate/tls.crt",
        "PORTCULLIS_KEY": f"{ROOM}/certificate/tls.key",
        "PORTCULLIS_CLIENT_CA": f"{ROOM}/client-ca/ca.crt",
        "PORTCULLIS_REVOCATIONS": f"{ROOM}/revocations",
        "PORTCULLIS_STATE_DIR": f"{ROOM}/state",
        "PORTCULLIS_OBSERVE": "0.0.0.0:15020",
        "PORTCULLIS_BYPASS_CHECK": "warn",
    }
    pod_ip = {"name": "PORTCULLIS_POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}

    def ask(path, period, failures):
        probe = {"httpGet": {"path": path, "port": "metrics", "scheme": "HTTP"}, "periodSeconds": period}
        return probe | {"failureThreshold": failures, "timeoutSeconds": 1, "successThreshold": 1}

    return {
        "name": "portcullis",
        "image": "portcullis:0.1.0",
        "imagePullPolicy": "IfNotPresent",
        "args": ["run"],
        "restartPolicy": "Always",
        "env": [{"name": name, "value": value} for name, value in environment.items()] + [pod_ip],
        "ports": [
            {"name": "mtls", "containerPort": 15443, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 15020, "protocol": "TCP"},
        ],
        "startupProbe": ask("/readyz", 1, 120),
        "readinessProbe": ask("/readyz", 5, 2),
        "livenessProbe": ask("/livez", 10, 3),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 65532,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "portcullis-certificate", "mountPath": f"{ROOM}/certificate", "readOnly": True},
            {"name": "portcullis-client-ca", "mountPath": f"{ROOM}/client-ca", "readOnly": True},
            {"name": "portcullis-revocations", "mountPath": f"{ROOM}/revocations", "readOnly": True},
            {"name": "portcullis-state", "mountPath": f"{ROOM}/state"},
            {"name": "portcullis-no-token", "mountPath": TOKEN, "readOnly": True},
        ],
    }


def injected():
    """`plain` as it comes out of the injector."""
    pod = plain()
    pod["metadata"]["annotations"]["portcullis.dev/status"] = "injected"
    pod["spec"]["initContainers"] = [sidecar()]
    files = [{"key": file, "path": file} for file in ("tls.crt", "tls.key")]
    anchors = [{"key": "ca.crt", "path": "ca.crt"}]
    pod["spec"]["volumes"] = [
        {"name": "portcullis-certificate", "secret": {"secretName": "web-tls", "items": files, "defaultMode": 292}},
        {"name": "portcullis-client-ca", "configMap": {"name": "roots", "items": anchors, "defaultMode": 292}},
        {"name": "portcullis-revocations", "configMap": {"name": "revoked", "defaultMode": 292}},
        {"name": "portcullis-state", "emptyDir": {}},
        {"name": "portcullis-no-token", "emptyDir": {}},
    ]
    return pod


def changed(change, pod=None):
    """A copy of the injected pod after `change(pod, sidecar)`."""
    pod = copy.deepcopy(pod or injected())
    inits = [one for one in pod["spec"].get("initContainers", []) if one["name"] == "portcullis"]
    change(pod, inits[0] if inits else None)
    return pod


def variable(container, name, value=None, **other):
    """Sets a variable, or removes it."""
    container["env"] = [one for one in container["env"] if one["name"] != name]
    if value is not None or other:
        container["env"].append({"name": name} | ({} if value is None else {"value": value}) | other)
