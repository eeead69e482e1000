"""A plan over a cluster that is there, with programs of the test's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.targets.kubernetes import chosen, node_mounts, production, rollout, sources
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind, Wanted
from tests.unit.helmed import Told, on_path

KIND = 'case "$1 $2" in "get clusters") cat "$0.made";; "get nodes") echo node;; esac'


@dataclass
class Stage:
    """The programs, and a cluster of kind of three nodes where one was made."""

    told: Told

    def made(self, name: str = "shop", *, ours: bool = True) -> None:
        if ours:
            Kind(name, chosen.home(name)).create(Wanted(name, 3), print)
        (self.told.folder / "kind.made").write_text(f"{name}\n")

    def plan(self, *words: str, target: str = "kind") -> str:
        """What it says; nothing is changed by it."""
        self.told.forget()
        name = ("--name", "shop") if target == "kind" else ()
        done = CliRunner().invoke(app, ["up", "--target", target, *name, *words])
        assert (self.told.helm, self.told.kubectl) == ([], [])
        return " ".join((done.stdout + done.stderr).split())

    def up(self, target: str = "kind", **given: Any) -> None:
        asked = Options(target, "shop", **given)
        up = production.up if asked.profile == "production" else rollout.up
        assert up(asked, print).changed


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    told = on_path(tmp_path, monkeypatch)
    for name, script in (("kind", KIND), ("docker", "echo 29.0")):
        (told.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (told.folder / name).chmod(0o755)
    (told.folder / "kind.made").touch()
    monkeypatch.setattr(node_mounts, "put", lambda _: None)
    monkeypatch.setattr(sources, "load", lambda *_: None)
    return Stage(told)


def test_a_plan_over_a_cluster_that_is_there_says_so_and_what_would_change(stage: Stage) -> None:
    assert "Would make a cluster of 3 nodes, in it the namespace" in stage.plan("--plan")
    stage.made()
    there = "The cluster shop of kind is there, of 3 nodes. Would"
    assert f"{there} make in it the namespace harness" in stage.plan("--plan")
    stage.up(dashboards="none")
    none = ("--dashboards", "none", "--plan")
    assert f"{there} change nothing: the namespace harness" in stage.plan(*none)
    assert f"{there} change what the namespace" in stage.plan("--retention", "720", *none)
    found = json.loads(stage.plan(*none, "--json"))
    assert (found["standing"], len(found["cluster"]["nodes"])) == ("same", 3)


def test_a_plan_refuses_what_up_would_refuse_of_a_cluster_that_is_there(stage: Stage) -> None:
    stage.made()
    assert "--nodes 5 (it was made of 3)" in stage.plan("--nodes", "5", "--plan")


def test_a_plan_over_a_cluster_of_somebody_else_refuses_it(stage: Stage) -> None:
    stage.made(ours=False)
    assert "called shop that `harness` did not make" in stage.plan("--plan")


def test_a_plan_over_an_existing_cluster_says_what_would_change(stage: Stage) -> None:
    none = ("--dashboards", "none", "--plan")
    assert "Would make the namespace harness, from these" in stage.plan(*none, target="existing")
    stage.up("existing", dashboards="none", retention_hours=720)
    said = stage.plan("--plan", target="existing")  # as up, it goes by what the release has
    assert "Would change nothing: the namespace harness has what these images make" in said
    assert "What was not said stays" not in said
    other = stage.plan("--retention", "48", *none, target="existing")
    assert "Would change what the namespace harness has, to what these" in other


def test_a_plan_refuses_the_namespace_that_up_would_refuse(stage: Stage) -> None:
    labels = {"app.kubernetes.io/managed-by": "somebody"}
    stage.told.answers("namespace", {"metadata": {"name": "harness", "labels": labels}})
    for words in ([], ["--profile", "production"]):
        said = stage.plan("--plan", *words, target="existing")
        assert "The namespace harness is there, and `harness` did not make it for this" in said


@pytest.mark.parametrize("profile", ["poc", "production"])
def test_a_plan_is_made_without_an_existing_cluster_and_says_so(stage: Stage, profile: str) -> None:
    words = ("--plan", "--context", "other", "--profile", profile)
    said = stage.plan(*words, target="existing")
    assert "There is no context 'other'" in said
    assert "the cluster can be asked: no" in said
    assert ("Would make" if profile == "poc" else "Would install into") in said


def test_a_plan_of_the_production_profile_says_which_releases_are_there(stage: Stage) -> None:
    words = ("--profile", "production", "--plan")
    assert "Would make a cluster, and install into" in stage.plan(*words)
    stage.made()
    assert "shop of kind is there, of 3 nodes. Would install into" in stage.plan(*words)
    stage.up(profile="production")
    said = stage.plan(*words)
    assert "of 3 nodes. Would change nothing: the namespace harness in it has all of this" in said
    crashes = {"name": "tempo", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    status = {"phase": "Running", "containerStatuses": [crashes]}
    status["conditions"] = [{"type": "Ready", "status": "False"}]
    stage.told.answers("pods", {"metadata": {"name": "tempo-0"}, "spec": {}, "status": status})
    assert "Would install or upgrade in the namespace" in stage.plan(*words)  # all charts, then
    found = json.loads(stage.plan(*words, "--json"))
    assert found["standing"] == "other"
    assert not any(row["is_there"] for row in found["charts"])
    stage.told.answers("pods")
    (stage.told.folder / "helm.tempo.note").write_text("another")
    found = json.loads(stage.plan(*words, "--json"))
    assert [row["release"] for row in found["charts"] if not row["is_there"]] == ["tempo"]
