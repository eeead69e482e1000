"""A bundle of the production profile by the real helm, of small charts; docker is a stand-in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import processes
from harness.targets.kubernetes import (
    archive,
    charts,
    node_check,
    production,
    proof,
    rendering,
    sources,
)
from harness.targets.kubernetes.chart_bundle import Given
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from tests.cluster import programs, simulated
from tests.cluster.simulated import Simulated
from tests.unit import charted, dockered
from tests.unit.charted import NAMED, OPERATED
from tests.unit.dockered import OWN, Machine

pytestmark = pytest.mark.cluster

CHOSEN = """apiVersion: v1
kind: Pod
metadata: {name: tempo}
spec:
  containers:
    - name: tempo
      image: {{ printf "%s/tempo:%s" .Values.registry (default "2.9" .Values.tag) | quote }}
---
apiVersion: v1
kind: Pod
metadata: {name: trial, annotations: {helm.sh/hook: test}}
spec: {containers: [{name: trial, image: of/no:use}]}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}
---
apiVersion: v1
kind: Pod
metadata: {name: watched}
spec:
  containers:
    - name: watched
      image: a.example/watched:1
{{- end }}
"""


@pytest.fixture
def machine(helm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The real helm, with nothing in its cache and no way out; docker has our image alone."""
    made = dockered.on_path(tmp_path, monkeypatch)
    (made.folder / "helm").unlink()
    monkeypatch.setenv("PATH", f"{made.folder}:{Path(helm).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HELM_REPOSITORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HELM_CACHE_HOME", str(tmp_path / "cache-home"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    return made


def test_helm_says_which_images_the_charts_run_with_all_values(
    machine: Machine, tmp_path: Path
) -> None:
    charted.archives(tmp_path / "cache", {"tempo": CHOSEN})
    mine = tmp_path / "mine.yaml"
    mine.write_text("registry: registry.example\n")
    file = tmp_path / "production.tar"
    made = sources.bundle(file, print, stays=Given("", (f"tempo={mine}",)))
    others = [name for name in NAMED if "tempo" not in name]
    assert made.names == sorted([*others, "registry.example/tempo:2.9", "a.example/watched:1", OWN])
    found = archive.read(file)
    found.require("production")
    (given,) = found.unpack(tmp_path)
    assert Path(given.partition("=")[2]).read_text() == mine.read_text()
    for chart in filter(lambda each: each.repository, charts.known()):  # as `up` gives it to helm
        place = chart.place(str(tmp_path))
        processes.run(["helm", "template", chart.release, *place, f"--values={mine}"])


def test_a_chart_that_is_nowhere_is_one_sentence(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(NeedError, match=r"cannot be pulled from https://prometheus-community"):
        sources.bundle(tmp_path / "b.tar", print, stays=Given())
    assert not (tmp_path / "b.tar").exists()


def test_our_own_chart_runs_our_image_alone(machine: Machine, tmp_path: Path) -> None:
    ours = charts.known()[-1]
    image = tmp_path / "image.json"
    image.write_text(f'{{"image": "{OWN}"}}')
    assert rendering.images(ours, "", [ours.file, image]) == [OWN]


def test_the_agents_collectors_are_those_of_the_values(machine: Machine, tmp_path: Path) -> None:
    ours, mine = charts.known()[-1], tmp_path / "mine.yaml"
    mine.write_text("agents: {collectors: {guard: null}}\n")
    assert set(rendering.collectors(ours, [ours.file])) == set(node_check.COLLECTORS)
    assert rendering.collectors(ours, [ours.file, mine]) == ["flows", "http"]


def operated() -> str:
    """The chart of the operator, with what the operator would make: nothing operates here."""
    operator = OPERATED.partition("---")[0]
    return "---\n".join([operator, *map(_made, charts.known()[0].statefulsets)])


def _made(name: str) -> str:
    return f"""apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: {name}}}
spec:
  replicas: 2
  serviceName: {name}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: one, image: "quay.io/prometheus/prometheus:v3.9"}}]}}
"""


DEFAULT = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "fast",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "example.org/none",
}


@pytest.fixture
def simulation(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Simulated]:
    """A real API server and its kubectl, two nodes with nothing in them, a default class."""
    for name in ("kubernetes", "etcd", "kwok"):
        if not programs.folder(name).exists():
            pytest.skip(f"{name} is not in the cache: `make test-cluster` builds it")
    (machine.folder / "kubectl").unlink()
    monkeypatch.setenv("PATH", f"{programs.folder('kubernetes')}:{os.environ['PATH']}")
    folder = tmp_path / "simulated"
    folder.mkdir()
    with simulated.running(folder, 2) as running:
        Cluster("simulated", "default", running.kubeconfig).apply(DEFAULT)
        yield running


def test_up_installs_all_of_it_and_pods_ask_for_no_image_that_it_lacks(
    simulation: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "prove", lambda *_, **__: proof.Proved())  # nothing runs in pods
    monkeypatch.setattr(node_check, "require", lambda *_: None)
    folder = charted.archives(tmp_path / "charts", {"kube-prometheus-stack": operated()})
    file = tmp_path / "production.tar"
    made = sources.bundle(file, print, stays=Given(str(folder)))
    assert made.names == sorted([*NAMED, OWN])
    shutil.rmtree(folder)
    options = Options(
        "existing", kubeconfig=str(simulation.kubeconfig), context="simulated",
        profile="production", bundle=file,
    )  # fmt: skip
    assert production.up(options, print).changed
    cluster = Cluster("simulated", options.namespace, simulation.kubeconfig)
    asked = {each["image"] for pod in cluster.get("pods") for each in pod["spec"]["containers"]}
    assert asked
    assert asked <= set(made.names)
    assert not production.up(options, print).changed
    assert production.status(options, prove=False)["ready"]
