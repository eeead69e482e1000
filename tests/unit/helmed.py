"""A helm and a kubectl of a test's own on PATH, which note what they hear, and their cluster."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from harness.targets.kubernetes import charts, helm, images, node_check, proof

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
NODE = {
    "metadata": {"name": "worker"},
    "status": {
        "nodeInfo": {
            "operatingSystem": "linux", "architecture": ARCHITECTURE, "kernelVersion": "6.1",
        },
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}  # fmt: skip
DEFAULT = {
    "metadata": {
        "name": "fast",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    }
}
_ANY = """
for word; do shift; case "$word" in --kubeconfig=*) ;; *) set -- "$@" "$word";; esac; done
"""
HELM = """
folder=$(dirname "$0")
if [ "$1" = template ]; then
    echo "$@" >>"$0.rendered"
    echo "          command: [/usr/local/bin/agent, flows+guard+http]"
    exit
fi
shift 2
case "$1" in status|history|get) ;; *) echo "$@" >>"$0.done";; esac
case "$1" in
history) cat "$0.$2.history";;
get) cat "$0.$3.manifest" 2>/dev/null || true;;
status)
    [ -e "$0.$2.note" ] || { echo "Error: release: not found" >&2; exit 1; }
    printf '{"info": {"status": "%s", "description": "%s"}, "version": %s, "config": %s}' \\
        "$(cat "$0.$2.status" 2>/dev/null || echo deployed)" \\
        "$(cat "$0.$2.note")" "$(cat "$0.$2.version")" \\
        "$(cat "$0.$2.config" 2>/dev/null || echo null)";;
upgrade)
    if [ -e "$0.$3.fails" ]; then
        cp "$0.$3.fails" "$folder/kubectl.pods"
        [ -e "$0.$3.note" ] || { echo new | tee "$0.$3.note"; echo 1 >"$0.$3.version"
            echo failed >"$0.$3.status"; }
        echo "Error: context deadline exceeded" >&2
        exit 1
    fi
    touch "$0.$3.note"
    for word; do case "$word" in
        --description=*) echo "${word#*=}" >"$0.$3.note";;
        --values=*.json) cp "${word#*=}" "$0.$3.config";;
    esac; done
    echo $(($(cat "$0.$3.version" 2>/dev/null || echo 0) + 1)) >"$0.$3.version";;
uninstall)
    [ ! -e "$0.$2.note" ] || { rm "$0.$2.note"; echo "release \\"$2\\" uninstalled"; };;
esac
"""
KUBECTL = """
made() { sed 's/"metadata": {/&"creationTimestamp": "2026-11-28T10:00:00Z", /' "$1"; }
items() { if [ -e "$0.$1" ]; then cat "$0.$1"; else echo '{"items": []}'; fi; }
case "$*" in
*get-contexts*) echo shop;;
*" version "*) echo '{"serverVersion": {"major": "1", "minor": "34", "gitVersion": "v1.34"}}';;
*can-i*) echo yes;;
*"delete pod "*) echo "$@" >>"$0.done"; rm -f "$0.pods";;
*" get service/"*) ;;
*" get customresourcedefinitions "*) cat "$0.names" 2>/dev/null || true;;
*" get "*) shift 3; items "$(echo "$1" | cut -d, -f1)";;
*)
    echo "$@" >>"$0.done"
    for word; do
        case "$word" in --filename=*)
            cat "${word#*=}" >>"$0.applied"; echo >>"$0.applied"
            case "$(cat "${word#*=}")" in *'"Namespace"'*) made "${word#*=}" >"$0.namespace";;
            *) cp "${word#*=}" "$0.secret";; esac;;
        esac
    done;;
esac
"""


class Told:
    """The two programs: what they answer, and what they were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answers(self, kind: str, *items: Any) -> None:
        """What `kubectl get` says of a kind from now on."""
        (self.folder / f"kubectl.{kind}").write_text(json.dumps({"items": items}))

    def breaks(self, release: str, *pods: Any) -> None:
        """Let a release fail from now on, and these be the pods that there are then."""
        (self.folder / f"helm.{release}.fails").write_text(json.dumps({"items": pods}))

    def release(self, name: str, status: str = "deployed", version: int = 1) -> None:
        """Let there be this release."""
        for key, value in (("note", ""), ("status", status), ("version", version)):
            (self.folder / f"helm.{name}.{key}").write_text(str(value))

    def history(self, name: str, *statuses: str) -> None:
        """What helm says of the revisions of a release."""
        rows = [{"revision": i, "status": each} for i, each in enumerate(statuses, 1)]
        (self.folder / f"helm.{name}.history").write_text(json.dumps(rows))

    @property
    def helm(self) -> list[list[str]]:
        """What helm was told to change, word by word."""
        return self._lines("helm.done")

    @property
    def kubectl(self) -> list[list[str]]:
        return self._lines("kubectl.done")

    @property
    def applied(self) -> list[Any]:
        return [json.loads(" ".join(line)) for line in self._lines("kubectl.applied")]

    def forget(self) -> None:
        for name in ("helm.done", "kubectl.done", "kubectl.applied"):
            (self.folder / name).unlink(missing_ok=True)

    def _lines(self, name: str) -> list[list[str]]:
        file = self.folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """A cluster with one node and a default StorageClass, in which nothing is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in (("helm", HELM), ("kubectl", KUBECTL)):
        (folder / name).write_text(f"#!/bin/sh\n{_ANY}{script}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(images, "name", lambda: "localhost/node:1")
    monkeypatch.setattr(helm, "_LOOK_SECONDS", 0.01)
    for name in ("require", "require_admitted"):
        monkeypatch.setattr(node_check, name, lambda *_: None)
    monkeypatch.setattr(proof, "prove", lambda *_, **__: proof.Proved())
    made = Told(folder)
    made.answers("nodes", NODE)
    made.answers("storageclasses", DEFAULT)
    names = [name for chart in charts.known() for name in chart.statefulsets]
    made.answers("statefulsets", *(statefulset(name) for name in names))
    return made


def statefulset(name: str, ready: int = 2) -> dict[str, Any]:
    metadata = {"name": name}
    return {"metadata": metadata, "spec": {"replicas": 2}, "status": {"readyReplicas": ready}}
