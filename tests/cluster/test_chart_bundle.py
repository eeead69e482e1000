"""A bundle of the production profile by the real helm, of small charts; docker is a stand-in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import processes
from harness.targets.kubernetes import archive, charts, rendering, sources
from harness.targets.kubernetes.chart_bundle import Given
from tests.unit import charted, dockered
from tests.unit.charted import NAMED
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
    assert made.names == sorted(
        [*others, "registry.example/tempo:2.9", "a.example/watched:1", OWN]
    )
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
