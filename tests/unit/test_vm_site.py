"""Playbooks are told who runs them."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.targets.kubernetes.chosen import Options
from harness.targets.vm import ansible, noted, site
from harness.targets.vm.noted import Noted


def test_hosts_are_told_who_is_at_them_and_names_tell_two_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    told: list[Any] = []

    def play(
        playbook: str, inventory: list[Path], variables: Mapping[str, Any], *_: object
    ) -> dict[str, ansible.Counts]:
        told.append((playbook, variables["cluster_owner"]))
        return {}

    monkeypatch.setattr(ansible, "play", play)
    for name in ("one", "two", "one"):
        noted.folder(name).mkdir(parents=True, exist_ok=True)
        site.reset(Options(target="vm", name=name), Noted(str(tmp_path / "hosts"), ()), print)
    who = f"of user {os.getuid()} on {socket.gethostname()}"
    assert told == [("reset.yml", f"harness --name {name} {who}") for name in ("one", "two", "one")]
