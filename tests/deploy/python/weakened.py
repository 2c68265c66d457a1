"""Changes of an injected pod: those that weaken its sidecar, each with the sentence that refuses it, and those that do not.

Used by `policy.py`. It must never name a weakness without the words of its own refusal.
"""

import copy

from pods import variable


def note(key, value):
    return lambda pod, _: pod["metadata"]["annotations"].update({f"portcullis.dev/{key}": value})


def label(value):
    return lambda pod, _: pod["metadata"]["labels"].update({"portcullis.dev/inject": value})


def env(name, value=None, **other):
    return lambda _, own: variable(own, f"PORTCULLIS_{name}", value, **other)


def own(**fields):
    return lambda _, own: own.update(fields)


def spec(**fields):
    return lambda pod, _: pod["spec"].update(fields)


def app(**fields):
    return lambda pod, _: pod["spec"]["containers"][0].update(fields)


def volume(name, **source):
    def change(pod, _):
        pod["spec"]["volumes"] = [one for one in pod["spec"]["volumes"] if one["name"] != name]
        pod["spec"]["volumes"].append({"name": name} | source)

    return change


def driver(**more):
    """cert-manager's driver, for the Issuer ca."""
    attributes = {"issuer-kind": "Issuer", "issuer-name": "ca"} | more
    named = {f"csi.cert-manager.io/{key}": value for key, value in attributes.items()}
    return {"driver": "csi.cert-manager.io", "volumeAttributes": named}


def rights(*names):
    return app(securityContext={"capabilities": {"add": [*names]}})


def mount(change):
    return lambda _, own: change(own["volumeMounts"][0])


def context(**fields):
    return lambda _, own: own["securityContext"].update(fields)


def both(*changes):
    def change(pod, own):
        for one in changes:
            one(pod, own)

    return change


def redirected(pod, own):
    note("mode", "redirect")(pod, own)
    note("redirect-exclude-ports", "9000")(pod, own)
    env("INBOUND", "0.0.0.0:15443=127.0.0.1:8080\n0.0.0.0:15006=redirect:8080")(pod, own)
    excluded = [("REDIRECT_TO", "15006"), ("EXCLUDE_PORT", "9000\n15020\n15443")]
    redirect = {"name": "portcullis-redirect", "image": "nft:1", "args": ["redirect"]}
    redirect["env"] = [{"name": f"PORTCULLIS_{name}", "value": value} for name, value in excluded]
    redirect["volumeMounts"] = [copy.deepcopy(own["volumeMounts"][-1])]
    redirect["securityContext"] = copy.deepcopy(own["securityContext"])
    redirect["securityContext"] |= {"runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0}
    redirect["securityContext"]["capabilities"] = {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    pod["spec"]["initContainers"].append(redirect)


def without_sidecar(pod, _):
    del pod["spec"]["initContainers"]


def as_app(pod, _):
    pod["spec"]["containers"].append(pod["spec"]["initContainers"].pop())


def without_volume(name):
    def change(pod, own):
        for place in (pod["spec"]["volumes"], own["volumeMounts"]):
            place[:] = [one for one in place if one["name"] != name]

    return change


without_list = without_volume("portcullis-revocations")


def extra_init(**container):
    return lambda pod, _: pod["spec"]["initContainers"].append({"name": "other", "image": "x"} | container)


def ephemeral(**container):
    return spec(ephemeralContainers=[{"name": "debug", "image": "x"} | container])


# A change of the injected pod, and the sentence with which it is refused.
REFUSED = {
    "opt-out": (both(label("disabled"), without_sidecar), "lets no pod opt out"),
    "opt-out beside the sidecar": (label("disabled"), "lets no pod opt out"),
    "no sidecar": (without_sidecar, "needs the portcullis sidecar"),
    "two sidecars": (lambda pod, own: pod["spec"]["initContainers"].append(copy.deepcopy(own)), "needs the portcullis"),
    "host network": (spec(hostNetwork=True), "remove hostNetwork"),
    "sidecar among the apps": (as_app, "only the native sidecar may be named"),
    "an app of its name": (app(name="portcullis"), "only the native sidecar may be named"),
    "set image": (own(image="registry.example/evil:0.1.0"), "registry.example/evil:0.1.0 is not one of those"),
    "another tag": (own(image="portcullis:0.0.9"), "portcullis:0.0.9 is not one of those"),
    "command": (own(command=["/bin/sh"]), "without command"),
    "args": (own(args=["run", "--allow-any"]), "runs with args"),
    "no args": (own(args=[]), "runs with args"),
    "other args": (own(args=["demo"]), "runs with args"),
    "no sidecar's restart policy": (lambda _, own: own.pop("restartPolicy"), "restartPolicy Always"),
    "lifecycle": (own(lifecycle={"preStop": {"exec": {"command": ["/portcullis"]}}}), "without command, lifecycle"),
    "working directory": (own(workingDir="/app"), "without command"),
    "envFrom": (own(envFrom=[{"configMapRef": {"name": "weak"}}]), "has no envFrom"),
    "extra variable": (lambda _, own: variable(own, "LD_PRELOAD", "/x.so"), "not allowed: LD_PRELOAD"),
    "unknown flag": (env("MAX_CONNECTIONS", "1"), "not allowed: PORTCULLIS_MAX_CONNECTIONS"),
    "control": (env("CONTROL", "0.0.0.0:9"), "not allowed: PORTCULLIS_CONTROL"),
    "connect": (env("ALLOW_CONNECT", "true"), "not allowed: PORTCULLIS_ALLOW_CONNECT"),
    "coverage": (env("CRL_COVERAGE", "none"), "not allowed: PORTCULLIS_CRL_COVERAGE"),
    "variable twice": (
        lambda _, own: own["env"].append({"name": "PORTCULLIS_BYPASS_CHECK", "value": "warn"}),
        "each once",
    ),
    "value from elsewhere": (
        env("LOG_FORMAT", valueFrom={"configMapKeyRef": {"name": "weak", "key": "x"}}),
        "value is not allowed: PORTCULLIS_LOG_FORMAT",
    ),
    "another certificate's path": (env("CERT", "/etc/x.pem"), "value is not allowed: PORTCULLIS_CERT"),
    "state elsewhere": (env("STATE_DIR", "/var/run/portcullis/revocations"), "value is not allowed: PORTCULLIS_STATE"),
    "pod's address": (env("POD_IP", "127.0.0.1"), "value is not allowed"),
    "observed elsewhere": (env("OBSERVE", "127.0.0.1:15020"), "value is not allowed: PORTCULLIS_OBSERVE"),
    "not observed": (env("OBSERVE"), "needs PORTCULLIS_OBSERVE"),
    "no memory": (env("STATE_DIR"), "needs PORTCULLIS_OBSERVE, PORTCULLIS_STATE_DIR"),
    "no bypass check for lack of an address": (env("POD_IP"), "PORTCULLIS_POD_IP and"),
    "a variable put in by the kubelet": (env("ALLOW", "$(EVIL)"), "value is not allowed: PORTCULLIS_ALLOW"),
    "another app": (env("INBOUND", "0.0.0.0:15443=10.0.0.1:80"), "PORTCULLIS_INBOUND does not say"),
    "another app port": (env("INBOUND", "0.0.0.0:15443=127.0.0.1:9"), "PORTCULLIS_INBOUND does not say"),
    "one more app port": (
        env("INBOUND", "0.0.0.0:15443=127.0.0.1:8080\n0.0.0.0:15444=127.0.0.1:9"),
        "PORTCULLIS_INBOUND does not say",
    ),
    "another protocol": (env("INBOUND", "0.0.0.0:15443=127.0.0.1:8080,protocol=tcp"), "PORTCULLIS_INBOUND does not"),
    "not listening": (env("INBOUND"), "PORTCULLIS_INBOUND does not say"),
    "everybody of the domain": (env("ALLOW", "uri:spiffe://td/*"), "PORTCULLIS_ALLOW does not say"),
    "one more client": (env("ALLOW", "uri:spiffe://td/ns/shop/*\ndns:evil"), "PORTCULLIS_ALLOW does not say"),
    "everybody": (both(env("ALLOW"), env("ALLOW_ANY", "true")), "lets every client in"),
    "everybody, annotated": (
        both(env("ALLOW"), env("ALLOW_ANY", "true"), note("allow-any", "true")),
        "lets every client in",
    ),
    "nothing revoked": (both(env("REVOCATIONS"), env("NO_REVOCATIONS", "true")), "must know what is revoked"),
    "nothing revoked, annotated": (
        both(env("REVOCATIONS"), env("NO_REVOCATIONS", "true"), note("revocations", "none"), without_list),
        "must know what is revoked",
    ),
    "nothing known": (env("REVOCATIONS"), "must know what is revoked"),
    "stale": (env("STALE", "serve"), "PORTCULLIS_STALE does not say"),
    "stale, annotated": (both(env("STALE", "serve"), note("stale", "serve")), "may be nothing but deny"),
    "stale for a while": (both(env("STALE", "grace=9h"), note("stale", "grace=9h")), "may be nothing but deny"),
    "annotation without effect": (note("max-session-age", "1h"), "PORTCULLIS_MAX_SESSION_AGE does not say"),
    "stale annotation without effect": (note("stale", "serve"), "PORTCULLIS_STALE does not say"),
    "longer sessions": (
        both(note("max-session-age", "1h"), env("MAX_SESSION_AGE", "900h")),
        "PORTCULLIS_MAX_SESSION_AGE does not say",
    ),
    "drain": (env("DRAIN", "900h"), "PORTCULLIS_DRAIN does not say"),
    "silent": (env("LOG_LEVEL", "error"), "PORTCULLIS_LOG_LEVEL does not say"),
    "no bypass check": (both(env("BYPASS_CHECK", "off"), note("bypass-check", "off")), "stays on here"),
    "bypass check only warns": (note("bypass-check", "enforce"), "PORTCULLIS_BYPASS_CHECK does not say"),
    "redirect": (redirected, "redirect is not allowed here"),
    "anchors of every domain": (note("trust-domain", "td"), "PORTCULLIS_CLIENT_CA does not say"),
    "anchors of another domain": (
        env("CLIENT_CA", "evil=/var/run/portcullis/client-ca/ca.crt"),
        "PORTCULLIS_CLIENT_CA does not say",
    ),
    "anchors that came with the own certificate, beside a client-ca": (
        both(
            volume("portcullis-certificate", secret={"secretName": "web-tls"}),
            env("CLIENT_CA", "/var/run/portcullis/certificate/ca.crt"),
        ),
        "PORTCULLIS_CLIENT_CA does not say",
    ),
    "the own certificate as anchor": (
        env("CLIENT_CA", "/var/run/portcullis/client-ca/tls.crt"),
        "PORTCULLIS_CLIENT_CA does not say",
    ),
    "a Secret with a driver's name, that brings its anchors": (
        both(
            note("certificate", "secret:csi-spiffe"),
            note("client-ca", ""),
            without_volume("portcullis-client-ca"),
            volume("portcullis-certificate", secret={"secretName": "csi-spiffe"}),
            env("CLIENT_CA", "/var/run/portcullis/certificate/ca.crt"),
        ),
        "PORTCULLIS_CLIENT_CA does not say",
    ),
    "no certificate": (both(env("CERT"), env("KEY")), "has no certificate"),
    "subPath": (mount(lambda one: one.update(subPath="tls.crt")), "mounts its own volumes"),
    "another volume": (mount(lambda one: one.update(name="cache")), "mounts its own volumes"),
    "another place": (mount(lambda one: one.update(mountPath="/etc/ssl")), "mounts its own volumes"),
    "no list mounted": (
        lambda pod, own: own["volumeMounts"].pop(2),
        "needs its volumes and mounts portcullis-certificate",
    ),
    "no folder in place of the token": (lambda pod, own: own["volumeMounts"].pop(), "portcullis-no-token"),
    "swapped places": (
        mount(lambda one: one.update(mountPath="/var/run/portcullis/revocations")),
        "mounts its own volumes",
    ),
    "a token": (lambda pod, own: own["volumeMounts"][-1].update(name="kube-api-access-abcde"), "mounts its own volumes"),
    "an app that reads the key": (
        app(volumeMounts=[{"name": "portcullis-certificate", "mountPath": "/x"}]),
        "are for it alone",
    ),
    "an init container that writes its state": (
        extra_init(volumeMounts=[{"name": "portcullis-state", "mountPath": "/x"}]),
        "are for it alone",
    ),
    "another list": (volume("portcullis-revocations", configMap={"name": "empty"}), "do not hold what"),
    "a list without entries": (
        volume("portcullis-revocations", configMap={"name": "revoked", "items": [{"key": "a", "path": "a"}]}),
        "do not hold what",
    ),
    "a list on an empty folder": (volume("portcullis-revocations", emptyDir={}), "do not hold what"),
    "other anchors": (volume("portcullis-client-ca", configMap={"name": "mine"}), "do not hold what"),
    "anchors from a Secret": (volume("portcullis-client-ca", secret={"secretName": "web-tls"}), "do not hold what"),
    "another file as anchors": (
        volume("portcullis-client-ca", configMap={"name": "roots", "items": [{"key": "mine", "path": "ca.crt"}]}),
        "keep their names",
    ),
    "another certificate": (volume("portcullis-certificate", secret={"secretName": "other"}), "do not hold what"),
    "a list without a name": (
        both(note("revocations", "configmap:"), volume("portcullis-revocations", emptyDir={})),
        "do not hold what",
    ),
    "a certificate from a Secret without a name": (
        both(note("certificate", "secret:"), volume("portcullis-certificate", emptyDir={})),
        "do not hold what",
    ),
    "a certificate of a signer without a name": (
        both(
            note("certificate", "pod-certificate:"),
            volume("portcullis-certificate", projected={"sources": [{"configMap": {"name": "mine"}}]}),
        ),
        "do not hold what",
    ),
    "a certificate of a driver without a name": (
        both(note("certificate", "csi-spiffe:"), volume("portcullis-certificate", emptyDir={})),
        "do not hold what",
    ),
    "anchors of a Secret without a name": (
        both(
            note("certificate", "secret:"),
            note("client-ca", ""),
            volume("portcullis-certificate", secret={"secretName": ""}),
            volume("portcullis-client-ca", emptyDir={}),
        ),
        "do not hold what",
    ),
    "anchors of a signer without a name": (
        both(
            note("certificate", "pod-certificate:"),
            note("client-ca", ""),
            volume("portcullis-certificate", projected={"sources": [{"podCertificate": {"signerName": ""}}]}),
            volume("portcullis-client-ca", projected={"sources": [{"configMap": {"name": "mine"}}]}),
        ),
        "do not hold what",
    ),
    "another issuer's group": (
        both(
            note("certificate", "cert-manager-csi:ca"),
            volume("portcullis-certificate", csi=driver(**{"issuer-group": "mine.example"})),
        ),
        "do not hold what",
    ),
    "files of a driver under other names": (
        both(
            note("certificate", "cert-manager-csi:ca"),
            volume("portcullis-certificate", csi=driver(**{"certificate-file": "ca.crt"})),
        ),
        "do not hold what",
    ),
    "state of the node": (volume("portcullis-state", hostPath={"path": "/x"}), "do not hold what"),
    "one more volume": (
        lambda pod, _: pod["spec"]["volumes"].append({"name": "portcullis-more", "emptyDir": {}}),
        "do not hold what",
    ),
    "user 0": (context(runAsNonRoot=False), "runs as user 65532"),
    "privileged": (context(privileged=True), "runs as user 65532"),
    "writable root": (context(readOnlyRootFilesystem=False), "runs as user 65532"),
    "capability": (context(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}), "runs as user 65532"),
    "no startup probe": (lambda _, own: own.pop("startupProbe"), "probes ask /readyz"),
    "probe of another": (
        own(readinessProbe={"httpGet": {"path": "/readyz", "port": "metrics", "host": "192.0.2.1"}}),
        "probes ask /readyz",
    ),
    "the app's port named mtls": (
        app(ports=[{"name": "mtls", "containerPort": 8080}]),
        "ports named mtls",
    ),
    "the sidecar's port taken": (app(ports=[{"containerPort": 15443}]), "ports 15443 to 15458 are for"),
    "the metrics' port taken": (app(ports=[{"containerPort": 15020}]), "ports named mtls"),
    "host port": (lambda _, own: own["ports"][0].update(hostPort=443), "ports are mtls"),
    "mtls leads to the app": (lambda _, own: own["ports"][0].update(containerPort=8080), "ports are mtls"),
    "one more port": (lambda _, own: own["ports"].append({"containerPort": 9000}), "ports are mtls"),
    "no port": (lambda _, own: own["ports"].pop(0), "ports are mtls"),
    "a file over its own": (own(terminationMessagePath="/var/run/portcullis/client-ca/ca.crt"), "runs with args"),
    "shared processes": (spec(shareProcessNamespace=True), "remove shareProcessNamespace"),
    "processes of the node": (spec(hostPID=True), "remove shareProcessNamespace and hostPID"),
    "an app with every right": (app(securityContext={"privileged": True}), "no privileged container"),
    "an app that takes the redirect away": (rights("NET_ADMIN"), "no privileged container"),
    "an app with a right in another spelling": (rights("CHOWN", "cap_net_admin"), "no privileged container"),
    "debugging with rights": (
        ephemeral(securityContext={"capabilities": {"add": ["SYS_PTRACE"]}}),
        "no privileged container",
    ),
    "redirecting container": (extra_init(name="portcullis-redirect", args=["redirect"]), "redirect mode needs"),
    "debugging the sidecar": (ephemeral(targetContainerName="portcullis"), "no debugging container"),
    "debugging with its volumes": (
        ephemeral(volumeMounts=[{"name": "portcullis-certificate", "mountPath": "/x"}]),
        "are for it alone",
    ),
}


def two_ports(pod, own):
    note("app-port", "8080, 9090")(pod, own)
    env("INBOUND", "0.0.0.0:15443=127.0.0.1:8080\n0.0.0.0:15444=127.0.0.1:9090")(pod, own)
    own["ports"].append({"name": "mtls-9090", "containerPort": 15444})


ACCEPTED = {
    "as injected": lambda pod, own: None,
    "two ports": two_ports,
    "a protocol": both(note("protocol", "h2c"), env("INBOUND", "0.0.0.0:15443=127.0.0.1:8080,protocol=h2c")),
    "several clients": both(note("allow", "dns:a, dns:b\ndns:c"), env("ALLOW", "dns:a\ndns:b\ndns:c")),
    "trust domain": both(note("trust-domain", "td"), env("CLIENT_CA", "td=/var/run/portcullis/client-ca/ca.crt")),
    "flags": both(note("drain", "9s"), env("DRAIN", "9s"), note("log-level", "debug"), env("LOG_LEVEL", "debug")),
    "enforced": both(note("bypass-check", "enforce"), env("BYPASS_CHECK", "enforce")),
    "other init containers": extra_init(),
    "an app's own metrics": app(ports=[{"name": "metrics", "containerPort": 9000}]),
    "debugging the app": ephemeral(targetContainerName="web"),
    "an app with rights of its own": rights("NET_BIND_SERVICE", "CHOWN"),
    "app probes": env("APP_PROBES", '{"web/readiness":{"httpGet":{"path":"/","port":8080}}}'),
    "a certificate by the kubelet": both(
        note("certificate", "pod-certificate:example.com/pods"),
        volume(
            "portcullis-certificate",
            projected={"sources": [{"podCertificate": {"signerName": "example.com/pods", "keyType": "ED25519"}}]},
        ),
        env("CERT"),
        env("KEY"),
        env("CREDENTIAL_BUNDLE", "/var/run/portcullis/certificate/credential-bundle.pem"),
    ),
    "cert-manager's driver": both(
        note("certificate", "cert-manager-csi:ca"),
        volume("portcullis-certificate", csi=driver()),
    ),
    "a driver's own anchors": both(
        note("certificate", "cert-manager-csi:ca"),
        note("client-ca", ""),
        without_volume("portcullis-client-ca"),
        volume("portcullis-certificate", csi=driver()),
        env("CLIENT_CA", "/var/run/portcullis/certificate/ca.crt"),
    ),
    "a SPIFFE driver": both(
        note("certificate", "csi-spiffe"),
        volume("portcullis-certificate", csi={"driver": "spiffe.csi.cert-manager.io"}),
    ),
}
