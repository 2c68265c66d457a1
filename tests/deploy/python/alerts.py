"""Each alert fires when it should and is silent when it should be, as promtool sees it.

Called by `tests/deploy/main.rs`. Time starts at 0 and a sample comes every 30 s; an alert's annotations are left out of
the comparison, since a real Prometheus fills them in elsewhere. It must never leave an alert without both cases.
"""

import copy
import json
import re
import subprocess

import cluster

POD = {"job": "portcullis", "namespace": "shop", "pod": "web-1"}
WEBHOOK = {"job": "portcullis-webhook", "namespace": "portcullis", "pod": "hook-1"}


def rules(**values):
    things = cluster.render({"prometheusRule": {"enabled": True} | values})
    return cluster.find(things, "PrometheusRule")["spec"]


def series(name, samples, labels=None, **more):
    words = ",".join(f'{key}="{value}"' for key, value in ((labels or POD) | more).items())
    return {"series": f"{name}{{{words}}}", "values": samples}


def buckets(counts):
    return [series("portcullis_cut_seconds_bucket", samples, le=le) for le, samples in counts.items()]


def expiry(at):
    return [series("portcullis_snapshot_expiry_timestamp_seconds", f"{at}x100")]


def known(lists, disabled=0):
    return [
        series("portcullis_snapshot_lists", f"{lists}x100"),
        series("portcullis_snapshot_crls", "0x100"),
        series("portcullis_revocations_disabled", f"{disabled}x100"),
    ]


def denials(denied, permitted):
    return [
        series("portcullis_requests_total", f"0+{denied}x100", verdict="denied", reason="revoked"),
        series("portcullis_requests_total", f"0+{permitted}x100", verdict="permitted", reason="trusted"),
        series("portcullis_handshakes_total", "0+1x100", result="ok"),
        series("portcullis_handshakes_total", "0x100", result="revoked"),
    ]


def refused_handshakes(count):
    return [*denials(0, 0), series("portcullis_handshakes_total", f"0+{count}x100", result="expired")]


def sequences(one, other):
    return [
        series("portcullis_snapshot_sequence", one),
        series("portcullis_snapshot_sequence", other, pod="web-2"),
    ]


def reloads(samples, result="failed"):
    return [series("portcullis_reloads_total", samples, source="revocations", result=result)]


def gauge(name, samples, **more):
    return [series(f"portcullis_{name}", samples, **more)]


SPACE = {"namespace": "shop"}
# For each alert: series, minutes, and the labels with which it fires, or None.
CASES = {
    "PortcullisSnapshotStaleSoon": [
        (expiry(4000), 20, POD),
        (expiry(40000), 20, None),
        (expiry(600), 20, None),
        (expiry(0), 20, None),
        (expiry(5000), 24, None),
    ],
    "PortcullisSnapshotStale": [
        (expiry(600) + known(1), 12, POD),
        (expiry(0) + known(0), 5, POD),
        (expiry(0) + known(0, disabled=1), 5, None),
        (expiry(4000) + known(1), 12, None),
    ],
    "PortcullisSourceFailing": [
        (reloads("0x9 1x90"), 8, SPACE | {"pod": "web-1", "source": "revocations"}),
        (reloads("0x9 1x90"), 20, None),
        (reloads("0+1x100", result="changed"), 8, None),
    ],
    "PortcullisSnapshotHeld": [(gauge("snapshot_held", "1x100"), 3, POD), (gauge("snapshot_held", "0x100"), 3, None)],
    "PortcullisDenialLapsing": [
        (gauge("overlay_lapsing", "2x100"), 3, POD),
        (gauge("overlay_lapsing", "0x100"), 3, None),
    ],
    "PortcullisFleetSplit": [
        (sequences("7x100", "6x100"), 20, SPACE),
        (sequences("7x100", "7x100"), 20, None),
        (sequences("6x9 7x90", "6x19 7x80"), 20, None),
    ],
    "PortcullisDenialBurst": [
        (denials(60, 60), 10, SPACE),
        (refused_handshakes(60), 10, SPACE),
        (denials(15, 60), 10, None),
        (denials(60, 3000), 10, None),
        (denials(0, 3000), 10, None),
    ],
    "PortcullisCutSlow": [
        (buckets({"0.1": "0+1x100", "0.2": "0+1x100", "0.5": "0+9x100", "+Inf": "0+9x100"}), 10, SPACE),
        (buckets({"0.1": "0+9x100", "0.2": "0+9x100", "0.5": "0+9x100", "+Inf": "0+9x100"}), 10, None),
        (buckets({"0.1": "0x100", "+Inf": "0x100"}), 10, None),
    ],
    "PortcullisCertificateExpiring": [
        (gauge("certificate_expiry_timestamp_seconds", "1500x100"), 20, POD),
        (gauge("certificate_expiry_timestamp_seconds", "9000x100"), 20, None),
    ],
    "PortcullisCertificateNotRenewed": [
        (gauge("certificate_expiry_timestamp_seconds", "120000x2600"), 1260, POD),
        (gauge("certificate_expiry_timestamp_seconds", "900000x2600"), 1260, None),
        # Good for a day, and renewed in time; younger than what a renewal may take.
        (gauge("certificate_expiry_timestamp_seconds", "86400x1399 129600x1200"), 1260, None),
        (gauge("certificate_expiry_timestamp_seconds", "3600x100"), 20, None),
    ],
    "PortcullisAppBypassable": [(gauge("app_bypassable", "1x100"), 3, POD), (gauge("app_bypassable", "0x100"), 3, None)],
    "PortcullisRevocationsDisabled": [
        (gauge("revocations_disabled", "1x100"), 20, POD),
        (gauge("revocations_disabled", "1x100"), 10, None),
        (gauge("revocations_disabled", "0x100"), 20, None),
    ],
    "PortcullisPanicked": [
        (gauge("panics_total", "0x5 1x90"), 5, POD),
        (gauge("panics_total", "1x100"), 5, None),
    ],
    "PortcullisSidecarUnseen": [
        ([series("up", "0x100")], 8, POD),
        ([series("up", "1x100")], 8, None),
        ([series("up", "0x100", WEBHOOK)], 8, None),
    ],
    "PortcullisInjectorDown": [
        ([series("up", "0x100", WEBHOOK)], 5, {}),
        ([series("up", "1x100")], 5, {"job": "portcullis-webhook"}),
        ([series("up", "0x100", WEBHOOK), series("up", "1x100", WEBHOOK, pod="hook-2")], 5, None),
    ],
    "PortcullisInjectionsRefused": [
        (
            [series("portcullis_injections_total", "0x5 1x90", WEBHOOK, result="refused", reason="bad_annotation")],
            5,
            {"reason": "bad_annotation"},
        ),
        ([series("portcullis_injections_total", "0+1x90", WEBHOOK, result="injected", reason="injected")], 5, None),
    ],
    "PortcullisInjectorSlow": [
        (
            [
                series("portcullis_injection_seconds_bucket", "0x100", WEBHOOK, le="0.25"),
                series("portcullis_injection_seconds_bucket", "0+1x100", WEBHOOK, le="1"),
                series("portcullis_injection_seconds_bucket", "0+1x100", WEBHOOK, le="+Inf"),
            ],
            20,
            {},
        ),
        (
            [
                series("portcullis_injection_seconds_bucket", "0+1x100", WEBHOOK, le="0.25"),
                series("portcullis_injection_seconds_bucket", "0+1x100", WEBHOOK, le="+Inf"),
            ],
            20,
            None,
        ),
    ],
    "PortcullisInjectorCertificateExpiring": [
        ([series("portcullis_webhook_certificate_expiry_timestamp_seconds", "9000x100", WEBHOOK)], 20, WEBHOOK),
        ([series("portcullis_webhook_certificate_expiry_timestamp_seconds", "900000x100", WEBHOOK)], 20, None),
    ],
}


def every(found):
    return [rule for group in found["groups"] for rule in group["rules"]]


def promtool(*words):
    told = subprocess.run(["promtool", *words], capture_output=True, text=True)
    return told.returncode, told.stdout + told.stderr


def promtool_takes_the_rules(folder):
    (folder / "rules.yaml").write_text(json.dumps(rules()))
    code, told = promtool("check", "rules", "--lint-fatal", str(folder / "rules.yaml"))
    assert code == 0 and f"{len(CASES)} rules found" in told, told


def every_alert_fires_when_it_should_and_not_else(folder):
    bare = copy.deepcopy(rules())
    severities = {}
    for rule in every(bare):
        del rule["annotations"]
        severities[rule["alert"]] = rule["labels"]["severity"]
    assert severities.keys() == CASES.keys(), severities.keys() ^ CASES.keys()
    (folder / "rules.yaml").write_text(json.dumps(bare))
    tests = []
    for alert, cases in CASES.items():
        assert {labels is None for _, _, labels in cases} == {True, False}, f"{alert} lacks a case"
        for given, minutes, labels in cases:
            fires = [] if labels is None else [{"exp_labels": labels | {"severity": severities[alert]}}]
            expected = {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": fires}
            tests.append({"interval": "30s", "input_series": given, "alert_rule_test": [expected]})
    written = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": tests}
    (folder / "tests.yaml").write_text(json.dumps(written))
    code, told = promtool("test", "rules", str(folder / "tests.yaml"))
    assert code == 0, told


def every_alert_has_a_section_in_the_runbook_and_no_section_is_left_over():
    page = (cluster.ROOT / "docs/runbook.md").read_text()
    sections = re.findall(r"^## (Portcullis\w+)\n\n(.+?)(?=^## |\Z)", page, re.M | re.S)
    assert [name for name, _ in sections] == [rule["alert"] for rule in every(rules())]
    for name, text in sections:
        assert "**Means**" in text and "**Look**" in text and "**Do**" in text, name
    for rule in every(rules(runbook="https://wiki.example/runbook")):
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/runbook#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"]


def thresholds_come_from_the_values():
    changed = rules(thresholds={"cutSeconds": 0.05, "denialsPerSecond": 1000000})
    expressions = {rule["alert"]: rule["expr"] for rule in every(changed)}
    assert expressions["PortcullisCutSlow"].endswith("> 0.05"), expressions["PortcullisCutSlow"]
    assert not [one for one in expressions.values() if "@" in one]


def without_a_webhook_none_is_missed():
    things = cluster.render({"injector": "none", "prometheusRule": {"enabled": True}, "podMonitor": {"enabled": True}})
    names = [rule["alert"] for rule in every(cluster.find(things, "PrometheusRule")["spec"])]
    assert len(names) == 14 and "PortcullisInjectorDown" not in names
    assert cluster.find(things, "PodMonitor")["metadata"]["name"] == "portcullis"


if __name__ == "__main__":
    cluster.run(globals())
