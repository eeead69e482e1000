"""The proof of concept in a cluster that is there, with a helm and a kubectl of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.targets.kubernetes import rollout
from harness.targets.kubernetes.chosen import Options
from tests.unit.helmed import Told, on_path

THERE = Options("existing", context="shop")
OURS = {"app.kubernetes.io/managed-by": "harness"}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    return on_path(tmp_path, monkeypatch)


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
