"""Volumes for what components keep: what is asked for, what stays, what is checked before."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import InputError
from harness.targets.kubernetes import chosen, storage, values
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster

CLUSTER = Cluster("kind-shop", "harness")
STACK = values.stack("kind-shop")
RELEASE = {"storage": {"size": "10Gi", "class": "fast"}}


@pytest.mark.parametrize("size", ["10", "10GB", "0Gi", "-1Gi", "1.5Gi", "Gi"])
def test_what_is_no_size_is_refused_before_anything(size: str) -> None:
    with pytest.raises(InputError, match="no size of a volume"):
        chosen.check(Options("kind", storage=size))


def test_a_class_without_a_size_is_refused() -> None:
    with pytest.raises(InputError, match="nothing without --storage"):
        chosen.check(Options("kind", storage_class="fast"))
    chosen.check(Options("kind", storage="10Gi", storage_class="fast"))


def test_a_release_that_has_volumes_keeps_them_unless_others_are_asked_for() -> None:
    assert storage.wanted("", "", RELEASE) == RELEASE["storage"]
    assert storage.wanted("20Gi", "", RELEASE) == {"size": "20Gi", "class": "fast"}
    assert storage.wanted("20Gi", "slow", RELEASE) == {"size": "20Gi", "class": "slow"}
    assert storage.wanted("", "", {"storage": {}}) == {}
    assert storage.wanted("", "", None) == {}


def test_values_say_nothing_of_volumes_unless_asked() -> None:
    assert "storage" not in values.values(STACK, "node", volumes={})
    assert values.values(STACK, "node", volumes=RELEASE["storage"])["storage"]["size"] == "10Gi"


def test_a_release_keeps_data_as_long_as_before_unless_something_else_is_said() -> None:
    assert storage.retention(None, None) == 24
    assert storage.retention(None, {"retention_hours": 0}) == 24
    assert storage.retention(None, {"retention_hours": 720}) == 720
    assert storage.retention(24, {"retention_hours": 720}) == 24


def answering(monkeypatch: pytest.MonkeyPatch, classes: list[dict[str, Any]]) -> None:
    class Yes:
        stdout = "yes\n"

    monkeypatch.setattr(Cluster, "run", lambda *_, **__: Yes)
    monkeypatch.setattr(Cluster, "get", lambda *_: classes)


def met(asked: dict[str, str]) -> list[bool]:
    return [each.ok for each in storage.checks(CLUSTER, asked)]


def test_somebody_must_make_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, [{"metadata": {"name": "fast"}}])
    assert met({}) == []
    assert met({"size": "1Gi", "class": "fast"}) == [True, True]
    assert met({"size": "1Gi", "class": "slow"}) == [True, False]
    assert met({"size": "1Gi", "class": ""}) == [True, False]  # none is the default
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    answering(monkeypatch, [{"metadata": {"name": "fast", "annotations": default}}])
    assert met({"size": "1Gi", "class": ""}) == [True, True]
