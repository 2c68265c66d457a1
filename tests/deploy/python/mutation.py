"""The mutating policy: what its patch makes is what the validating policy lets pass, and what the schemas know.

Called by `tests/deploy/main.rs`. Object{…} and JSONPatch{…} are Kubernetes' own and no evaluator here knows them: they
are read as maps, and that their names follow their fields is checked as the API server does. It must never change an
expression in another way.
"""

import copy
import json
import re

import cluster
import jsonpatch
from pods import injected, plain

THINGS = cluster.render({"injector": "policy"})
MUTATING = cluster.find(THINGS, "MutatingAdmissionPolicy")
VALIDATING = cluster.Policy(cluster.find(THINGS, "ValidatingAdmissionPolicy"))
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\b(?:Object(?:\.\w+)*|JSONPatch)\{|[{}(),:\[\]]|\w+|\s+|.', re.S)


def as_maps(expression):
    """The same with maps in place of typed objects; each carries its type's name under `@`."""
    written, open_brackets, field = [], [], False
    for token in TOKEN.findall(expression):
        if token.endswith("{") and len(token) > 1:
            written.append('{"@": dyn("' + token[:-1] + '"), ')
            open_brackets.append("object")
            field = True
            continue
        if token in "([{":
            open_brackets.append(token)
        elif token in ")]}":
            open_brackets.pop()
        elif token == "," and open_brackets[-1:] == ["object"]:
            field = True
        elif field and token.isidentifier():
            written.append(f'"{token}": dyn')
            field = "value"
            continue
        elif field == "value" and token == ":":
            written[-1] = written[-1].removesuffix(": dyn") + ":"
            field = False
            continue
        written.append(token)
    return "".join(written)


def checked(value, name=None):
    """Without the names; each must be the path of its field."""
    if isinstance(value, list):
        return [checked(one, name) for one in value]
    if not isinstance(value, dict):
        return value
    told = value.get("@")
    if told and name and told != "JSONPatch":
        assert told == name, f"{told} stands in {name}"
    known = told or name
    inside = {key: checked(one, f"{known}.{key}" if known else None) for key, one in value.items() if key != "@"}
    return inside


def mutated(pod, things=None):
    """The pod after the policy, or None if it does not concern it."""
    policy = cluster.Policy(cluster.find(things or THINGS, "MutatingAdmissionPolicy"))
    if not policy.concerns(pod):
        return None
    # Each mutation sees what the one before it made, and so do the variables.
    for mutation in policy.spec["mutations"]:
        world = policy.with_variables(pod, None)
        steps = cluster.evaluate(as_maps(mutation["jsonPatch"]["expression"]), world)
        pod = jsonpatch.apply_patch(pod, [plain_step(step) for step in steps])
    return pod


def plain_step(step):
    """One operation without the names of its types, which must be those of its place."""
    assert step.pop("@") == "JSONPatch"
    if step["op"] == "remove":
        return step
    path = "Object." + ".".join(part for part in step["path"].split("/") if not re.fullmatch(r"\d+|-|", part))
    typed = isinstance(step["value"], dict) and "@" in step["value"]
    return step | {"value": checked(step["value"], path if typed else None)}


def with_notes(**notes):
    pod = plain()
    pod["metadata"]["annotations"] |= {f"portcullis.dev/{key.replace('_', '-')}": value for key, value in notes.items()}
    return pod


PODS = {
    "plain": plain(),
    "two ports": with_notes(app_port="8080, 9090", protocol="h2c"),
    "several clients": with_notes(allow="dns:a,dns:b"),
    "subjects": with_notes(allow="subject:CN=a,O=b\ndns:c"),
    "flags": with_notes(drain="9s", max_session_age="1h", log_level="debug", bypass_check="enforce"),
    "trust domain": with_notes(trust_domain="td"),
    "resources": with_notes(cpu_limit="1", memory_limit="1Gi", cpu_request="1m", memory_request="1Mi"),
    "less": with_notes(memory_limit="none", cpu_request="none", memory_request="none"),
    "startup": with_notes(startup_timeout="30s"),
    "by the kubelet": with_notes(certificate="pod-certificate:example.com/pods"),
}


def with_lists(pod):
    """With init containers, volumes and a sidecar of somebody else."""
    pod = copy.deepcopy(pod)
    pod["spec"]["initContainers"] = [{"name": "istio-proxy", "image": "x", "restartPolicy": "Always"}]
    pod["spec"]["volumes"] = [{"name": "cache", "emptyDir": {}}]
    return pod


def what_it_makes_passes_the_validating_policy_and_the_schemas():
    for name, pod in PODS.items():
        for given in (pod, with_lists(pod)):
            made = mutated(given)
            told = VALIDATING.refusals(cluster.with_token(made))
            assert told == [], f"{name}: {told}"
            assert made["spec"]["initContainers"][0]["name"] == "portcullis", name
            assert made["spec"]["initContainers"][1:] == given["spec"].get("initContainers", []), name
            assert made["spec"]["volumes"][: len(given["spec"].get("volumes", []))] == given["spec"].get("volumes", [])
            assert mutated(made) is None, f"{name} is injected twice"
            if "kubelet" not in name:
                cluster.validate(made, "1.36")
            cluster.validate(made, "1.37")


def it_makes_what_the_injector_makes():
    made, wanted = mutated(plain()), injected()
    (mine,), (theirs,) = made["spec"].pop("initContainers"), wanted["spec"].pop("initContainers")
    sort = lambda things: sorted(things, key=lambda one: one["name"])  # noqa: E731
    for key in ("env", "volumeMounts", "ports"):
        assert sort(mine.pop(key)) == sort(theirs.pop(key)), key
    assert mine == theirs
    assert sort(made["spec"].pop("volumes")) == sort(wanted["spec"].pop("volumes"))
    assert made == wanted


def probes_go_through_the_sidecar():
    pod = plain()
    (app,) = pod["spec"]["containers"]
    header = {"name": "A", "value": 'b "c" \\ $(d)\n'}
    app["readinessProbe"] = {"httpGet": {"path": "/ok", "port": "http", "httpHeaders": [header]}, "periodSeconds": 7}
    app["livenessProbe"] = {"tcpSocket": {"port": 8080}, "timeoutSeconds": 2}
    app["startupProbe"] = {"exec": {"command": ["true"]}}
    sidecar = {"name": "side", "image": "x", "restartPolicy": "Always", "startupProbe": {"grpc": {"port": 7}}}
    pod["spec"]["initContainers"] = [{"name": "first", "image": "x"}, sidecar]
    made = mutated(pod)
    env = {one["name"]: one.get("value") for one in made["spec"]["initContainers"][0]["env"]}
    # The kubelet takes $$ for $.
    asked = json.loads(env["PORTCULLIS_APP_PROBES"].replace("$$", "$"))
    assert asked == {
        "web/readiness": {"httpGet": {"path": "/ok", "port": 8080, "httpHeaders": [header]}, "timeoutSeconds": 1},
        "web/liveness": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 2},
        "side/startup": {"grpc": {"port": 7}, "timeoutSeconds": 1},
    }, asked
    through = lambda key: {"path": f"/app-probe/{key}", "port": 15020, "scheme": "HTTP"}  # noqa: E731
    (now,), side = made["spec"]["containers"], made["spec"]["initContainers"][2]
    assert now["readinessProbe"] == {"httpGet": through("web/readiness"), "periodSeconds": 7}
    assert now["livenessProbe"] == {"httpGet": through("web/liveness"), "timeoutSeconds": 2}
    assert now["startupProbe"] == app["startupProbe"] and side["startupProbe"] == {"httpGet": through("side/startup")}
    assert VALIDATING.refusals(cluster.with_token(made)) == []


def pods_without_a_port_or_with_the_nodes_network_stay_as_they_are():
    assert mutated(plain(annotations={})) is None
    node = plain()
    node["spec"]["hostNetwork"] = True
    assert mutated(node) is None


def defaults_of_the_chart_fill_what_a_pod_does_not_say():
    defaults = {"app-port": "8080", "allow": ["dns:a", "dns:b"], "certificate": "secret:s", "revocations": "none"}
    things = cluster.render({"injector": "policy", "defaults": defaults, "policy": {"permit": {"noRevocations": True}}})
    bare = plain(annotations={})
    del bare["metadata"]["annotations"]
    made = mutated(bare, things)
    assert made["metadata"]["annotations"] == {"portcullis.dev/status": "injected"}
    env = {one["name"]: one.get("value") for one in made["spec"]["initContainers"][0]["env"]}
    assert env["PORTCULLIS_ALLOW"] == "dns:a\ndns:b" and env["PORTCULLIS_NO_REVOCATIONS"] == "true"
    policy = cluster.Policy(cluster.find(things, "ValidatingAdmissionPolicy"))
    assert policy.refusals(made) == []


def a_name_that_does_not_follow_its_field_is_noticed():
    try:
        checked({"@": "Object.spec", "a": {"@": "Object.spec.b"}}, "Object.spec")
    except AssertionError:
        return
    raise AssertionError("the names are not checked")


if __name__ == "__main__":
    cluster.run(globals())
