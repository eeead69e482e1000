"""What the options of `harness calibrate` ask for; nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import targets
from harness.cli import app
from harness.controller import calibrate
from harness.errors import NodeError

HOST = "ssh:host"


class Host:
    """A machine that is reached, and does nothing."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def check(self) -> None:
        self.did.append("check")

    def prepare(self, tell: Callable[[str], None]) -> None:
        self.did.append("prepare")

    def remove(self) -> None:
        self.did.append("remove")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host()
    monkeypatch.setattr(targets, "TARGETS", {"ssh": lambda _: found, "local": lambda _: found})

    def calibrated(path: Path, target: Any, tell: Any) -> dict[str, Any]:
        assert target is found
        assert calibrate.asked_of(path).target == HOST
        found.did.append("calibrate")
        raise NodeError("It is only pretended.")

    monkeypatch.setattr(calibrate, "calibrate", calibrated)
    return found


def run(folder: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["calibrate", "--reports", str(folder), *words])


def test_another_machine_is_calibrated_where_it_is_and_nothing_of_it_stays(
    host: Host, tmp_path: Path
) -> None:
    done = run(tmp_path, "--target", HOST, "--run", "c")
    assert done.exit_code == 2
    assert "It is only pretended." in done.stderr
    assert "calibrate --resume" in done.stderr
    assert host.did == ["check", "prepare", "calibrate", "remove"]


def test_a_calibration_that_goes_on_knows_its_machine(host: Host, tmp_path: Path) -> None:
    run(tmp_path, "--target", HOST, "--run", "c")
    host.did.clear()
    assert "only pretended" in run(tmp_path, "--resume", str(tmp_path / "c")).stderr
    assert "calibrate" in host.did
    host.did.clear()
    done = run(tmp_path, "--resume", str(tmp_path / "c"), "--target", "ssh:other")
    assert (done.exit_code, host.did) == (2, [])
    assert "calibrates ssh:host, not ssh:other" in done.stderr


def test_a_machine_that_is_not_known_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    done = run(tmp_path, "--target", "moon", "--run", "c")
    assert done.exit_code == 2
    assert "There is no target 'moon'" in done.stderr
    assert list(tmp_path.iterdir()) == []
