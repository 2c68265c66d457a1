"""The validating policy, expression by expression: what the injector makes passes, whatever weakens it is refused.

Called by `tests/deploy/main.rs`. It must never take a failing expression for a refusal: every case names the sentence.
"""

import copy
import functools
import json
import re
from importlib.resources import files

import cluster
from pods import changed, injected, plain, sidecar
from weakened import ACCEPTED, REFUSED, app, both, env, ephemeral, label, note, own, redirected, spec, without_sidecar

THINGS = cluster.render({"redirectImage": "nft:1"})
POLICY = cluster.Policy(cluster.find(THINGS, "ValidatingAdmissionPolicy"))


def with_values(**values):
    return cluster.Policy(cluster.find(cluster.render(values), "ValidatingAdmissionPolicy"))


def permitting(name, **values):
    return with_values(policy={"permit": {name: True}}, **values)


def the_injected_pod_passes():
    for name, change in ACCEPTED.items():
        pod = changed(change)
        for told in (POLICY.refusals(pod), POLICY.refusals(cluster.with_token(pod))):
            assert told == [], f"{name}: {told}"


def whatever_weakens_it_is_refused():
    for name, (change, sentence) in REFUSED.items():
        told = POLICY.refusals(changed(change))
        assert any(sentence in one for one in told), f"{name}: {told}"
        assert not any(one.startswith("failed") for one in told), f"{name}: {told}"


def no_validation_could_be_left_out():
    """Each is the only one that refuses some pod."""
    broken = [POLICY.broken(changed(change)) for change, _ in REFUSED.values()]
    broken.append(POLICY.broken(injected(), changed(label("enabled"))))
    alone = {index for (index, _), *others in broken if not others}
    missing = [one for index, one in enumerate(POLICY.spec["validations"]) if index not in alone]
    assert not missing, f"nothing needs these: {missing}"


# What may differ from what the injector makes: how much it uses, how patiently it is asked, and how a volume is mounted.
FREE = re.compile(
    r"/initContainers/0/(resources|resizePolicy|imagePullPolicy|terminationMessagePolicy)\b"
    r"|Probe/(\w+Seconds|\w+Threshold|httpGet/(scheme|httpHeaders))$|/ports/\d/protocol$"
    r"|/volumeMounts/\d/(readOnly|recursiveReadOnly)$|/env/\d+/valueFrom/fieldRef/apiVersion$"
    r"|/volumes/\d/\w+/(defaultMode|optional|items(/\d)?)$|/initContainers/0/(terminationMessagePath|securityContext/privileged)$"
)


def places(value, path=""):
    """Every object, list and value below this one, with its path."""
    yield path, value
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(one, f"{path}/{key}")


def schema_fields(kind):
    schemas = files("kubernetes_validate") / "kubernetes-json-schema/v1.37.0-local"
    return json.loads((schemas / f"{kind.lower()}-v1.json").read_text())["properties"]


def no_part_of_the_sidecar_changes_unseen():
    """Each value of its container and its volumes, changed and left out."""
    pod, unseen = cluster.as_stored(injected()), []
    for path, value in places({key: pod["spec"][key] for key in ("initContainers", "volumes")}):
        if path.count("/") < 3 or FREE.search(path):
            continue
        for spoil in ("changed", "gone"):
            spoiled = copy.deepcopy(pod)
            *way, last = [int(word) if word.isdigit() else word for word in path.split("/")[1:]]
            place = functools.reduce(lambda at, key: at[key], way, spoiled["spec"])
            if spoil == "gone":
                del place[last]
            elif isinstance(value, (dict, list)):
                continue
            else:
                place[last] = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "evil"
            if not POLICY.refusals(spoiled):
                unseen.append(f"{path} {spoil}")
    assert not unseen, unseen


def nothing_that_kubernetes_knows_can_be_added_to_the_sidecar():
    pod = cluster.as_stored(injected())
    places = {"Container": [], "SecurityContext": ["securityContext"], "ContainerPort": ["ports", 0]}
    places |= {"VolumeMount": ["volumeMounts", 0], "EnvVar": ["env", 0], "EnvVarSource": ["env", -1, "valueFrom"]}
    places |= {"HTTPGetAction": ["startupProbe", "httpGet"], "Capabilities": ["securityContext", "capabilities"]}
    for kind, way in places.items():
        for field, shape in schema_fields(kind).items():
            spoiled = copy.deepcopy(pod)
            place = functools.reduce(lambda at, key: at[key], way, spoiled["spec"]["initContainers"][0])
            path = f"/initContainers/0/{'/'.join(map(str, way))}/{field}".replace("//", "/")
            if field in place or FREE.search(path):
                continue
            samples = {"array": ["x"], "boolean": True, "integer": 1, "string": "x"}
            (known, *_) = [one for one in [shape.get("type")] if isinstance(one, str)] or shape.get("type", [""])
            place[field] = samples.get(known, {"x": "y"})
            assert POLICY.refusals(spoiled), path


def running_pods_are_held_to_it():
    new, old = changed(own(image="evil")), injected()
    assert any("evil is not one of those" in one for one in POLICY.refusals(new, old))
    assert any("opt out" in one for one in POLICY.refusals(changed(label("disabled")), old))
    assert any("DRAIN" in one for one in POLICY.refusals(changed(note("drain", "9h")), old))
    removed = changed(lambda pod, _: pod["metadata"]["annotations"].pop("portcullis.dev/allow"))
    assert any("PORTCULLIS_ALLOW does" in one for one in POLICY.refusals(removed, old))
    assert any("debugging" in one for one in POLICY.refusals(changed(ephemeral(targetContainerName="portcullis")), old))


def no_running_pod_leaves_by_its_label():
    """The binding that covers single pods would see the next change no more, nor would a policy that permits to opt out."""
    chosen = changed(label("enabled"))
    for policy in (POLICY, permitting("optOut")):
        for new, old in [
            (injected(), chosen),
            (chosen, injected()),
            (changed(label("disabled")), injected()),
            (changed(label("disabled")), chosen),
            (changed(both(label("disabled"), own(image="evil"))), injected()),
        ]:
            told = policy.refusals(new, old)
            assert any("label portcullis.dev/inject stays" in one for one in told), told
        assert policy.refusals(changed(label("enabled")), None) == []
        # A pod without a sidecar has none to lose.
        bare = plain(annotations={})
        assert not any("stays" in one for one in policy.refusals(bare, plain(annotations={}, labels={"portcullis.dev/inject": "x"})))


def pods_from_before_are_left_alone():
    """Or no controller could take its finalizer off a pod that was there before the label."""
    old = plain()
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"] = []
    new["metadata"]["labels"]["pod-template-hash"] = "x"
    assert POLICY.refusals(new, old) == []
    new["spec"]["containers"][0]["image"] = "other"
    assert any("needs the portcullis" in one for one in POLICY.refusals(new, old))
    bare = {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    assert POLICY.refusals(copy.deepcopy(bare), bare) == []
    assert len(POLICY.refusals(bare)) == 1


def values_permit_what_they_name():
    for name, change in {
        "optOut": REFUSED["opt-out"][0],
        "hostNetwork": both(spec(hostNetwork=True), without_sidecar),
        "allowAny": both(
            REFUSED["everybody, annotated"][0],
            lambda pod, _: pod["metadata"]["annotations"].pop("portcullis.dev/allow"),
        ),
        "noRevocations": REFUSED["nothing revoked, annotated"][0],
        "stale": REFUSED["stale, annotated"][0],
        "noBypassCheck": REFUSED["no bypass check"][0],
        "shareProcessNamespace": both(REFUSED["shared processes"][0], spec(hostPID=True)),
        "privileged": both(REFUSED["debugging with rights"][0], app(securityContext={"privileged": True})),
    }.items():
        assert POLICY.refusals(changed(change)) != [], name
        told = permitting(name).refusals(changed(change))
        assert told == [], f"{name}: {told}"
    # What an annotation does not say, no value permits.
    assert permitting("allowAny").refusals(changed(REFUSED["everybody"][0])) != []
    assert permitting("noRevocations").refusals(changed(REFUSED["nothing revoked"][0])) != []
    allowed = with_values(policy={"env": {"PORTCULLIS_MAX_STREAMS": "^[0-9]+$"}, "images": ["portcullis:0.0.9"]})
    assert allowed.refusals(changed(both(env("MAX_STREAMS", "9"), own(image="portcullis:0.0.9")))) == []
    assert len(allowed.refusals(changed(env("MAX_STREAMS", "x")))) == 1
    digest = "sha256:" + "a" * 64
    pinned = with_values(image={"repository": "registry.example/portcullis", "digest": digest})
    assert pinned.refusals(changed(own(image=f"registry.example/portcullis@{digest}"))) == []
    assert len(pinned.refusals(injected())) == 1


def redirect_mode_is_pinned_too():
    policy = permitting("redirect", redirectImage="nft:1")
    assert policy.refusals(changed(redirected)) == []
    for spoil in (
        lambda one: one.update(image="evil"),
        lambda one: one.update(args=["demo"]),
        lambda one: one.update(command=["sh"]),
        lambda one: one.update(restartPolicy="Always"),
        lambda one: one["env"][1].update(value="8080\n15020\n15443"),
        lambda one: one["env"].append({"name": "LD_PRELOAD", "value": "x"}),
        lambda one: one.update(name="other"),
        lambda one: one.update(workingDir="/x"),
        lambda one: one.update(volumeDevices=[{"name": "disk", "devicePath": "/dev/x"}]),
        lambda one: one.update(terminationMessagePath="/usr/sbin/nft"),
        # A folder of somebody's over what it runs.
        lambda one: one["volumeMounts"].append({"name": "mine", "mountPath": "/usr/sbin"}),
        lambda one: one["volumeMounts"][0].update(mountPath="/usr/sbin"),
        lambda one: one["volumeMounts"][0].update(subPath="x"),
        lambda one: one["volumeMounts"][0].update(name="mine"),
        lambda one: one.update(volumeMounts=[]),
        lambda one: one["securityContext"].update(privileged=True),
        lambda one: one["securityContext"].update(allowPrivilegeEscalation=True),
        lambda one: one["securityContext"].update(readOnlyRootFilesystem=False),
        lambda one: one["securityContext"].update(runAsUser=65532),
        lambda one: one["securityContext"].update(procMount="Unmasked"),
        lambda one: one["securityContext"]["capabilities"].update(add=["NET_ADMIN", "SYS_ADMIN"]),
        lambda one: one["securityContext"]["capabilities"].update(drop=[]),
        lambda one: one["securityContext"].update(seccompProfile={"type": "Unconfined"}),
        lambda one: one.pop("securityContext"),
    ):
        told = policy.refusals(changed(both(redirected, lambda pod, _: spoil(pod["spec"]["initContainers"][1]))))
        assert any("redirect mode needs" in one for one in told), told
    told = policy.refusals(changed(both(redirected, note("redirect-exclude-ports", "8080"))))
    assert any("no app port may be" in one for one in told), told
    # The program reads 08080 as 8080, and it refuses to exclude where it listens.
    for words in ("9000,08080", "9000,+8080", "9000,15006"):
        named = words.replace(",", "\n") + "\n15020\n15443"
        told = policy.refusals(
            changed(
                both(
                    redirected,
                    note("redirect-exclude-ports", words),
                    lambda pod, _, named=named: pod["spec"]["initContainers"][1]["env"][1].update(value=named),
                )
            )
        )
        assert any("redirect mode needs" in one for one in told), f"{words}: {told}"


def defaults_stand_where_annotations_do_not():
    given = {"certificate": "secret:web-tls", "client-ca": "roots", "revocations": "configmap:revoked"}
    policy = with_values(defaults=given | {"allow": ["dns:a", "dns:b"]}, locked=["client-ca"])
    bare = changed(both(env("ALLOW", "dns:a\ndns:b"), own()))
    for key in ("certificate", "client-ca", "revocations", "allow"):
        del bare["metadata"]["annotations"][f"portcullis.dev/{key}"]
    assert policy.refusals(bare) == []
    assert POLICY.refusals(bare) != []
    assert any("decides about these" in one for one in policy.refusals(changed(note("client-ca", "roots"), bare)))


def whoever_locks_one_way_to_name_clients_locks_both():
    """A pod that sets one of the two drops the default of the other."""
    for locked, set_by_pod in [("allow", "allow-any"), ("allow-any", "allow")]:
        policy = with_values(locked=[locked], policy={"permit": {"allowAny": True}})
        for key in (locked, set_by_pod):
            told = policy.refusals(changed(note(key, "true")))
            assert any("decides about these" in one and key in one for one in told), f"{locked}, {key}: {told}"


def only_annotated_pods_need_it_if_the_values_say_so():
    policy = with_values(policy={"require": "annotated"})
    client = plain(annotations={})
    assert policy.refusals(client) == []
    assert len(policy.refusals(plain())) == 1
    # What the NetworkPolicy opens for sidecars is for nobody else, whether there is a sidecar or not.
    for port in (15443, 15450, 15458):
        serving = plain(annotations={})
        serving["spec"]["containers"][0]["ports"] = [{"containerPort": port}]
        assert any("ports 15443 to 15458" in one for one in policy.refusals(serving)), port
        assert any("ports 15443 to 15458" in one for one in POLICY.refusals(changed(app(ports=[{"containerPort": port}]))))
    serving["spec"]["containers"][0]["ports"] = [{"containerPort": 15442}, {"containerPort": 15459}]
    assert policy.refusals(serving) == []
    # The NetworkPolicy leaves out those that opted out, and cannot guard the node's network.
    for name, change in {"optOut": label("disabled"), "hostNetwork": spec(hostNetwork=True)}.items():
        other = changed(both(change, without_sidecar, app(ports=[{"containerPort": 15443}])))
        assert permitting(name).refusals(other) == [], name
    # A container of that name is always looked at.
    client["spec"]["initContainers"] = [sidecar() | {"image": "evil"}]
    assert any("evil" in one for one in policy.refusals(client))


def bindings_cover_labelled_namespaces_and_pods_and_spare_the_clusters_own():
    spaces, chosen = (
        cluster.find(THINGS, "ValidatingAdmissionPolicyBinding", f"portcullis-{name}")["spec"]["matchResources"]
        for name in ("namespaces", "pods")
    )
    webhooks = cluster.find(THINGS, "MutatingWebhookConfiguration")["webhooks"]
    key = "portcullis.dev/inject"
    for name in ("kube-system", "kube-node-lease", "portcullis"):
        labels = {"kubernetes.io/metadata.name": name, key: "enabled"}
        for one in [spaces, chosen, *webhooks]:
            assert not cluster.selects(one["namespaceSelector"], labels), name
    shop = {"kubernetes.io/metadata.name": "shop", key: "enabled"}
    other = {"kubernetes.io/metadata.name": "other"}
    assert cluster.selects(spaces["namespaceSelector"], shop) and not cluster.selects(spaces["namespaceSelector"], other)
    # The policy asks for no label of the pod: an opt-out is seen.
    assert "objectSelector" not in spaces
    assert [cluster.selects(one["namespaceSelector"], shop) for one in webhooks] == [True, False]
    assert [cluster.selects(one["namespaceSelector"], other) for one in webhooks] == [False, True]
    assert [cluster.selects(one["objectSelector"], {}) for one in webhooks] == [True, False]
    assert [cluster.selects(one["objectSelector"], {key: "disabled"}) for one in webhooks] == [False, False]
    assert [cluster.selects(one["objectSelector"], {key: "enabled"}) for one in webhooks] == [True, True]
    assert cluster.selects(chosen["namespaceSelector"], other) and cluster.selects(chosen["objectSelector"], {key: "enabled"})
    rules = POLICY.spec["matchConstraints"]["resourceRules"]
    assert [(rule["resources"], rule["operations"]) for rule in rules] == [
        (["pods"], ["CREATE", "UPDATE"]),
        (["pods/ephemeralcontainers"], ["UPDATE"]),
    ]


def webhook_conditions_let_pods_of_the_nodes_network_pass():
    (webhook, _) = cluster.find(THINGS, "MutatingWebhookConfiguration")["webhooks"]
    hook = cluster.Policy({"spec": webhook})
    assert hook.concerns(plain())
    assert not hook.concerns(changed(spec(hostNetwork=True)))


if __name__ == "__main__":
    cluster.run(globals())
