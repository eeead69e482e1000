"""The local target against the real kernel: what it makes, what it undoes, whom it spares."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import cgroup, mount, processes, syscall
from harness.linux.undo_journal import Journal
from harness.node import machine
from harness.node.machine import Local

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups and mounts"),
]

OWNER = """
import sys, time
from pathlib import Path
from harness import shell
from harness.targets import mount
from harness.targets.local import Local

run, journal, point, log = sys.argv[1:]
mount.POINTS = {"tracefs": Path(point)}
target = Local(run, journal=Path(journal))
target.up()
argv = ["sh", "-c", "sleep 600 & sleep 600"]
shell.spawn(argv, log=Path(log), cgroup=target.cgroup("workload/worker"))
while len((target.cgroup("workload/worker") / "cgroup.procs").read_text().split()) < 3:
    time.sleep(0.01)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of this test's own for tracefs, so that nothing else on the machine is disturbed."""
    place = tmp_path / "tracing"
    place.mkdir()
    monkeypatch.setattr(mount, "POINTS", {"tracefs": place})
    yield place
    if mount.is_mounted(place):
        mount.remove(place)


@pytest.fixture
def owner(tmp_path: Path, journal: Path, point: Path) -> Iterator[processes.Process]:
    argv = [sys.executable, "-c", OWNER, _run("owner"), str(journal), str(point)]
    log = tmp_path / "owner.log"
    process = processes.spawn([*argv, str(log)], log=log, pipe_stdout=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n", log.read_text()
        yield process
    finally:
        processes.stop(process, grace_seconds=0)
        machine.clean(journal)


def _run(name: str) -> str:
    return f"test-{os.getpid()}-{name}"


def _alive(pid: int) -> bool:
    """A zombie that an idle init has not reaped yet holds nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _cgroup(run: str) -> Path:
    root = mount.find("cgroup2")
    assert root is not None
    return root / f"harness-{run}"


def test_clean_leaves_nothing_of_an_owner_that_was_killed(
    owner: processes.Process, journal: Path, point: Path
) -> None:
    group = _cgroup(_run("owner"))
    pids = cgroup.processes(group)
    assert len(pids) == 3
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()

    found = " ".join(machine.leftovers(journal))
    assert f"The cgroup {group} is left." in found
    assert f"{point} is still mounted." in found
    assert "(sleep) still runs." in found

    done = " ".join(machine.clean(journal))
    assert f"Removed the cgroup {group}." in done
    assert f"Unmounted {point}." in done
    assert not group.exists()
    assert not mount.is_mounted(point)
    assert not journal.exists()
    assert not any(_alive(pid) for pid in pids)
    assert machine.leftovers(journal) == []
    assert machine.clean(journal) == []


def test_live_owners_are_left_alone(owner: processes.Process, journal: Path, point: Path) -> None:
    assert machine.leftovers(journal) == []
    assert machine.clean(journal) == []
    with Local(_run("other"), journal=journal) as target:
        assert target.cgroup("workload").exists()
    assert len(cgroup.processes(_cgroup(_run("owner")))) == 3
    assert mount.is_mounted(point)


def test_a_run_that_is_being_measured_is_not_started_twice(
    owner: processes.Process, journal: Path, point: Path
) -> None:
    twin = Local(_run("owner"), journal=journal)
    with pytest.raises(NeedError, match=f"is being measured by process {owner.pid}"):
        twin.up()
    twin.down()
    assert len(cgroup.processes(_cgroup(_run("owner")))) == 3
    assert [entry.pid for entry in Journal(journal).entries()] == [owner.pid]


def test_the_next_start_undoes_a_dead_run(
    owner: processes.Process, journal: Path, point: Path
) -> None:
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    with Local(_run("next"), journal=journal):
        assert not _cgroup(_run("owner")).exists()
        assert mount.is_mounted(point)
    assert not mount.is_mounted(point)


def test_the_last_run_unmounts(journal: Path, point: Path) -> None:
    first, second = (Local(_run(name), journal=journal) for name in ("first", "second"))
    first.up()
    second.up()
    first.down()
    assert mount.is_mounted(point)
    second.down()
    assert not mount.is_mounted(point)
    assert not journal.exists()


def test_what_was_mounted_before_stays(journal: Path, point: Path) -> None:
    syscall.mount("tracefs", point)
    with Local(_run("guest"), journal=journal):
        pass
    assert mount.is_mounted(point)


def test_down_kills_and_removes_nested_groups(journal: Path, point: Path, tmp_path: Path) -> None:
    with Local(_run("nested"), journal=journal) as target:
        deep = target.cgroup("workload/pod/container")
        process = processes.spawn(["sleep", "600"], log=tmp_path / "log", cgroup=deep)
        scratch = target.scratch
        assert scratch.is_dir()
    assert process.wait() == -signal.SIGKILL
    assert not _cgroup(_run("nested")).exists()
    assert not scratch.exists()


def test_processes_are_killed_one_by_one_where_the_kernel_has_no_cgroup_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = _cgroup(_run("old"))
    cgroup.create(group / "below")
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "cgroup.kill")
    process = processes.spawn(["sleep", "600"], log=tmp_path / "log", cgroup=group / "below")
    assert cgroup.remove(group) == 1
    assert process.wait() == -signal.SIGKILL


def test_a_full_disk_is_found_before_anything_changes(
    tmp_path: Path, journal: Path, point: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    processes.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)])
    try:
        with pytest.raises(NeedError, match=r"disk under .* is full"):
            Local(_run("full"), small / "run", journal=journal).up()
    finally:
        syscall.unmount(small)
    assert not journal.exists()
    assert not mount.is_mounted(point)
    assert not _cgroup(_run("full")).exists()


def test_a_failed_start_undoes_its_part(
    journal: Path, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(cgroup, "create", refuse)
    with pytest.raises(PermissionError):
        Local(_run("refused"), journal=journal).up()
    assert not mount.is_mounted(point)
    assert not journal.exists()


def test_an_unprivileged_user_is_told_to_use_sudo(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NeedError, match="sudo"):
        Local(_run("user"), journal=journal).up()
    assert not journal.exists()


def test_the_journal_is_on_the_disk_before_the_change(
    journal: Path, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def record(fstype: str, place: Path) -> None:
        (entry,) = Journal(journal).entries()
        seen.extend(entry.mounts)

    monkeypatch.setattr(syscall, "mount", record)
    with Local(_run("order"), journal=journal):
        pass
    assert seen == [str(point)]


def test_facts_are_json_and_true(journal: Path, point: Path) -> None:
    facts = json.loads(json.dumps(Local(_run("facts"), journal=journal).facts()))
    assert facts["kernel"] == os.uname().release
    assert facts["cpus_online"] == os.cpu_count()
    assert facts["memory_bytes"] > 1 << 28
    assert facts["cgroup_mode"] in {"v1", "v2", "hybrid"}
    assert facts["versions"]["python"].startswith("3.")
    assert time.monotonic() > facts["steal_seconds"] / len(facts["cpus_usable"]) >= 0


def test_cgroup_v2_is_mounted_and_unmounted_where_there_is_none(
    journal: Path, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount, "find", lambda fstype: None)
    with Local(_run("own"), journal=journal) as target:
        group = target.cgroup("workload")
        assert group.is_relative_to(journal)
        assert "usage_usec" in (group / "cpu.stat").read_text()
        assert mount.is_mounted(journal / "cgroup2")
    assert not mount.is_mounted(journal / "cgroup2")
    assert not journal.exists()


def test_where_cgroups_may_not_be_made_it_is_a_sentence() -> None:
    with pytest.raises(NeedError, match="--privileged"):
        cgroup.create(Path("/proc/harness"))


def test_only_root_cleans(
    owner: processes.Process, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(NeedError, match="sudo"):
            machine.clean(journal)
