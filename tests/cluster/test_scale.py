"""Roll-out and status on a thousand simulated nodes: what `harness` asks of an API server.

Nothing runs behind the nodes, so that hooks are not tried there, and no request proves the stack.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from harness.linux import processes
from tests.cluster import simulated
from tests.cluster.simulated import Simulated

pytestmark = pytest.mark.cluster

NODES = 1000
PAGE = 200  # objects that one answer may hold
SCRIPT = """
import json, platform, resource, sys, time
from pathlib import Path
from harness.targets.kubernetes import condition, helm, namespaces, preflight, values
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
options = Options("existing", kubeconfig=sys.argv[1], context="simulated")
cluster = Cluster("simulated", options.namespace, Path(sys.argv[1]))
def do_up():
    preflight.require(preflight.cluster(cluster, "x86_64"))
    given = values.values(values.stack("simulated"), "localhost/node:1")
    namespaces.make(cluster, "--namespace")
    helm.install(cluster, given)
def do_status():
    found = condition.status(options, prove=False)
    assert found["ready"], found["troubles"]
    assert sum(each["agents_ready"] for each in found["nodes"]) == len(found["nodes"])
begun = time.monotonic()
{"up": do_up, "status": do_status}[sys.argv[2]]()
seconds = time.monotonic() - begun
both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
kib = [resource.getrusage(who).ru_maxrss for who in both]
print(json.dumps({"seconds": seconds, "own_mb": kib[0] / 1024, "child_mb": kib[1] / 1024}))
"""


@pytest.fixture(scope="module")
def many(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    if not os.environ.get("HARNESS_CLUSTER"):
        pytest.skip("`make test-cluster` builds what it needs")
    with simulated.running(tmp_path_factory.mktemp("scale"), NODES) as made:
        yield made


def did(many: Simulated, what: str) -> dict[str, Any]:
    """What it took, and the calls that it made."""
    since = many.audit.stat().st_size
    argv = [sys.executable, "-c", SCRIPT, str(many.kubeconfig), what]
    done = processes.run(argv, env=many.environment, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    calls = many.calls(since, "kubectl", "helm", "Helm")
    told = {**found, "calls": len(calls), "lists": sum(map(_is_list, calls))}
    print(what, {key: round(value, 1) for key, value in told.items()})
    unpaged = [call["requestURI"] for call in calls if _is_list(call) and not _is_paged(call)]
    assert unpaged == []
    return told


def _is_list(call: dict[str, Any]) -> bool:
    return bool(call["verb"] == "list")


def _is_paged(call: dict[str, Any]) -> bool:
    """A list by name is one of one; helm's own are of its few objects."""
    uri = call["requestURI"]
    few = "/secrets?" in uri or "/replicasets" in uri or "fieldSelector=metadata.name" in uri
    return few or "limit=" in uri


def test_a_thousand_nodes_are_rolled_out_to_and_told_of(many: Simulated) -> None:
    up = did(many, "up")
    status = did(many, "status")
    assert status["calls"] <= 3 * NODES / PAGE + 20
    for found in (up, status):
        assert found["own_mb"] < 500
