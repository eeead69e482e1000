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
from harness.errors import HarnessError, InputError, NodeError
from harness.plan.calibration import NOISE

HOST = "ssh:host"


class Host:
    """A machine that is reached, and does nothing."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.begins = True
        self.error: HarnessError = NodeError("It is only pretended.")

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
        if found.begins:
            (path / NOISE).mkdir(exist_ok=True)
        raise found.error

    monkeypatch.setattr(calibrate, "calibrate", calibrated)
    return found


def run(folder: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["calibrate", "--reports", str(folder), *words])


def test_another_machine_is_calibrated_where_it_is_and_nothing_of_it_stays(
    host: Host, tmp_path: Path
) -> None:
    done = run(tmp_path, "--target", HOST, "--run", "c")
    assert done.exit_code == 2
    error, resume = (
        done.stderr.index(each) for each in ("It is only pretended.", "calibrate --resume")
    )
    assert error < resume
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


def test_one_that_was_refused_leaves_no_folder_and_advises_nothing(
    host: Host, tmp_path: Path
) -> None:
    host.begins = False
    done = run(tmp_path, "--target", HOST, "--run", "c")
    assert done.exit_code == 2
    assert done.stderr.count("It is only pretended.") == 1
    assert "--resume" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_there_before_is_kept(host: Host, tmp_path: Path) -> None:
    run(tmp_path, "--target", HOST, "--run", "c")
    (tmp_path / "c" / NOISE).rmdir()
    host.begins = False
    run(tmp_path, "--resume", str(tmp_path / "c"))
    assert (tmp_path / "c" / calibrate.ASKED).exists()


def test_what_would_be_refused_again_is_not_advised(host: Host, tmp_path: Path) -> None:
    host.error = InputError("It cannot go on here.")
    done = run(tmp_path, "--target", HOST, "--run", "c")
    assert "It cannot go on here." in done.stderr
    assert "--resume" not in done.stderr
