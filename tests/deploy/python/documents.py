"""The commands of the documents that are kubectl's and Helm's: kubectl itself reads them, and the chart takes the values.

Called by `tests/deploy/main.rs`; those of `portcullis` are for `documents.rs`. It must never ask for a cluster: what
kubectl does without one is done, of the rest its words and flags are checked.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cluster
import yaml

PAGES = ["docs/kubernetes.md", "docs/runbook.md", "docs/injection.md"]
KUBECTL = Path(sys.executable).parent / "kubectl"
# Helm's library has no command line: these are the flags that the pages may use.
HELM = {
    "install": {"--namespace", "--create-namespace", "--set", "--set-file", "--values"},
    "upgrade": {"--namespace", "--set", "--set-file", "--values"},
    "template": {"--namespace", "--set", "--values"},
    "uninstall": {"--namespace"},
}


def kubectl(*words, **more):
    return subprocess.run([KUBECTL, *words], capture_output=True, text=True, **more)


def commands(program):
    """Every command of this program, in a block or between backticks, without what is piped into or after it."""
    found = []
    for path in PAGES:
        place = cluster.ROOT / path
        text = place.read_text().replace("\\\n", " ") if place.exists() else ""
        for part in re.split(r"[`\n|]|&(?=\s)", text):
            words = part.strip().removeprefix("$ ")
            if words.startswith(f"{program} ") and len(words.split()) > 2:
                found.append(shlex.split(re.split(r"\s[<>]", words)[0]))
    return found


def kubectl_knows_each_command_with_its_flags():
    found, common = commands("kubectl"), kubectl("options").stdout
    assert len(found) > 10, found
    for _, *words in found:
        plain = [word for word in words if not word.startswith("-")]
        told = kubectl(*plain[: 3 if plain[0] == "create" else 1], "--help")
        assert told.returncode == 0, f"{words}: {told.stderr}"
        for flag in [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]:
            known = re.search(rf"(?<![-\w]){flag}(?![-\w])", told.stdout + common)
            assert known, f"kubectl {' '.join(words)}: no flag {flag}"


def what_kubectl_makes_without_a_cluster_is_what_the_pages_say(folder):
    """Objects from files: each command runs, with files of the names that it gives."""
    pem = cluster_certificate(folder)
    (folder / "tls.pem").write_text(pem)
    (folder / "roots.pem").write_text(pem)
    (folder / "prod.jsonl").write_text("{}\n")
    made = []
    for _, *words in commands("kubectl"):
        if words[0] == "create":
            words = [word for word in words if not re.match("--(dry-run|output)", word)]
            told = kubectl(*words, "--dry-run=client", "--output=yaml", cwd=folder)
            assert told.returncode == 0, f"{words}: {told.stderr}"
            made.append(yaml.safe_load(told.stdout))
    keys = {(one["kind"], one["metadata"]["name"]): sorted(one["data"]) for one in made}
    assert keys[("Secret", "web-tls")] == ["tls.crt", "tls.key"]
    assert keys[("ConfigMap", "portcullis-roots")] == ["ca.crt"]
    assert keys[("ConfigMap", "portcullis-revocations")] == ["prod.jsonl"]
    # The example asks for exactly these.
    example = (cluster.ROOT / "deploy/example/app.yaml").read_text()
    for _, name in keys:
        assert re.search(rf"[: ]{name}\n", example), name


def cluster_certificate(folder):
    made = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x", "-keyout", folder / "tls.key"]
    return subprocess.run(made, capture_output=True, text=True, check=True).stdout


def kustomize_builds_what_the_chart_makes():
    whole = cluster.render()
    watched = cluster.render({name: {"enabled": True} for name in ("podMonitor", "prometheusRule", "dashboard")})
    monitoring = [one for one in watched if one not in whole]
    for path, things, more in [("deploy", whole, [("Namespace", "portcullis")]), ("deploy/monitoring", monitoring, [])]:
        told = kubectl("kustomize", str(cluster.ROOT / path))
        assert told.returncode == 0, told.stderr
        built = {(one["kind"], one["metadata"]["name"]): one for one in yaml.load_all(told.stdout, yaml.CSafeLoader)}
        wanted = {(one["kind"], one["metadata"]["name"]): one for one in things}
        assert built.keys() == wanted.keys() | set(more), built.keys() ^ wanted.keys()
        for name, one in wanted.items():
            one["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "kustomize"
            labels = one.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})
            if labels:
                labels["app.kubernetes.io/managed-by"] = "kustomize"
            assert built[name] == one, name


def helm_takes_each_command_and_the_chart_each_value(folder):
    found = commands("helm")
    assert len(found) >= 4, found
    (folder / "mine.yaml").write_text("{}")
    for _, action, *words in found:
        values, given = {}, dict(zip(words, words[1:]))
        for word in [word for word in words if word.startswith("--")]:
            assert word in HELM[action], f"helm {action}: no flag {word}"
        for flag, text in [pair for pair in zip(words, words[1:]) if pair[0].startswith("--set")]:
            key, _, value = text.partition("=")
            value = PEM if flag == "--set-file" else value.replace("…", "0" * 64)
            *way, last = key.split(".")
            place = values
            for part in way:
                place = place.setdefault(part, {})
            place[last] = value
        assert given["--namespace"] == "portcullis" and words[0] == "portcullis"
        if action != "uninstall":
            assert words[1] == "deploy/chart"
            cluster.render(values)


PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"


def every_value_of_the_chart_that_a_page_names_exists():
    with cluster.Chart.load(cluster.CHART) as chart:
        known = chart.values
    page = (cluster.ROOT / "docs/kubernetes.md").read_text() + (cluster.ROOT / "docs/runbook.md").read_text()
    roots, seen = "|".join(known), 0
    for path in re.findall(rf"[`\s]((?:{roots})(?:\.\w+)+)", page):
        place = known
        for part in path.split("."):
            assert part in place or path in ("certificate.issuerRef",), path
            place = place[part]
        seen += 1
    assert seen > 15, seen


def the_blocks_of_values_are_taken():
    page = (cluster.ROOT / "docs/kubernetes.md").read_text()
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.S)]
    values = [one for one in blocks if isinstance(one, dict)]
    assert len(values) == 1 and len(blocks) == 3
    cluster.render(values[0])


if __name__ == "__main__":
    cluster.run(globals())
