"""The injector itself between the chart's files: the arguments of its Deployment, the chart's defaults and self-made
certificate, the path of its registration; what it makes passes the chart's policy.

Called by `tests/deploy/injector.rs` with the program's path on standard input. It must never give the program a flag that
the Deployment does not.
"""

import base64
import copy
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import time

import cluster
import jsonpatch
import yaml
from mutation import mutated
from pods import plain

PROGRAM = sys.stdin.read().strip()
HOST = "portcullis-webhook.portcullis.svc"
DEFAULTS = {"client-ca": "roots", "trust-domain": "td", "revocations": "configmap:revoked", "allow": ["dns:a", "dns:b"]}
PERMIT = ["allowAny", "noRevocations", "stale", "noBypassCheck", "redirect"]
VALUES = {
    "certificate": {"mode": "self-made"},
    "defaults": DEFAULTS,
    "locked": ["client-ca"],
    "redirectImage": "nft:1",
    "policy": {"permit": {name: True for name in PERMIT}},
}
THINGS = cluster.render(VALUES)
POLICY = cluster.Policy(cluster.find(THINGS, "ValidatingAdmissionPolicy"))
STRICT = cluster.Policy(cluster.find(cluster.render(VALUES | {"policy": {}}), "ValidatingAdmissionPolicy"))


def pod(**notes):
    given = {"app_port": "8080", "certificate": "secret:web-tls"} | notes
    return plain({f"portcullis.dev/{key.replace('_', '-')}": text for key, text in given.items()})


def probed():
    """Probes of every kind, of the app and of somebody else's sidecar, some not to be touched."""
    one = pod()
    (app,) = one["spec"]["containers"]
    header = {"name": "A", "value": 'b "c" \\ $(d)\n'}
    app["readinessProbe"] = {"httpGet": {"path": "/$(x)/$$", "port": "http", "httpHeaders": [header]}}
    app["livenessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 3, "timeoutSeconds": 2}
    app["startupProbe"] = {"grpc": {"port": 8080, "service": "a.b"}}
    one["spec"]["containers"] += [
        {"name": "other", "image": "x", "readinessProbe": {"httpGet": {"path": "/", "port": "9", "scheme": "HTTPS"}}},
        {"name": "exec", "image": "x", "livenessProbe": {"exec": {"command": ["true"]}}},
        {"name": "elsewhere", "image": "x", "livenessProbe": {"httpGet": {"host": "192.0.2.1", "port": 80}}},
        {"name": "nameless", "image": "x", "livenessProbe": {"httpGet": {"port": "none"}}},
        {"name": "own", "image": "x", "livenessProbe": {"httpGet": {"port": 15020}}},
    ]
    sidecar = {"name": "side", "image": "x", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 7}}}
    one["spec"]["initContainers"] = [{"name": "first", "image": "x"}, sidecar]
    return one


PODS = {
    "defaults": pod(),
    "many ports": pod(app_port="8080,9090,7070", protocol="h2c"),
    "tcp": pod(protocol="tcp"),
    "auto": pod(protocol="auto"),
    "own clients": pod(allow="uri:spiffe://td/a,\n dns:b"),
    "subjects": pod(allow="subject:CN=a,O=b\ndns:c"),
    "any client": pod(allow_any="true"),
    "no list": pod(revocations="none"),
    "flags": pod(max_session_age="1h", drain="9s", stale="grace=1h", log_level="debug", bypass_check="enforce"),
    "off": pod(bypass_check="off", stale="serve"),
    "another domain": pod(trust_domain="other.example"),
    "resources": pod(cpu_limit="1", memory_limit="none", cpu_request="5m", startup_timeout="9s"),
    "by the kubelet": pod(certificate="pod-certificate:example.com/pods"),
    "a SPIFFE driver": pod(certificate="csi-spiffe"),
    "another SPIFFE driver": pod(certificate="csi-spiffe:csi.example.com"),
    "cert-manager's driver": pod(certificate="cert-manager-csi:ca"),
    "a ClusterIssuer": pod(certificate="cert-manager-csi:ClusterIssuer/ca"),
    "redirect": pod(mode="redirect", redirect_exclude_ports="9000, 9001"),
    "redirect everything": pod(mode="redirect", app_port="8080,9090", protocol="tcp"),
    "probes": probed(),
}


class Injector:
    """The program as the Deployment runs it, in this folder instead of its mounts."""

    def __init__(self, folder):
        deployment, secret = cluster.find(THINGS, "Deployment"), cluster.find(THINGS, "Secret")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        for name, text in secret["data"].items():
            (folder / name).write_bytes(base64.b64decode(text))
        for name, text in cluster.find(THINGS, "ConfigMap", "portcullis-webhook-defaults")["data"].items():
            (folder / name).write_text(text)
        arguments = [self.here(one, folder) for one in container["args"]]
        self.process = subprocess.Popen([PROGRAM, *arguments], stdout=(folder / "log").open("w"), stderr=subprocess.STDOUT)
        self.log, self.folder = folder / "log", folder
        self.hook = cluster.find(THINGS, "MutatingWebhookConfiguration")["webhooks"][0]
        self.probes = {kind: container[kind]["httpGet"]["path"] for kind in ("readinessProbe", "livenessProbe")}

    @staticmethod
    def here(argument, folder):
        argument = re.sub("/var/run/portcullis/webhook|/etc/portcullis", str(folder), argument)
        return argument.replace("0.0.0.0:9443", "127.0.0.1:0").replace("0.0.0.0:15020", "127.0.0.1:0")

    def addresses(self):
        """Where it listens and where it is observed, from its log."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            assert self.process.poll() is None, self.log.read_text()
            for line in self.log.read_text().splitlines():
                told = json.loads(line) if line.startswith("{") else {}
                if told.get("event") == "start":
                    return [told[key].rsplit(":", 1) for key in ("listen", "observe")]
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def review(self, one):
        """As the API server asks: by TLS, under the Service's name, trusting the registration's caBundle."""
        trust = ssl.create_default_context(cadata=base64.b64decode(self.hook["clientConfig"]["caBundle"]).decode())
        (address, port), _ = self.addresses()
        request = {"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": one, "dryRun": False}
        request |= {"kind": {"group": "", "version": "v1", "kind": "Pod"}}
        request |= {"resource": {"group": "", "version": "v1", "resource": "pods"}}
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        with trust.wrap_socket(socket.create_connection((address, int(port)), timeout=30), server_hostname=HOST) as wire:
            asked = http.client.HTTPConnection(HOST)
            asked.sock = wire
            path = self.hook["clientConfig"]["service"]["path"]
            asked.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = asked.getresponse()
            assert answer.status == 200, answer.read()
            return json.load(answer)["response"]

    def inject(self, one):
        response = self.review(one)
        assert response["allowed"] is True, response
        patch = json.loads(base64.b64decode(response.get("patch", base64.b64encode(b"[]"))))
        return jsonpatch.apply_patch(one, patch)

    def get(self, path):
        _, (address, port) = self.addresses()
        asked = http.client.HTTPConnection(address, int(port), timeout=30)
        asked.request("GET", path)
        answer = asked.getresponse()
        return answer.status, answer.read().decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def what_the_webhook_makes_passes_the_policy_and_the_schemas(folder):
    with Injector(folder) as injector:
        for name, given in PODS.items():
            made = injector.inject(given)
            assert made["spec"]["initContainers"][0]["name"] == "portcullis", name
            told = POLICY.refusals(cluster.with_token(made))
            assert told == [], f"{name}: {told}"
            cluster.validate(made, "1.37")
            # Without the values that permit it, what weakens is refused.
            weak = name in ("any client", "no list", "flags", "off", "redirect", "redirect everything")
            assert bool(STRICT.refusals(made)) == weak, name


def what_the_chart_locks_and_what_is_wrong_is_refused_by_the_webhook_too(folder):
    with Injector(folder) as injector:
        for given, word in [(pod(client_ca="mine"), "client-ca"), (pod(app_prt="1"), "app-port")]:
            response = injector.review(given)
            assert response["allowed"] is False and word in response["status"]["message"], response


def its_probes_answer_where_the_deployment_asks_and_its_metrics_are_those_of_the_alerts(folder):
    with Injector(folder) as injector:
        injector.inject(pod())
        injector.inject(plain({}))
        for path in injector.probes.values():
            assert injector.get(path)[0] == 200, path
        _, metrics = injector.get("/metrics")
        for wanted in [
            r'portcullis_injections_total\{reason="\w+",result="injected"\} 1\n',
            r'portcullis_injections_total\{reason="no_app_port",result="skipped"\} 1\n',
            r'portcullis_injections_total\{reason="bad_annotation",result="refused"\} 0\n',
            r'portcullis_injection_seconds_bucket\{le="0.25"\} 2\n',
            r'portcullis_injection_seconds_bucket\{le="\+Inf"\} 2\n',
            r"portcullis_webhook_certificate_expiry_timestamp_seconds \d+\n",
        ]:
            assert re.search(wanted, metrics), f"{wanted} is not in\n{metrics}"


def the_mutating_policy_makes_the_same(folder):
    """But for the order, and for what it does not know."""
    values = VALUES | {"injector": "policy"}
    things = cluster.render(values)
    with Injector(folder) as injector:
        for name, given in PODS.items():
            if "redirect" in name or "driver" in name or "Issuer" in name:
                continue
            wanted, made = injector.inject(copy.deepcopy(given)), mutated(given, things)
            for one in (wanted, made):
                sidecar = one["spec"]["initContainers"][0]
                for key in ("env", "volumeMounts", "ports"):
                    sidecar[key].sort(key=lambda each: each["name"])
                one["spec"]["volumes"].sort(key=lambda each: each["name"])
            for one in (wanted, made):
                for variable in one["spec"]["initContainers"][0]["env"]:
                    # An explicit auto is the same as none, $$ as $ where no bracket follows, and JSON has no order.
                    variable["value"] = variable.get("value", "").replace(",protocol=auto", "").replace("$$", "$")
                    if variable["name"] == "PORTCULLIS_APP_PROBES":
                        variable["value"] = json.loads(variable["value"])
            assert made == wanted, f"{name}:\n{yaml.safe_dump(made)}\n{yaml.safe_dump(wanted)}"


def injecting_by_hand_makes_the_same(folder):
    (folder / "defaults.yaml").write_text(cluster.find(THINGS, "ConfigMap", "portcullis-webhook-defaults")["data"]["defaults.yaml"])
    for name, given in PODS.items():
        (folder / "pod.json").write_text(json.dumps(given))
        words = ["inject", "--file", folder / "pod.json", "--image", "portcullis:0.1.0", "--defaults", folder / "defaults.yaml"]
        told = subprocess.run([PROGRAM, *words], capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        told = POLICY.refusals(cluster.with_token(yaml.safe_load(told.stdout)))
        assert told == [], f"{name}: {told}"


def every_golden_pod_of_the_injector_passes():
    """What the injector's own tests say that it makes, of workloads of every kind."""
    permit = {name: True for name in [*PERMIT, "shareProcessNamespace"]}
    pinned = {"images": ["registry.example/portcullis:1"], "permit": permit}
    values = {"redirectImage": "registry.example/portcullis-redirect:1", "policy": pinned}
    policy = cluster.Policy(cluster.find(cluster.render(values), "ValidatingAdmissionPolicy"))
    folder, seen = cluster.ROOT / "crates/injector/tests/golden", 0
    for path in sorted((folder / "expected").glob("*.json")):
        patch = json.loads(path.read_text())["response"].get("patch")
        if patch:
            review = json.loads((folder / "reviews" / path.name).read_text())
            made = jsonpatch.apply_patch(review["request"]["object"], patch)
            assert policy.refusals(made) == [], path.name
            seen += 1
    assert seen > 15, seen


def the_example_is_injected_and_passes(folder):
    example = cluster.ROOT / "deploy/example/app.yaml"
    words = ["inject", "--file", example, "--image", "portcullis:0.1.0"]
    told = subprocess.run([PROGRAM, *words], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    deployment = cluster.find([one for one in yaml.safe_load_all(told.stdout) if one], "Deployment")
    strict = cluster.Policy(cluster.find(cluster.render(), "ValidatingAdmissionPolicy"))
    assert strict.refusals(deployment["spec"]["template"]) == []


if __name__ == "__main__":
    cluster.run(globals())
