"""Grafana in a roll-out by a real API server: what it takes, what stays, where it is tried.

Pods become ready with nothing in them: no Grafana runs here, and none ran anywhere for these tests.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.linux import processes
from harness.targets.kubernetes import dashboards, external, helm, namespaces, values
from harness.targets.kubernetes.external import External
from harness.targets.kubernetes.kubectl import Cluster
from tests.cluster import programs, simulated
from tests.cluster.simulated import Simulated

pytestmark = pytest.mark.cluster

STACK = values.stack("simulated", grafana=True)
GIVEN = values.values(STACK, "localhost/node:1")
BARE = values.values(values.stack("simulated"), "localhost/node:1")
OWN = External("http://otelcol.telemetry:4318", secret="key")
OTHERS = values.values(external.stack(OWN), "localhost/node:1", of_agents=external.agents(OWN))


@pytest.fixture(scope="module")
def there(
    helm: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Simulated, Cluster]]:
    """Two nodes, and our namespace."""
    for name in ("kubernetes", "etcd", "kwok"):
        if not programs.folder(name).exists():
            pytest.skip(f"{name} is not in the cache: `make test-cluster` builds it")
    with simulated.running(tmp_path_factory.mktemp("simulated"), 2) as running:
        cluster = Cluster("simulated", "harness", running.kubeconfig, running.environment)
        namespaces.make(cluster, "--namespace")
        yield running, cluster


@pytest.fixture(scope="module")
def simulation(there: tuple[Simulated, Cluster]) -> Simulated:
    return there[0]


@pytest.fixture(scope="module")
def cluster(there: tuple[Simulated, Cluster]) -> Cluster:
    return there[1]


@pytest.mark.parametrize(
    "given", [BARE, GIVEN, OTHERS], ids=["without Grafana", "with Grafana", "others' backends"]
)
def test_every_object_is_of_the_form_that_the_api_asks_for(
    simulation: Simulated, cluster: Cluster, tmp_path: Path, given: helm.Values
) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(given))
    argv = ["helm", "template", "harness", str(helm.CHART), "--kube-version=1.34.4"]
    argv += [f"--values={file}", "--namespace=harness"]
    done = processes.run(argv, env=simulation.environment)
    made = tmp_path / "all.yaml"
    made.write_text(done.stdout)
    words = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--output=name"]
    said = cluster.run(*words, f"--filename={made}", check=False)
    assert said.returncode == 0, said.stderr
    names = said.stdout.split()
    assert ("secret/grafana" in names) == (given is GIVEN)
    assert ("deployment.apps/grafana" in names) == (given is GIVEN)
    assert ("deployment.apps/jaeger" in names) == (given is not OTHERS)


def test_it_is_tried_in_a_pod_that_the_api_takes_and_that_is_gone_again(cluster: Cluster) -> None:
    choice = dashboards.tried(cluster, GIVEN["components"]["grafana"])
    assert (choice.taken, choice.asked) == (True, False), choice.why
    assert not cluster.get("pod", dashboards.TRIAL)
    manifest = dashboards.manifest(GIVEN["components"]["grafana"])
    cluster.apply(manifest)  # as of an `up` that was killed
    assert dashboards.tried(cluster, GIVEN["components"]["grafana"]).taken
    assert not cluster.get("pod", dashboards.TRIAL)


def test_a_password_is_made_once_and_goes_with_grafana(cluster: Cluster) -> None:
    helm.install(cluster, GIVEN)
    first = dashboards.password(cluster)
    assert len(first) == 32
    changed = {**GIVEN, "components": {**GIVEN["components"]}}
    changed["components"]["grafana"] = {**GIVEN["components"]["grafana"], "memory": 640}
    helm.install(cluster, changed)
    assert dashboards.password(cluster) == first
    now = helm.state(cluster)
    assert now is not None
    assert (now["version"], "grafana" in now["components"]) == (2, True)
    for kind in ("configmaps", "deployments", "pods"):
        said = json.dumps(cluster.get(kind))
        assert first not in said
        assert base64.b64encode(first.encode()).decode() not in said
    helm.install(cluster, BARE)
    assert not cluster.get("secret", "grafana")
    assert not cluster.get("deployment", "grafana")
    settled = dashboards.settled("", helm.state(cluster), None)
    assert settled is not None
    assert not settled.taken
