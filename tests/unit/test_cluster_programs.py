"""Which BPF programs a cluster's agents held, and which a node kept: as `down --verify` asks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.linux import bpf_programs
from harness.linux.procfs import Procfs
from harness.node import answers
from harness.targets.kubernetes import node_pod, programs
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.programs import Held
from tests.unit.dockered import Machine, on_path

THERE = Options("existing", context="shop")
KUBECTL = """
echo "$*" >> {log}
case "$*" in
*get-contexts*) echo shop;;
*"get pods --selector"*) echo '{{"items": {items}}}';;
*"get pods --field-selector"*) echo '{{"items": [{node}]}}';;
*"get pods"*) echo '{{"items": []}}';;
*"--container=http"*) echo '{{"answer": [7, 9]}}';;
*"--container=flows"*) echo '{{"answer": [9, 11]}}';;
*programs_left*) echo '{{"answer": ["9 (ingress, held by no process: pinned or attached)"]}}';;
*"get namespace"*) echo '{{"metadata": {{"labels": {ours}}}}}';;
*apply*|*delete*) ;;
*) echo refused >&2; exit 1;;
esac
"""
OURS = {"app.kubernetes.io/managed-by": "harness", "harness/purpose": "evaluation"}


def pod(node: str, *containers: str, ready: bool = True) -> dict[str, Any]:
    state = "True" if ready else "False"
    return {
        "metadata": {"name": f"agents-{node}", "labels": {}},
        "spec": {
            "nodeName": node,
            "containers": [{"name": each, "image": "registry/node:1"} for each in containers],
        },
        "status": {"conditions": [{"type": "Ready", "status": state}], "phase": "Running"},
    }


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return on_path(tmp_path, monkeypatch)


def cluster(machine: Machine, log: Path, *agents: dict[str, Any]) -> None:
    words = {"items": json.dumps(agents), "node": json.dumps(pod("x", "node"))}
    machine.put("kubectl", KUBECTL.format(log=log, ours=json.dumps(OURS), **words))


def test_agents_are_asked_in_each_of_their_containers(machine: Machine, tmp_path: Path) -> None:
    cluster(machine, tmp_path / "log", pod("a", "http", "flows"), pod("b", "http", ready=False))
    first, second = programs.held(THERE)
    assert first == Held("a", "registry/node:1", (7, 9, 11))
    assert second.unknown


def test_of_kind_nobody_is_asked() -> None:
    assert programs.held(Options("kind")) == []
    assert list(programs.left(THERE, [], pytest.fail)) == []


def test_what_a_node_kept_is_named_and_so_is_one_that_was_not_asked(
    machine: Machine, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    cluster(machine, log)
    before = [Held("a", "registry/node:1", (7, 9)), Held("b", "registry/node:1", unknown="away")]
    kept, unknown = programs.left(THERE, before, lambda _: None)
    assert kept.startswith("On a the BPF program 9 (ingress, held by no process")
    assert unknown == "Which BPF programs b had is not known: away"
    said = log.read_text()
    assert "python3 -m harness.node programs_left [7, 9]" in said
    assert said.count("delete pod/harness-node-") == 1
    assert "delete namespace/harness-evaluate" in said


def test_programs_of_this_cgroup_are_those_that_its_processes_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid, cgroup in {os.getpid(): "/mine", 7: "/mine", 8: "/mine/below", 9: "/"}.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"0::{cgroup}\n")
    held = {os.getpid(): {3}, 7: {5, 3}, 8: {11}, 9: {13}}
    monkeypatch.setattr(answers, "HOST", Procfs(tmp_path))
    monkeypatch.setattr(bpf_programs, "held", held.get)
    assert answers.programs() == [3, 5]


@pytest.mark.parametrize(("phase", "goes"), [("Failed", True), ("Running", False)])
def test_a_pod_that_ended_by_its_deadline_keeps_no_namespace(
    phase: str, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a `harness` which was killed on another machine, from which nobody removes it."""
    there = {"namespace": {"metadata": {"labels": OURS}}}
    node = {"metadata": {"name": "harness-node-1"}, "status": {"phase": phase}}
    monkeypatch.setattr(Cluster, "get", lambda _, what, __: [there.get(what, node)])
    removed: list[str] = []
    monkeypatch.setattr(node_pod, "remove", lambda _, *what: removed.extend(what))
    node_pod.remove_namespace(Cluster("shop", "harness-evaluate"))
    assert removed == (["namespace/harness-evaluate"] if goes else [])


def test_what_was_left_by_who_was_killed_goes_before_nodes_are_asked(
    machine: Machine, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    cluster(machine, log)
    list(programs.left(THERE, [Held("a", "registry/node:1", (7,))], lambda _: None))
    said = log.read_text()
    assert said.index("get pods,deployments.apps") < said.index("get pods --field-selector")
