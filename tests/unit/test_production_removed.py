"""What `down` takes of the production profile, and what it leaves to whose it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.targets.kubernetes import (
    charts,
    namespaces,
    production,
    removal,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.rollout import RolledOut
from tests.unit.helmed import Told, on_path

RELEASES = [each.release for each in charts.known()]
PRODUCTION = Options("existing", context="shop", profile="production")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    return on_path(tmp_path, monkeypatch)


def up() -> RolledOut:
    return production.up(PRODUCTION, lambda _: None)


def test_down_goes_backwards_and_keeps_the_data(told: Told) -> None:
    up()
    told.forget()
    told.answers("persistentvolumeclaims", {"metadata": {"name": "storage-tempo-0"}})
    done = removal.down(PRODUCTION, lambda _: None)
    assert [line[1] for line in told.helm if line[0] == "uninstall"] == RELEASES[::-1]
    assert "with 1 volume claims" in done[-1]
    assert ["service/monitoring-kubelet", "--namespace=kube-system"] in [
        line[-3:-1] for line in told.kubectl
    ]
    assert not [line for line in told.kubectl if "namespace" in line]


def test_down_takes_the_data_if_it_is_told_to(told: Told) -> None:
    up()
    options = Options("existing", context="shop", profile="production", volumes=True)
    assert "The namespace harness was deleted" in removal.down(options, lambda _: None)[-1]
    assert ["delete", "namespace", "harness", "--wait"] in [line[2:] for line in told.kubectl]


LABELS = {"app.kubernetes.io/managed-by": "harness", namespaces.PURPOSE: namespaces.PRODUCTION}
MADE = {"name": "harness", "labels": LABELS, "creationTimestamp": "2026-11-28T10:00:00Z"}
DEFINED = """
probes.monitoring.coreos.com   2026-11-28T10:00:07Z
rules.monitoring.coreos.com    2026-11-28T10:00:07Z
alerts.monitoring.coreos.com   2026-11-27T23:00:00Z
others.example.org             2026-11-28T10:00:07Z
"""
CRDS = replace(PRODUCTION, crds=True)


@pytest.fixture
def defined(told: Told) -> Told:
    """The namespace is there, and definitions; one of them was there before."""
    told.answers("namespace", {"metadata": MADE})
    (told.folder / "kubectl.names").write_text(DEFINED.lstrip())
    return told


def deleted(told: Told) -> list[str]:
    return [line[-2] for line in told.kubectl if "customresourcedefinition" in line]


def test_definitions_go_only_where_nobody_has_an_object_of_them(defined: Told) -> None:
    rule = {"metadata": {"name": "r", "namespace": "shop"}}
    defined.answers("rules.monitoring.coreos.com", rule)
    done = removal.down(CRDS, lambda _: None)
    assert "Kept: rules.monitoring.coreos.com, of which objects are in shop." in done
    assert deleted(defined) == ["probes.monitoring.coreos.com"]


def test_definitions_that_were_there_before_are_left_to_whose_they_are(defined: Told) -> None:
    removal.down(CRDS, lambda _: None)
    assert deleted(defined) == ["probes.monitoring.coreos.com", "rules.monitoring.coreos.com"]
    assert "alerts" not in " ".join(removal.left(PRODUCTION))
    assert "The definition probes.monitoring.coreos.com is there." in removal.left(PRODUCTION)


@pytest.mark.parametrize("labels", [None, {}, LABELS | {namespaces.PURPOSE: "evaluation"}])
def test_where_nothing_of_ours_was_definitions_are_anothers(defined: Told, labels: Any) -> None:
    there = [{"metadata": {**MADE, "labels": labels}}] if labels is not None else []
    defined.answers("namespace", *there)
    (said,) = removal.down(CRDS, lambda _: None)
    assert said.startswith(
        "Kept: probes.monitoring.coreos.com, rules.monitoring.coreos.com, alerts"
    )
    assert not defined.kubectl
    assert removal.left(CRDS) == []


def test_definitions_that_outlive_their_namespace_are_told(
    defined: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(PRODUCTION, volumes=True)
    said = removal.down(options, lambda _: None)[-1]
    assert said.startswith("Kept: probes.monitoring.coreos.com, rules.monitoring.coreos.com. ")
    assert deleted(defined) == []
    defined.answers("namespace")
    assert "The definition probes.monitoring.coreos.com is there." in removal.left(options)


def test_what_is_left_is_listed(told: Told) -> None:
    up()
    told.answers("persistentvolumeclaims", {"metadata": {"name": "storage-tempo-0"}})
    said = removal.left(PRODUCTION)
    assert "The release tempo is there." in said
    assert "The volume claim storage-tempo-0 is there." in said
    assert "The namespace harness is there." in said
    (told.folder / "kubectl.namespace").unlink()
    for release in RELEASES:
        (told.folder / f"helm.{release}.note").unlink()
    assert removal.left(PRODUCTION) == []
