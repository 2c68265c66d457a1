"""A real Prometheus that scrapes real sidecars: its alerts, and whether each query finds what it asks for.

Called by `tests/deploy/watched.rs` with JSON on standard input: Prometheus' address and the alerts that must fire, no
more and no fewer. It must never take an empty answer for an answer.
"""

import json
import re
import sys
import time
import urllib.parse
import urllib.request

import cluster
from alerts import every, rules

ASKED = json.load(sys.stdin)
PATIENCE = 60


def ask(path, **parameters):
    url = f"http://{ASKED['prometheus']}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        told = json.load(answer)
    assert told["status"] == "success", told
    return told["data"]


def eventually(what):
    """The first true value, within the deadline; or the last one."""
    ends = time.monotonic() + PATIENCE
    while not (value := what()) and time.monotonic() < ends:
        time.sleep(0.2)
    return value


def firing():
    alerts = [one for one in ask("alerts")["alerts"] if one["state"] == "firing"]
    return sorted(" ".join([one["labels"]["alertname"], one["labels"].get("pod", "")]).strip() for one in alerts)


def the_alerts_fire_that_should_and_no_other():
    wanted = sorted(ASKED["firing"])
    eventually(lambda: firing() == wanted)
    assert firing() == wanted, f"{firing()}, not {wanted}"


def every_alert_tells_what_is_wrong_and_where():
    for alert in ask("alerts")["alerts"]:
        summary = alert["annotations"]["summary"]
        assert summary and "{{" not in summary and "error expanding" not in summary, summary
        for label in ("pod", "namespace", "source"):
            if label in alert["labels"]:
                assert alert["labels"][label] in summary, f"{label} is not in {summary}"


def panels():
    dashboard = json.loads((cluster.CHART / "files/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for note in dashboard["annotations"]["list"]:
        yield note["name"], note["expr"]


def plain(expression):
    """What Grafana would ask."""
    for word, value in [("$__rate_interval", "1m"), ("$namespace", ".*"), ("$pod", ".*")]:
        expression = expression.replace(word, value)
    assert "$" not in expression, expression
    return expression


def every_metric_and_label_of_a_query_is_there():
    asked = [(name, plain(text)) for name, text in panels()] + [(one["alert"], one["expr"]) for one in every(rules())]
    seen = 0
    for name, expression in asked:
        for selector in re.findall(r"\b(?:portcullis_\w+|up)\{[^}]*\}", expression):
            seen += 1
            assert eventually(lambda: ask("query", query=selector)["result"]), f"{name}: nothing has {selector}"
        assert re.search(r"\b(?:portcullis_\w+|up)\{", expression), f"{name} asks for nothing"
    assert seen > 60, seen


def every_panel_shows_something_with_the_labels_that_it_names():
    for name, expression in panels():
        # Panels leave out what is zero; here everything may be.
        shown = plain(expression).removesuffix(" > 0")
        result = eventually(lambda: ask("query", query=shown)["result"])
        assert result, f"{name}: nothing comes of {shown}"
        for label in re.findall(r"\bby \(([^)]*)\)", expression)[-1:]:
            wanted = {one.strip() for one in label.split(",")} - {"le"}
            assert all(wanted <= one["metric"].keys() for one in result), f"{name}: {wanted} in {result[0]}"


def panels_stand_beside_each_other():
    dashboard = json.loads((cluster.CHART / "files/dashboard.json").read_text())
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    wanted = {"Sessions", "Denials by reason", "Cut latency", "Snapshot age", "Sequence across the fleet"}
    kinds = {panel["title"]: panel["type"] for panel in dashboard["panels"]}
    assert wanted <= kinds.keys() and kinds["Cut latency"] == "heatmap"


if __name__ == "__main__":
    cluster.run(globals())
