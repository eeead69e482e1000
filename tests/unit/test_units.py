"""Components as systemd's units: what it is asked for, with a scripted shell in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CommandError, NeedError
from harness.linux import mount, processes
from harness.linux.processes import Completed
from harness.stack import supervisor
from harness.stack.ledger import Running

UNIT = "harness-stack-tempo.service"


@dataclass
class Systemd:
    """What was asked of it, and what it says of a unit."""

    asked: list[list[str]] = field(default_factory=list)
    shown: str = f"MainPID=4711\nControlGroup=/harness_stack.slice/{UNIT}\n"
    refuses: bool = False

    def run(self, argv: Sequence[str], *, check: bool = True, **_: Any) -> Completed:
        self.asked.append(list(argv))
        if self.refuses and check:
            raise CommandError("`systemd-run` failed (1).", "Unit exists already.")
        said = self.shown if argv[:2] == ["systemctl", "show"] else ""
        return Completed(tuple(argv), 0, said, "")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Systemd:
    """A machine with systemd whose cgroups are in `tmp_path / "cgroup"`."""
    scripted = Systemd()
    (tmp_path / "systemd").mkdir()
    monkeypatch.setattr(supervisor, "SYSTEMD", tmp_path / "systemd")
    monkeypatch.setattr(processes, "run", scripted.run)
    monkeypatch.setattr(mount, "find", lambda _: tmp_path / "cgroup")
    return scripted


def _planned(tmp_path: Path) -> Running:
    own, unit = supervisor.address("stack", "tempo")
    log = tmp_path / "logs" / "tempo.log"
    command = ("/cache/tempo", "-config.file=/state/tempo.yaml")
    return Running("tempo", "2.8", 0, str(own), str(log), command, {"A": "b c"}, unit)


def test_a_unit_has_a_slice_of_the_stacks_own(systemd: Systemd, tmp_path: Path) -> None:
    own, unit = supervisor.address("stack", "tempo")
    assert unit == UNIT
    assert own == tmp_path / "cgroup" / "harness_stack.slice" / UNIT
    assert not (tmp_path / "cgroup").exists()
    assert systemd.asked == []


def test_starting_runs_it_as_a_transient_unit(systemd: Systemd, tmp_path: Path) -> None:
    running = supervisor.start("stack", _planned(tmp_path))
    assert (running.pid, Path(running.cgroup).name) == (4711, UNIT)
    run, show = systemd.asked
    assert run[:3] == ["systemd-run", "--quiet", "--collect"]
    assert {f"--unit={UNIT}", "--slice=harness_stack.slice", "--setenv=A=b c"} <= set(run)
    assert f"--property=StandardOutput=append:{tmp_path}/logs/tempo.log" in run
    assert f"--property=StandardError=append:{tmp_path}/logs/tempo.log" in run
    assert "--property=Type=exec" in run
    assert run[run.index("--") + 1 :] == ["/cache/tempo", "-config.file=/state/tempo.yaml"]
    assert show == ["systemctl", "show", "--property=MainPID,ControlGroup", UNIT]


def test_its_cgroup_is_where_systemd_says(systemd: Systemd, tmp_path: Path) -> None:
    systemd.shown = f"MainPID=12\nControlGroup=/machine/outer/{UNIT}\n"
    running = supervisor.start("stack", _planned(tmp_path))
    assert running.cgroup == f"{tmp_path}/cgroup/machine/outer/{UNIT}"


def test_a_unit_that_ended_at_once_keeps_the_planned_cgroup(
    systemd: Systemd, tmp_path: Path
) -> None:
    systemd.shown = "MainPID=0\nControlGroup=\n"
    planned = _planned(tmp_path)
    assert supervisor.start("stack", planned) == planned


def test_what_systemd_refuses_is_an_error(systemd: Systemd, tmp_path: Path) -> None:
    systemd.refuses = True
    with pytest.raises(CommandError, match="exists already"):
        supervisor.start("stack", _planned(tmp_path))


def test_ending_stops_the_unit_and_then_the_slice(systemd: Systemd, tmp_path: Path) -> None:
    running = _planned(tmp_path)
    assert supervisor.end(running) == "was stopped by systemd"
    supervisor.clear("stack", [running])
    assert systemd.asked == [
        ["systemctl", "stop", UNIT], ["systemctl", "stop", "harness_stack.slice"],
    ]  # fmt: skip


def test_only_the_groups_own_cgroup_is_removed(systemd: Systemd, tmp_path: Path) -> None:
    outer = tmp_path / "cgroup" / "machine"
    (outer / UNIT).mkdir(parents=True)
    other = Running("tempo", "2.8", 1, str(outer / UNIT), "/log", (), {}, UNIT)
    supervisor.clear("stack", [other])
    assert outer.exists()


def test_without_systemd_there_is_no_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SYSTEMD", tmp_path / "none")
    monkeypatch.setattr(mount, "find", lambda _: tmp_path)
    assert supervisor.address("stack", "tempo") == (
        tmp_path / "harness" / "stack" / "tempo",
        "",
    )
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(mount, "find", lambda _: None)
    with pytest.raises(NeedError, match="cgroup v2 is not mounted"):
        supervisor.address("stack", "tempo")
