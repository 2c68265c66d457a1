"""Kubernetes objects, by others' eyes: its own schemas, and a YAML reader that is not ours.

Run by `files.rs`: `objects.py validate VERSION…` reads YAML on standard input and prints one line for each object and
version, `objects.py json` prints all documents as one JSON array. It must never skip an object without a line.
"""

import json
import sys

import kubernetes_validate
import yaml


def objects(documents):
    for document in documents:
        if document and document.get("kind") == "List":
            yield from document["items"]
        elif document:
            yield document


def validate(versions):
    # Only the API groups of Kubernetes itself have schemas there.
    for one in objects(yaml.safe_load_all(sys.stdin)):
        name = one["metadata"].get("name") or one["metadata"]["generateName"]
        if one["apiVersion"].count(".") > 1:
            print(f"foreign {one['kind']} {name}")
            continue
        for version in versions:
            try:
                kubernetes_validate.validate(one, version, strict=True)
                print(f"valid {version} {one['kind']} {name}")
            except kubernetes_validate.ValidationError as error:
                print(f"invalid {version} {one['kind']} {name}: {error.message[:200]}")


if sys.argv[1] == "validate":
    validate(sys.argv[2:])
else:
    json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)
