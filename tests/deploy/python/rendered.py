"""The plain YAML for kustomize, compared with what the chart makes; UPDATE=1 writes it anew.

Called by `tests/deploy/main.rs`. It must never write a key: the certificate is cert-manager's.
"""

import os

import cluster
import yaml
from helm_python.chart import Chart

WHOLE = {}
WATCHED = {
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}
SPACE = """# Made of nothing but its name: the namespace of the injector.
apiVersion: v1
kind: Namespace
metadata:
  name: portcullis
  labels:
    app.kubernetes.io/part-of: portcullis
    pod-security.kubernetes.io/enforce: restricted
"""


def text(values, only=".yaml"):
    """What the chart makes, with its comments."""
    with Chart.load(cluster.CHART) as chart:
        files = chart.render(values=values, name="portcullis", namespace="portcullis")
    parts = []
    for name in sorted(files):
        if files[name].strip() and name.endswith(only):
            lines = [line.rstrip() for line in files[name].strip().removeprefix("---").splitlines()]
            parts.append("\n".join(lines).strip())
    return "# Made from deploy/chart by `UPDATE=1 cargo nextest run -p portcullis --test deploy`.\n---\n" + "\n---\n".join(
        parts
    ).replace("managed-by: Helm", "managed-by: kustomize") + "\n"


FILES = {
    "deploy/rendered/namespace.yaml": SPACE,
    "deploy/rendered/portcullis.yaml": text(WHOLE),
    "deploy/monitoring/monitoring.yaml": text(WATCHED, "monitoring.yaml"),
}


def the_files_are_what_the_chart_makes():
    for path, wanted in FILES.items():
        place = cluster.ROOT / path
        if os.environ.get("UPDATE"):
            place.parent.mkdir(exist_ok=True)
            place.write_text(wanted)
        found = place.read_text() if place.exists() else None
        assert found == wanted, f"{path} is not what the chart makes; write it anew with UPDATE=1"


def no_key_is_among_them():
    things = [thing for path in FILES for thing in yaml.safe_load_all((cluster.ROOT / path).read_text())]
    kinds = [thing["kind"] for thing in things]
    assert "Secret" not in kinds and "PRIVATE KEY" not in "".join(FILES.values())
    assert {"Namespace", "Certificate", "Deployment", "ValidatingAdmissionPolicy"} <= set(kinds)
    for thing in things:
        for version in cluster.VERSIONS:
            cluster.validate(thing, version)


def kustomize_finds_each_file_below_its_own_folder():
    for path, resources in [
        ("deploy/kustomization.yaml", ["rendered/namespace.yaml", "rendered/portcullis.yaml"]),
        ("deploy/monitoring/kustomization.yaml", ["monitoring.yaml"]),
    ]:
        place = cluster.ROOT / path
        written = yaml.safe_load(place.read_text())
        assert written["kind"] == "Kustomization" and written["resources"] == resources
        assert all((place.parent / one).is_file() for one in resources)


if __name__ == "__main__":
    cluster.run(globals())
