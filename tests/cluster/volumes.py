"""Volumes on a node of a test's cluster, where nobody makes them for claims; for `test_kind`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.linux.processes import Completed

CLASS, SIZE = "harness-test", "64Mi"
_FOLDER = "/var/volumes"

Run = Callable[..., Completed]


def make(run: Run, kubectl: Sequence[str], node: str, claims: Sequence[str], file: Path) -> None:
    """One for each of these claims, as NAMESPACE/NAME, of SIZE in the memory of the node.

    `file` is where the manifest is written.
    """
    items: list[dict[str, Any]] = [
        {
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": CLASS},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]  # fmt: skip
    for claim in claims:
        namespace, name = claim.split("/")
        place = f"{_FOLDER}/{name}"
        run("docker", "exec", node, "mkdir", "-p", place)
        size = f"size={SIZE.removesuffix('i')}"
        run("docker", "exec", node, "mount", "-t", "tmpfs", "-o", size, name, place)
        items.append(_volume(namespace, name, node, place))
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    run(*kubectl, "apply", f"--filename={file}")


def fill(run: Run, node: str, name: str) -> None:
    """Leave 4 MB in it, which is less than a backend goes on with."""
    place = f"{_FOLDER}/{name}"
    script = f"fallocate -l $(($(df --output=avail -k {place} | tail -1) - 4096))K {place}/filled"
    run("docker", "exec", node, "sh", "-c", script)


def empty(run: Run, node: str, name: str) -> None:
    """Take away what filled it."""
    run("docker", "exec", node, "rm", f"{_FOLDER}/{name}/filled")


def _volume(namespace: str, name: str, node: str, place: str) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {
            "capacity": {"storage": SIZE},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "claimRef": {"namespace": namespace, "name": name},
            "local": {"path": place},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
