"""Emptying cgroups on the real kernel: everything in them ends, and that is waited for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import ComponentError, NeedError
from harness.linux import cgroup, mount, processes
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

# leaves the session of its first process, is nobody's child any more, and goes on
DAEMON = """
import os, signal, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
signal.signal(signal.SIGTERM, signal.{handler})
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cgroup below a parent of the test's own."""
    root = mount.find("cgroup2")
    assert root is not None
    monkeypatch.setattr(cgroup, "PARENT", f"harness-test-{os.getpid()}")
    path = root / cgroup.PARENT / "group"
    cgroup.create(path)
    yield path
    monkeypatch.undo()
    cgroup.remove(path)
    if path.parent.exists():
        path.parent.rmdir()


@pytest.fixture
def daemon(group: Path, tmp_path: Path) -> Callable[[str], int]:
    """Starts one in a cgroup below; the pid of what is left of it."""

    def start(handler: str) -> int:
        cgroup.create(group / "below")
        argv, log = [sys.executable, "-c", DAEMON.format(handler=handler)], tmp_path / "daemon.log"
        process = processes.spawn(argv, log=log, cgroup=group / "below")
        assert process.wait() == 0  # not `ended`, which would kill its session
        assert until(lambda: log.read_text().endswith("\n"))
        pid = int(log.read_text())
        assert cgroup.processes(group / "below") == [pid]
        return pid

    return start


def test_what_left_its_session_is_killed_and_waited_for(
    group: Path, daemon: Callable[[str], int]
) -> None:
    pid = daemon("SIG_IGN")
    pidfd = os.pidfd_open(pid)
    assert cgroup.populated(group)
    assert cgroup.empty(group) == 1
    assert not cgroup.populated(group)
    assert processes._readable(pidfd, 30)  # it ends, whoever its parent is
    os.close(pidfd)
    assert (group / "below").is_dir()
    assert cgroup.empty(group) == 0


def test_processes_are_killed_one_by_one_where_the_kernel_has_no_cgroup_kill(
    group: Path, daemon: Callable[[str], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are forked meanwhile, and whichever of them goes by itself."""

    def none(path: Path, text: str) -> None:
        raise FileNotFoundError(path)

    script = "while :; do sleep 60 & sleep 0.01; done"
    forking = processes.spawn(["sh", "-c", script], log=tmp_path / "log", cgroup=group)
    daemon_pid, found = daemon("SIG_IGN"), cgroup.processes
    monkeypatch.setattr(cgroup, "_write", none)
    monkeypatch.setattr(cgroup, "processes", lambda path: [1 << 22, *found(path)])
    assert cgroup.empty(group) >= 3
    assert not cgroup.populated(group)
    assert found(group) == []
    assert not Path(f"/proc/{daemon_pid}/exe").exists()
    assert forking.wait() == -signal.SIGKILL


def test_what_does_not_end_is_named(
    group: Path, daemon: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = daemon("SIG_DFL")
    monkeypatch.setattr(cgroup, "kill", lambda path: 0)
    with pytest.raises(ComponentError, match=rf"Processes \[{pid}\] in it do not end"):
        cgroup.empty(group, 0.2)
    with pytest.raises(ComponentError, match=rf"Processes \[{pid}\] in it do not end"):
        cgroup.remove(group, timeout_seconds=0.2)


def test_what_listens_to_sigterm_is_not_killed(group: Path, daemon: Callable[[str], int]) -> None:
    daemon("SIG_DFL")
    assert cgroup.terminate(group, 30) == 0
    assert not cgroup.populated(group)


def test_what_does_not_listen_is_killed_after_the_grace(
    group: Path, daemon: Callable[[str], int]
) -> None:
    daemon("SIG_IGN")
    assert cgroup.terminate(group, 0.1) == 1
    assert not cgroup.populated(group)


def test_a_removed_cgroup_takes_the_parent_of_all_with_it_if_it_is_the_last(group: Path) -> None:
    other = group.parent / "other"
    cgroup.create(other)
    cgroup.remove(group)
    assert group.parent.exists()
    cgroup.remove(other)
    assert not group.parent.exists()


def test_what_is_gone_is_empty(group: Path) -> None:
    nothing = group / "nothing"
    assert not cgroup.populated(nothing)
    assert cgroup.empty(nothing) == cgroup.terminate(nothing, 1) == cgroup.remove(nothing) == 0


def test_processes_of_another_pid_namespace_are_no_number_to_kill(tmp_path: Path) -> None:
    """They are listed as 0; kill(0, ...) would end us and our group."""
    (tmp_path / "cgroup.procs").write_text("0\n17\n0\n")
    assert cgroup.processes(tmp_path) == [17]


def test_where_cgroups_may_not_be_made_it_is_a_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for path in (Path("/proc/harness"), blocked / "group"):
        with pytest.raises(NeedError, match="--privileged"):
            cgroup.create(path)


def test_a_sigkill_is_what_the_first_process_dies_of(group: Path, tmp_path: Path) -> None:
    process = processes.spawn(["sleep", "600"], log=tmp_path / "log", cgroup=group)
    assert cgroup.remove(group) == 1
    assert process.wait() == -signal.SIGKILL
