"""The proof of concept in a cluster that is there, with a helm and a kubectl of the test's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import NeedError
from harness.targets.kubernetes import condition, helm, node_check, rollout
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from tests.unit.helmed import Told, on_path

CLUSTER = Cluster("shop", "harness")
THERE = Options("existing", context="shop")
OURS = {"app.kubernetes.io/managed-by": "harness"}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(node_check, "require", lambda *_: None)
    return on_path(tmp_path, monkeypatch)


def installed(told: Told) -> dict[str, Any]:
    """The values that the release has."""
    found: dict[str, Any] = json.loads((told.folder / "helm.harness.config").read_text())
    return found


def arguments(values: dict[str, Any]) -> str:
    return " ".join(word for one in values["components"].values() for word in one["args"])


def test_a_release_of_our_name_in_a_namespace_of_somebody_else_is_left_alone(told: Told) -> None:
    told.release("harness")
    role = {"release-namespace": "harness", "release-name": "harness"}
    named = {f"meta.helm.sh/{key}": value for key, value in role.items()}
    told.answers(
        "clusterroles", {"kind": "ClusterRole", "metadata": {"name": "x", "annotations": named}}
    )
    told.answers("namespace", {"metadata": {"name": "harness"}})
    with pytest.raises(NeedError, match="did not make it for this"):
        rollout.down(THERE, print)
    assert (told.helm, told.kubectl) == ([], [])
    told.answers("namespace", {"metadata": {"name": "harness", "labels": OURS}})
    done = rollout.down(THERE, print)
    assert done[0] == "The release was uninstalled."
    assert done[-1] == "The namespace harness was deleted."
    assert told.helm[0][:2] == ["uninstall", "harness"]


def test_an_upgrade_keeps_data_for_as_long_as_was_said_once(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(THERE, dashboards="none", storage="10Gi", retention_hours=720)
    rollout.up(asked, print)
    assert "retention.time=720h" in arguments(installed(told))
    monkeypatch.setattr(rollout.images, "name", lambda: "localhost/node:2")  # a later release
    later = replace(THERE, dashboards="none")
    assert rollout.up(later, print).changed
    assert installed(told)["storage"]["size"] == "10Gi"
    assert "retention.time=720h" in arguments(installed(told))
    assert not rollout.up(later, print).changed
    rollout.up(replace(later, retention_hours=24), print)
    assert "retention.time=24h" in arguments(installed(told))


def test_a_release_of_before_says_by_its_arguments_how_long_it_keeps_data(told: Told) -> None:
    rollout.up(replace(THERE, dashboards="none", retention_hours=720), print)
    values = installed(told)
    del values["retentionHours"]
    (told.folder / "helm.harness.config").write_text(json.dumps(values))
    assert condition.status(THERE)["release"]["retention_hours"] == 720


@pytest.mark.parametrize(
    ("statuses", "good"),
    [
        (["superseded", "deployed", "pending-upgrade"], "2"),
        (["deployed", "failed", "pending-rollback"], "1"),  # the last but one never ran
        (["deployed", "superseded", "failed", "pending-rollback"], "1"),  # nor did this one
        (["superseded", "superseded", "pending-upgrade"], "2"),
    ],
)
def test_a_killed_upgrade_is_settled_by_the_last_revision_that_ran(
    told: Told, monkeypatch: pytest.MonkeyPatch, statuses: list[str], good: str
) -> None:
    waited: list[float] = []
    run = helm.processes.run

    def noted(argv: Any, *, timeout: float, **more: Any) -> Any:
        if "rollback" in argv:
            waited.append(timeout)
        return run(argv, timeout=timeout, **more)

    monkeypatch.setattr(helm.processes, "run", noted)
    told.release("harness", statuses[-1], len(statuses))
    told.history("harness", *statuses)
    helm.settle(CLUSTER)
    (line,) = told.helm
    assert line[:3] == ["rollback", "harness", good]
    assert waited[0] > helm.READY_SECONDS  # it would be killed while it waits, and be pending again
    assert f"--timeout={helm.READY_SECONDS}s" in line


def test_a_killed_upgrade_of_what_never_ran_is_removed(told: Told) -> None:
    told.release("harness", "pending-upgrade", 2)
    told.history("harness", "failed", "pending-upgrade")
    helm.settle(CLUSTER)
    assert [line[:2] for line in told.helm] == [["uninstall", "harness"]]


@pytest.mark.parametrize(
    ("status", "version"), [("pending-install", 1), ("failed", 1), ("uninstalling", 3)]
)
def test_what_is_half_made_or_half_removed_is_removed(
    told: Told, status: str, version: int
) -> None:
    told.release("harness", status, version)
    helm.settle(CLUSTER)
    assert [line[:2] for line in told.helm] == [["uninstall", "harness"]]
