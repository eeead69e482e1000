"""What machines of an inventory still have of ours, as `down --verify` asks each of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.errors import NeedError
from harness.linux import processes
from harness.linux.processes import Completed
from harness.targets.kubernetes.bare import Machines
from harness.targets.kubernetes.chosen import Options
from harness.targets.vm import inventory, noted, remains
from harness.targets.vm.inventory import CONTROL_PLANE, WORKER, Host
from harness.targets.vm.noted import Noted
from harness.targets.vm.remains import Before
from tests.unit.dockered import on_path

HOSTS = (Host("a", CONTROL_PLANE), Host("b", WORKER), Host("load"))
IMAGE = "registry.example/team/harness-node:1"


@dataclass
class Fleet:
    """Machines that run the script here, each in a root of its own; some are away."""

    root: Path
    away: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def connection(self, host: Host) -> Any:
        return _Connection(self, host.name)


@dataclass
class _Connection:
    machines: Fleet
    name: str

    def run(self, *command: str, timeout: float) -> Completed:
        if self.name in self.machines.away:
            raise NeedError(f"{self.name} cannot be reached.", next_step="See that it is up.")
        self.machines.asked.append(self.name)
        *_, script, about = command
        told = {**json.loads(about), "root": str(self.machines.root / self.name)}
        return processes.run([sys.executable, "-c", script, json.dumps(told)], check=False)

    def close(self) -> None:
        pass


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Fleet(tmp_path / "machines")
    monkeypatch.setattr(remains, "_connection", made.connection)
    noted.write("shop", Noted("hosts.ini", HOSTS))
    for each in HOSTS:
        (made.root / each.name).mkdir(parents=True)
    return made


def options(reset: bool = False) -> Options:
    return Options("vm", "shop", machines=Machines(reset=reset))


def quiet(_: str) -> None: ...


def process(root: Path, pid: int, *words: str, programs: Sequence[int] = ()) -> None:
    folder = root / "proc" / str(pid) / "fdinfo"
    folder.mkdir(parents=True)
    (folder.parent / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
    for number in programs:
        (folder / str(number)).write_text(f"pos:\t0\nprog_type:\t8\nprog_id:\t{number}\n")


def test_programs_of_agents_are_asked_of_each_machine_of_the_cluster(machines: Fleet) -> None:
    process(machines.root / "a", 7, "python3", "-m", "harness.agent", "http", programs=[9, 11])
    process(machines.root / "a", 8, "bpftrace", programs=[13])
    machines.away = ("b",)
    first, second = remains.held(options(), quiet)
    assert first == Before(HOSTS[0], (9, 11))
    assert second.unknown.startswith("b cannot be reached.")
    assert machines.asked == ["a"]


def test_machines_that_were_made_and_other_targets_are_not_asked(machines: Fleet) -> None:
    assert remains.held(Options("kind", "shop"), quiet) == []
    noted.write("shop", Noted("inventory.json", HOSTS, maker="containers"))
    assert remains.held(options(), quiet) == []
    assert machines.asked == []


def test_a_machine_that_a_reset_leaves_out_is_not_asked(
    machines: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is gone for good: what cannot be asked would be told as what is left."""
    monkeypatch.setattr(inventory, "names", lambda _: ["a", "load"])
    machines.away = ("b",)
    said: list[str] = []
    before = remains.held(options(reset=True), said.append)
    assert before == [Before(HOSTS[0])]
    assert "b is not in hosts.ini any more: what is left there is not asked" in said
    assert list(remains.left(options(reset=True), before, quiet)) == []
    assert [each.host for each in remains.held(options(), quiet)] == [HOSTS[0], HOSTS[1]]


def test_what_is_left_is_named_and_who_could_not_be_asked(machines: Fleet) -> None:
    place = machines.root / "a"
    process(place, 7, "python3", "-m", "harness.agent", "http")
    for each in ("sys/fs/bpf/harness-http", "sys/fs/cgroup/harness-1", "etc/sysctl.d/90-harness-x"):
        (place / each).mkdir(parents=True)
    machines.away = ("b",)
    before = [Before(HOSTS[0]), Before(HOSTS[1], unknown="It was away.")]
    assert list(remains.left(options(), before, quiet)) == [
        "On a the process 7 runs.",
        "On a /sys/fs/bpf/harness-http is there.",
        "On a the cgroup /sys/fs/cgroup/harness-1 is there.",
        "Which BPF programs b had is not known: It was away.",
        "b could not be asked what is left there: b cannot be reached. See that it is up.",
    ]
    assert "On a /etc/sysctl.d/90-harness-x is there." in remains.left(
        options(reset=True), before, quiet
    )


def test_a_machine_with_nothing_of_ours_has_nothing_to_say(machines: Fleet) -> None:
    process(machines.root / "b", 1, "init")
    assert list(remains.left(options(True), [Before(HOSTS[1])], quiet)) == []


def test_containers_of_our_image_are_named(
    machines: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remains, "_PATIENCE_SECONDS", 0)
    machine = on_path(tmp_path, monkeypatch)
    (machines.root / "b" / "run" / "containerd" / "containerd.sock").mkdir(parents=True)
    machine.put("ctr", f"echo CONTAINER IMAGE RUNTIME; echo 0123456789abcdef {IMAGE} x; echo 1 y z")
    assert list(remains.left(options(), [Before(HOSTS[1])], quiet)) == [
        f"On b the container 0123456789ab of {IMAGE} is there."
    ]
    machine.put("ctr", "echo no containerd >&2; exit 1")
    (said,) = remains.left(options(), [Before(HOSTS[1])], quiet)
    assert "b could not be asked" in said
    assert "no containerd" in said


def test_containers_that_have_ended_are_given_the_time_in_which_they_go(
    machines: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet removes those of pods that are gone, and looks for them now and then."""
    (machines.root / "b" / "run" / "containerd" / "containerd.sock").mkdir(parents=True)
    seen = tmp_path / "seen"
    listed = f"echo CONTAINER IMAGE; [ -e {seen} ] || echo 0123456789abcdef {IMAGE}; touch {seen}"
    on_path(tmp_path, monkeypatch).put("ctr", listed)
    assert list(remains.left(options(), [Before(HOSTS[1])], quiet)) == []
    assert seen.exists()
