"""Playbooks are told who runs them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import NeedError
from harness.targets.kubernetes.chosen import Options
from harness.targets.vm import ansible, noted, site
from harness.targets.vm.inventory import CONTROL_PLANE, WORKER, Host
from harness.targets.vm.noted import Noted


def test_hosts_are_told_who_is_at_them_and_names_tell_two_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    told: list[Any] = []

    def play(
        playbook: str, inventory: list[Path], variables: Mapping[str, Any], *_: object, **__: object
    ) -> dict[str, ansible.Counts]:
        told.append((playbook, variables["cluster_owner"]))
        return {}

    monkeypatch.setattr(ansible, "play", play)
    for name in ("one", "two", "one"):
        noted.folder(name).mkdir(parents=True, exist_ok=True)
        site.reset(Options(target="vm", name=name), Noted(str(tmp_path / "hosts"), ()), print)
    who = f"of user {os.getuid()} on {socket.gethostname()}"
    assert told == [("reset.yml", f"harness --name {name} {who}") for name in ("one", "two", "one")]


def test_hosts_are_noted_once_they_are_reached_and_a_reset_goes_to_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    hosts = Host("a", CONTROL_PLANE), Host("typo", WORKER)
    noted.write("one", Noted(str(tmp_path / "hosts"), hosts, unreached=("a", "typo")))
    limits: list[Sequence[str]] = []

    def play(*_: object, limit: Sequence[str], alone: Callable[[str], None]) -> Mapping[str, Any]:
        limits.append(limit)
        alone("a")
        now = noted.read("one")  # at once: whoever is killed has done something there
        assert now is not None
        assert now.unreached == ("typo",)
        raise NeedError("typo cannot be reached.")

    monkeypatch.setattr(ansible, "play", play)
    options, now = Options(target="vm", name="one"), noted.read("one")
    assert now is not None
    with pytest.raises(NeedError):
        site.make(options, now, print)
    with pytest.raises(NeedError):
        site.reset(options, replace(now, hosts=hosts[:1]), print)
    assert [list(each) for each in limits] == [[], ["a"]]
