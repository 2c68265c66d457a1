"""What an API server does with the chart, without one: renders it, validates objects, and evaluates its policies' CEL.

Used by the scripts beside it. Expressions run in Google's C++ implementation of CEL with the extensions that Kubernetes
has under the same names (strings, optionals); Kubernetes' own libraries (lists, regex, quantity, url and others) are not
there, so the policies use none of them. It must never be more lenient than a server: an expression that fails refuses.
"""

import copy
import json
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml
from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings
from helm_python.chart import Chart, lint

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy/chart"
VERSIONS = ["1.33", "1.35", "1.37"]
# Resources of others, which no schema here knows.
FOREIGN = {
    "cert-manager.io/v1": {"Issuer", "Certificate"},
    "monitoring.coreos.com/v1": {"PodMonitor", "PrometheusRule"},
}


RENDERED = {}


def render(values=None):
    """The objects that `helm install portcullis --namespace portcullis` would make."""
    key = json.dumps(values or {}, sort_keys=True)
    if key not in RENDERED:
        with Chart.load(CHART) as chart:
            chart.validate_schema(chart.merge_values(values or {}))
            made = chart.render(values=values or {}, name="portcullis", namespace="portcullis")
        names = [name for name in sorted(made) if name.endswith(".yaml")]
        RENDERED[key] = [thing for name in names for thing in yaml.load_all(made[name], yaml.CSafeLoader) if thing]
    return copy.deepcopy(RENDERED[key])


def lint_errors(values=None):
    """What `helm lint --strict` has against the chart with these values, but for a missing icon."""
    report = lint(CHART, values or {}, strict=True, namespace="portcullis", kube_version="v1.37.0")
    found = [message["error"] for message in report["messages"] if message["error"] != "icon is recommended"]
    return found + report["errors"]


def find(things, kind, name=None):
    """The one object of this kind, and of this name if there are more."""
    found = [thing for thing in things if thing["kind"] == kind and name in (None, thing["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


VALID = set()


def validate(thing, version):
    """Strictly against the schema of this version of Kubernetes."""
    if thing["kind"] in FOREIGN.get(thing["apiVersion"], set()):
        return
    # The same object comes up again and again over a matrix.
    key = (json.dumps(thing, sort_keys=True), version)
    if key not in VALID:
        kubernetes_validate.validate(thing, version, strict=True)
        VALID.add(key)


class Failure(Exception):
    """An expression that ended in an error, as a server would see it."""


WORLD = cel.NewEnv(
    variables={name: cel.Type.DYN for name in ("object", "oldObject", "request", "variables", "namespaceObject")},
    extensions=[ext_strings.ExtStrings(), ext_optional.ExtOptional()],
)
COMPILED = {}


def evaluate(expression, world):
    """The value of an expression, compiled and type-checked as a server does when it takes a policy."""
    if expression not in COMPILED:
        COMPILED[expression] = WORLD.compile(expression)
    value = COMPILED[expression].eval(data=world)
    if value.type() == cel.Type.ERROR:
        raise Failure(f"{value.plain_value()}: {expression}")
    return value.plain_value()


def as_stored(pod):
    """A pod as a validating policy sees it: with the defaults that the API server fills in."""
    pod = copy.deepcopy(pod)
    spec = pod["spec"]
    for container in spec["containers"] + spec.get("initContainers", []):
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container.setdefault("resources", {})
        if container["resources"]:
            container.setdefault("resizePolicy", [{"resourceName": "cpu", "restartPolicy": "NotRequired"}])
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")
        for variable in container.get("env", []):
            if "valueFrom" in variable and "fieldRef" in variable["valueFrom"]:
                variable["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if kind in container:
                for key, value in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1)]:
                    container[kind].setdefault(key, value)
                if "httpGet" in container[kind]:
                    container[kind]["httpGet"].setdefault("scheme", "HTTP")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    return pod


def with_token(pod):
    """The same after the admission of service accounts has mounted its token into every container."""
    pod = copy.deepcopy(pod)
    pod["spec"].setdefault("volumes", []).append({"name": "kube-api-access-abcde", "projected": {"sources": []}})
    mount = {"name": "kube-api-access-abcde", "readOnly": True}
    mount["mountPath"] = "/var/run/secrets/kubernetes.io/serviceaccount"
    for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
        mounts = container.setdefault("volumeMounts", [])
        if all(one["mountPath"] != mount["mountPath"] for one in mounts):
            mounts.append(dict(mount))
    return pod


class Policy:
    """A ValidatingAdmissionPolicy or MutatingAdmissionPolicy."""

    def __init__(self, thing):
        self.spec = thing["spec"]

    def world(self, new, old):
        operation = "UPDATE" if old else "CREATE"
        world = {"object": new, "oldObject": old, "request": {"operation": operation}, "variables": {}}
        return world | {"namespaceObject": None}

    def concerns(self, new, old=None):
        world = self.world(new, old)
        return all(evaluate(one["expression"], world) for one in self.spec.get("matchConditions", []))

    def with_variables(self, new, old):
        world = self.world(new, old)
        for one in self.spec.get("variables", []):
            world["variables"][one["name"]] = evaluate(one["expression"], world)
        return world

    def broken(self, new, old=None):
        """The place and the message of every validation that refuses this pod."""
        new, old = as_stored(new), as_stored(old) if old else None
        if not self.concerns(new, old):
            return []
        try:
            world, found = self.with_variables(new, old), []
        except Failure as failure:
            return [(-1, f"failed: {failure}")]
        for index, one in enumerate(self.spec["validations"]):
            try:
                held = evaluate(one["expression"], world)
                if held is not True:
                    found.append((index, one.get("message") or evaluate(one["messageExpression"], world)))
            except Failure as failure:
                found.append((index, f"failed: {failure}"))
        return found

    def refusals(self, new, old=None):
        """Every message with which this pod is refused."""
        return [message for _, message in self.broken(new, old)]


def selects(selector, labels):
    """Whether a label selector selects these labels."""
    for key, value in (selector or {}).get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for term in (selector or {}).get("matchExpressions", []):
        value, values = labels.get(term["key"]), term.get("values", [])
        held = {"In": value in values, "NotIn": value not in values, "Exists": value is not None}
        held["DoesNotExist"] = value is None
        if not held[term["operator"]]:
            return False
    return True


def run(names):
    """Every function of a script that is a sentence; one that wants a folder gets an empty one."""
    checks = [one for name, one in names.items() if callable(one) and name.count("_") > 2 and one.__module__ == "__main__"]
    assert checks, "nothing to check"
    for check in checks:
        with tempfile.TemporaryDirectory() as folder:
            check(*[Path(folder)][: check.__code__.co_argcount])
        print(f"ok: {check.__name__.replace('_', ' ')}")
