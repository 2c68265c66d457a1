"""The chart over a matrix of values: linted, rendered, strictly valid for three versions of Kubernetes, and as promised.

Called by `tests/deploy/main.rs`. It must never pass over an object that no schema here knows without naming it.
"""

import base64
import itertools
import subprocess

import cluster
import kubernetes_validate
import yaml
from helm_python import HelmError
from helm_python.chart import Chart

PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
CERTIFICATES = {
    "by an Issuer of its own": {},
    "by a ClusterIssuer": {"issuerRef": {"name": "platform", "kind": "ClusterIssuer", "group": "cert-manager.io"}},
    "a Secret": {"mode": "secret", "secretName": "mine", "caBundle": PEM},
    "a Secret, filled in": {
        "mode": "secret",
        "secretName": "mine",
        "webhookAnnotations": {"cert-manager.io/inject-ca-from-secret": "portcullis/mine"},
    },
    "self-made": {"mode": "self-made"},
}
OTHERS = {
    "as it is": {},
    "all of it": {
        "image": {"repository": "registry.example/portcullis", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "defaults": {
            "client-ca": "roots",
            "trust-domain": "prod",
            "certificate": "secret:portcullis",
            "revocations": "configmap:revoked",
            "allow": ["uri:spiffe://prod/*"],
            "cpu-request": "20m",
        },
        "locked": ["client-ca", "trust-domain"],
        "redirectImage": "registry.example/portcullis-redirect:1",
        "webhook": {
            "replicas": 3,
            "antiAffinity": "hard",
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "matchConditions": [{"name": "not-mine", "expression": "object.metadata.name != 'mine'"}],
            "excludedNamespaces": ["cert-manager"],
        },
        "policy": {"require": "annotated", "images": ["x:1"], "env": {"PORTCULLIS_MAX_STREAMS": "^[0-9]+$"}},
        "networkPolicy": {
            "namespaces": ["shop", "pay"],
            "clientPeers": [{"namespaceSelector": {}}],
            "redirectPorts": [8080],
        },
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True, "annotations": {"folder": "mesh"}},
    },
    "bare": {
        "webhook": {"replicas": 1, "antiAffinity": "none", "podDisruptionBudget": None, "failurePolicy": "Ignore"},
        "policy": {"enabled": False},
        "networkPolicy": {"metricsPeers": []},
    },
}


def matrix():
    for (one, certificate), (other, values) in itertools.product(CERTIFICATES.items(), OTHERS.items()):
        yield f"{one}, {other}", values | {"certificate": certificate}
    for injector in ("policy", "none"):
        yield injector, {"injector": injector} | OTHERS["all of it"]


def every_combination_is_linted_and_valid():
    seen = set()
    for name, values in matrix():
        assert cluster.lint_errors(values) == [], name
        things = cluster.render(values)
        for thing in things:
            seen.add(thing["kind"])
            # MutatingAdmissionPolicy is stable since 1.36, and nothing else here is younger than 1.33.
            young = thing["kind"].startswith("MutatingAdmissionPolicy")
            for version in ["1.36", "1.37"] if young else cluster.VERSIONS:
                cluster.validate(thing, version)
            assert thing["metadata"]["labels"]["app.kubernetes.io/part-of"] == "portcullis", name
        names = [(thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"]) for thing in things]
        assert len(names) == len(set(names)), name
    foreign = set().union(*cluster.FOREIGN.values())
    assert foreign <= seen, foreign - seen
    assert {"Deployment", "Secret", "NetworkPolicy", "MutatingAdmissionPolicy", "PodDisruptionBudget"} <= seen


def strict_validation_notices_a_slip():
    deployment = cluster.find(cluster.render(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullpolicy"] = "Always"
    try:
        cluster.validate(deployment, "1.37")
    except kubernetes_validate.ValidationError:
        return
    raise AssertionError("nothing noticed")


def wrong_values_are_refused_by_name():
    for values, word in [
        ({"webhook": {"replica": 3}}, "replica"),
        ({"injector": "sidecar"}, "injector"),
        ({"defaults": {"revocation": "none"}}, "revocation"),
        ({"defaults": {"revocations": "revoked"}}, "revocations"),
        ({"policy": {"permit": {"everything": True}}}, "everything"),
        ({"policy": {"env": {"LD_PRELOAD": "^x$"}}}, "LD_PRELOAD"),
        ({"policy": {"env": {"PORTCULLIS_MAX_STREAMS": "9"}}}, "PORTCULLIS_MAX_STREAMS"),
        ({"networkPolicy": {"appPorts": 17}}, "appPorts"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"certificate": {"mode": "secret", "caBundle": PEM}}, "certificate.secretName"),
        ({"certificate": {"mode": "secret", "secretName": "mine"}}, "certificate.caBundle"),
    ]:
        try:
            cluster.render(values)
        except HelmError as error:
            assert word in str(error), f"{values}: {error}"
        else:
            raise AssertionError(f"{values} are taken")


def the_webhook_is_as_promised():
    things = cluster.render()
    deployment, budget = cluster.find(things, "Deployment"), cluster.find(things, "PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 2 and budget["spec"]["minAvailable"] == 1
    spec = deployment["spec"]["template"]["spec"]
    assert "podAntiAffinity" in spec["affinity"] and spec["automountServiceAccountToken"] is False
    assert not [thing for thing in things if "Role" in thing["kind"]], "the injector needs no rights"
    (container,) = spec["containers"]
    assert container["args"][0] == "webhook" and "--image=portcullis:0.1.0" in container["args"]
    assert not [mount for mount in container["volumeMounts"] if "subPath" in mount]
    for hook in cluster.find(things, "MutatingWebhookConfiguration")["webhooks"]:
        wanted = {"failurePolicy": "Fail", "timeoutSeconds": 5, "reinvocationPolicy": "IfNeeded", "sideEffects": "None"}
        assert {key: hook[key] for key in wanted} == wanted
        assert hook["admissionReviewVersions"] == ["v1"] and hook["matchConditions"]
        assert hook["rules"][0]["operations"] == ["CREATE"] and hook["rules"][0]["resources"] == ["pods"]
        service = hook["clientConfig"]["service"]
        assert service == {"name": "portcullis-webhook", "namespace": "portcullis", "path": "/mutate", "port": 443}
    service = cluster.find(things, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert cluster.selects({"matchLabels": service["spec"]["selector"]}, labels)
    assert cluster.selects(budget["spec"]["selector"], labels)


def each_certificate_reaches_the_webhook():
    def parts(**values):
        things = cluster.render({"certificate": values})
        hook = cluster.find(things, "MutatingWebhookConfiguration")
        volumes = cluster.find(things, "Deployment")["spec"]["template"]["spec"]["volumes"]
        bundles = {one["clientConfig"].get("caBundle") for one in hook["webhooks"]}
        return things, hook["metadata"].get("annotations", {}), volumes[0]["secret"]["secretName"], bundles

    things, annotations, secret, bundles = parts()
    certificate = cluster.find(things, "Certificate", "portcullis-webhook")
    assert annotations["cert-manager.io/inject-ca-from"] == "portcullis/" + certificate["metadata"]["name"]
    assert secret == certificate["spec"]["secretName"] and bundles == {None}
    assert "portcullis-webhook.portcullis.svc" in certificate["spec"]["dnsNames"]
    assert not [thing for thing in things if thing["kind"] == "Secret"], "no key is rendered"
    _, _, secret, bundles = parts(mode="secret", secretName="mine", caBundle=PEM)
    assert secret == "mine" and bundles == {base64.b64encode(PEM.encode()).decode()}


def a_renewed_certificate_is_of_the_same_authority():
    """The API server trusts an authority: if each certificate signed itself, pods of the old one would be refused."""
    things = cluster.render()
    leaf = cluster.find(things, "Certificate", "portcullis-webhook")["spec"]
    issuer = cluster.find(things, "Issuer", leaf["issuerRef"]["name"])["spec"]
    authority = cluster.find(things, "Certificate", "portcullis-webhook-ca")["spec"]
    assert issuer == {"ca": {"secretName": authority["secretName"]}} and authority["secretName"] != leaf["secretName"]
    assert authority["isCA"] is True and not leaf.get("isCA", False) and len(authority["commonName"]) <= 64
    assert authority["privateKey"]["rotationPolicy"] == "Never" and authority["usages"] == ["cert sign", "crl sign"]
    assert cluster.find(things, "Issuer", authority["issuerRef"]["name"])["spec"] == {"selfSigned": {}}
    platform = cluster.render({"certificate": {"issuerRef": {"name": "platform", "kind": "ClusterIssuer"}}})
    assert cluster.find(platform, "Certificate")["spec"]["issuerRef"]["name"] == "platform"
    assert not [one for one in platform if one["kind"] == "Issuer"]


def a_self_made_certificate_is_good_for_the_webhooks_name(folder):
    things = cluster.render({"certificate": {"mode": "self-made"}})
    files = cluster.find(things, "Secret")["data"]
    (bundle,) = {one["clientConfig"]["caBundle"] for one in cluster.find(things, "MutatingWebhookConfiguration")["webhooks"]}
    assert bundle == files["ca.crt"] and sorted(files) == ["ca.crt", "tls.crt", "tls.key"]
    for name, text in files.items():
        (folder / name).write_bytes(base64.b64decode(text))
    ask = ["openssl", "verify", "-purpose", "sslserver", "-verify_hostname", "portcullis-webhook.portcullis.svc"]
    told = subprocess.run([*ask, "-CAfile", folder / "ca.crt", folder / "tls.crt"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    wrong = [word.replace("portcullis.svc", "other.svc") if isinstance(word, str) else word for word in ask]
    told = subprocess.run([*wrong, "-CAfile", folder / "ca.crt", folder / "tls.crt"], capture_output=True, text=True)
    assert told.returncode != 0
    keys = [
        subprocess.run(["openssl", *words], capture_output=True, text=True, check=True).stdout
        for words in (
            ["x509", "-in", folder / "tls.crt", "-noout", "-pubkey"],
            ["pkey", "-in", folder / "tls.key", "-pubout"],
        )
    ]
    assert keys[0] == keys[1]


def network_policies_open_the_two_ports_alone():
    things = cluster.render({"networkPolicy": {"namespaces": ["shop"], "appPorts": 2}})
    policy = next(one for one in things if one["kind"] == "NetworkPolicy" and one["metadata"]["namespace"] == "shop")
    assert policy["spec"]["podSelector"] == {} and policy["spec"]["policyTypes"] == ["Ingress"]
    clients, scrapers = policy["spec"]["ingress"]
    usual = cluster.render({"networkPolicy": {"namespaces": ["shop"]}})
    (usual,) = [one for one in usual if one["kind"] == "NetworkPolicy" and one["metadata"]["namespace"] == "shop"]
    assert usual["spec"]["ingress"][0] == {"ports": [{"protocol": "TCP", "port": 15443}]}
    assert clients == {"ports": [{"protocol": "TCP", "port": 15443, "endPort": 15444}]}
    assert scrapers["ports"] == [{"protocol": "TCP", "port": 15020}] and scrapers["from"]


def the_monitor_finds_the_port_of_the_sidecar():
    things = cluster.render({"podMonitor": {"enabled": True}})
    monitor = cluster.find(things, "PodMonitor", "portcullis")["spec"]
    assert monitor["namespaceSelector"] == {"any": True} and monitor["podMetricsEndpoints"][0]["port"] == "metrics"
    keep = monitor["podMetricsEndpoints"][0]["relabelings"][0]
    assert keep["action"] == "keep" and keep["regex"] == "portcullis"


def the_notes_warn_of_what_is_open():
    def notes(values):
        with Chart.load(cluster.CHART) as chart:
            return chart.render(values=values, name="portcullis", namespace="portcullis")["portcullis/templates/NOTES.txt"]

    assert "networkPolicy.namespaces is empty" in notes({}) and "policy.enabled" not in notes({})
    bare = notes(OTHERS["bare"])
    assert "policy.enabled is false" in bare and "failurePolicy is Ignore" in bare
    assert "is empty" not in notes({"networkPolicy": {"namespaces": ["shop"]}})


def the_package_holds_what_the_chart_needs():
    with Chart.load(cluster.CHART) as chart:
        names = {one["name"] for one in chart.files + chart.templates}
        assert chart.version == chart.metadata["appVersion"] == cargo_version()
    assert {"files/alerts.yaml", "files/dashboard.json"} <= names


def cargo_version():
    lines = (cluster.ROOT / "Cargo.toml").read_text().splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version = "))


def the_example_is_valid_and_asks_for_what_the_injector_needs():
    things = list(yaml.safe_load_all((cluster.ROOT / "deploy/example/app.yaml").read_text()))
    for thing, version in itertools.product(things, cluster.VERSIONS):
        cluster.validate(thing, version)
    notes = cluster.find(things, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert {"app-port", "allow", "certificate", "revocations"} <= {key.removeprefix("portcullis.dev/") for key in notes}
    assert cluster.find(things, "Service")["spec"]["ports"][0]["targetPort"] == "mtls"
    space = cluster.find(things, "Namespace")["metadata"]["labels"]
    assert space["portcullis.dev/inject"] == "enabled"
    assert space["pod-security.kubernetes.io/enforce"] == "restricted"


if __name__ == "__main__":
    cluster.run(globals())
