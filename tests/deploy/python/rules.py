"""The chart's rules for a Prometheus that cannot wait: thresholds from standard input, `for` taken out.

Called by `tests/deploy/watched.rs`; prints JSON, which is YAML too. It must never change an expression.
"""

import json
import sys

import cluster

spec = cluster.find(
    cluster.render({"prometheusRule": {"enabled": True, "thresholds": json.load(sys.stdin)}}), "PrometheusRule"
)["spec"]
for group in spec["groups"]:
    for rule in group["rules"]:
        rule.pop("for", None)
print(json.dumps(spec))
