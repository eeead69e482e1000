"""The machine against the real kernel: what it makes, what it undoes, whom it spares."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import ComponentError, InputError, NeedError
from harness.linux import cgroup, mount, processes, syscall
from harness.linux.undo_journal import Journal
from harness.node import machine
from harness.node.machine import Machine
from harness.stack import supervisor

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups and mounts"),
]

OWNER = """
import sys, time
from pathlib import Path
from harness.linux import mount, processes
from harness.node.machine import Machine

run, journal, point, log = sys.argv[1:]
mount.POINTS = {"tracefs": Path(point)}
target = Machine(run, journal=Path(journal), alone=False)
target.up()
(target.work / "file").write_text("")
argv = ["sh", "-c", "sleep 600 & sleep 600"]
processes.spawn(argv, log=Path(log), cgroup=target.make("workload/worker"))
while len((target.of("workload/worker") / "cgroup.procs").read_text().split()) < 3:
    time.sleep(0.01)
print('{"ready": true}', flush=True)
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
    process = processes.spawn([*argv, str(log)], log=log)
    try:
        assert processes.announced(process, 60), log.read_text()
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
    return root / "harness" / f"run-{run}"


def test_clean_leaves_nothing_of_an_owner_that_was_killed(
    owner: processes.Process, journal: Path, point: Path
) -> None:
    group = _cgroup(_run("owner"))
    pids = cgroup.processes(group)
    assert len(pids) == 3
    work = Path(Journal(journal).entries()[0].work)
    assert (work / "file").exists()
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()

    found = " ".join(machine.leftovers(journal))
    assert f"The cgroup {group} is left." in found
    assert f"{point} is still mounted." in found
    assert f"The folder {work} is left." in found
    assert "(sleep) still runs." in found

    done = " ".join(machine.clean(journal))
    assert f"Removed the cgroup {group}." in done
    assert f"Unmounted {point}." in done
    assert not group.exists()
    assert not mount.is_mounted(point)
    assert not work.exists()
    assert not journal.exists()
    assert not any(_alive(pid) for pid in pids)
    assert machine.leftovers(journal) == []
    assert machine.clean(journal) == []


def test_live_owners_are_left_alone(owner: processes.Process, journal: Path, point: Path) -> None:
    assert machine.leftovers(journal) == []
    assert machine.clean(journal) == []
    with Machine(_run("other"), journal=journal, alone=False) as target:
        assert target.make("workload").exists()
    assert len(cgroup.processes(_cgroup(_run("owner")))) == 3
    assert mount.is_mounted(point)


def test_a_run_that_is_being_measured_is_not_started_twice(
    owner: processes.Process, journal: Path, point: Path
) -> None:
    twin = Machine(_run("owner"), journal=journal, alone=False)
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
    with Machine(_run("next"), journal=journal):
        assert not _cgroup(_run("owner")).exists()
        assert mount.is_mounted(point)
    assert not mount.is_mounted(point)


def test_the_last_run_unmounts(journal: Path, point: Path) -> None:
    first, second = (
        Machine(_run(name), journal=journal, alone=False) for name in ("first", "second")
    )
    first.up()
    second.up()
    first.down()
    assert mount.is_mounted(point)
    second.down()
    assert not mount.is_mounted(point)
    assert not journal.exists()


def test_what_was_mounted_before_stays(journal: Path, point: Path) -> None:
    syscall.mount("tracefs", point)
    with Machine(_run("guest"), journal=journal):
        pass
    assert mount.is_mounted(point)


def test_down_kills_and_removes_nested_groups(journal: Path, point: Path, tmp_path: Path) -> None:
    with Machine(_run("nested"), journal=journal) as target:
        deep = target.make("workload/pod/container")
        process = processes.spawn(["sleep", "600"], log=tmp_path / "log", cgroup=deep)
        scratch, work = target.scratch, target.work
        assert scratch.is_dir()
        assert work.is_dir()
    assert process.wait() == -signal.SIGKILL
    assert not _cgroup(_run("nested")).exists()
    assert not scratch.exists()
    assert not work.exists()


def test_no_run_starts_beside_another_and_nothing_is_changed_by_one_that_is_refused(
    owner: processes.Process, journal: Path, point: Path
) -> None:
    refused = Machine(_run("refused"), journal=journal)
    for start in (refused.check, refused.up):
        with pytest.raises(NeedError, match=f"is being measured by process {owner.pid}"):
            start()
    assert [entry.run for entry in Journal(journal).entries()] == [_run("owner")]
    assert not _cgroup(_run("refused")).exists()
    assert not refused.work.exists()


def test_one_of_two_that_start_at_once_is_refused_by_the_lock(
    journal: Path, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has started since the early look at who is there."""
    first, second = (
        Machine(_run("first"), journal=journal),
        Machine(_run("second"), journal=journal),
    )
    check = second.check

    def check_then_be_late() -> None:
        check()
        first.up()

    monkeypatch.setattr(second, "check", check_then_be_late)
    with pytest.raises(NeedError, match="is being measured"):
        second.up()
    assert not _cgroup(_run("second")).exists()
    second.down()
    assert _cgroup(_run("first")).exists()
    first.down()


def test_a_run_of_any_name_is_apart_from_the_stack(journal: Path, point: Path) -> None:
    component, _ = supervisor.address("stack", "server")
    with Machine("stack", journal=journal) as target:
        run = target.make("workload").parent
        assert not component.is_relative_to(run)
        assert not run.is_relative_to(component.parent)


def test_a_name_that_no_cgroup_can_have_is_refused(journal: Path, point: Path) -> None:
    with pytest.raises(InputError, match="cannot be the name of a run"):
        Machine("a/b", journal=journal).check()


def test_to_ask_for_a_cgroup_makes_none(journal: Path, point: Path) -> None:
    with Machine(_run("getter"), journal=journal) as target:
        made = target.make("workload")
        assert target.of("workload") == made
        with pytest.raises(ComponentError, match="has no cgroup 'wrokload'"):
            target.of("wrokload")
        assert not (made.parent / "wrokload").exists()


def test_a_socket_has_a_path_that_one_can_have(journal: Path, point: Path) -> None:
    long = Machine("x" * 100)
    assert long.socket("a") == long.scratch / "a.sock"
    for name in ("y" * 40, "z" * 200):
        with socket.socket(socket.AF_UNIX) as listener:
            path = long.socket(name)
            path.parent.mkdir(parents=True)
            try:
                listener.bind(str(path))
            finally:
                shutil.rmtree(path.parent)
    assert long.socket("z" * 200) != long.socket("z" * 201)
    with pytest.raises(NeedError, match="too long a path for sockets"):
        Machine("run", journal=journal / ("d" * 107)).socket("a")


def test_a_work_folder_that_is_there_already_is_not_taken(
    journal: Path, point: Path, tmp_path: Path
) -> None:
    with pytest.raises(NeedError, match="exists already"):
        Machine(_run("work"), work=tmp_path, journal=journal).up()
    assert tmp_path.exists()
    with Machine(_run("work"), work=tmp_path / "new", journal=journal) as target:
        (target.work / "folder").mkdir()
    assert not (tmp_path / "new").exists()


def test_a_folder_that_somebody_else_made_meanwhile_stays(
    journal: Path, point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Machine(_run("work"), work=tmp_path / "theirs", journal=journal)
    check = target.check

    def check_then_be_late() -> None:
        check()
        target.work.mkdir()

    monkeypatch.setattr(target, "check", check_then_be_late)
    with pytest.raises(NeedError, match="exists already"):
        target.up()
    assert target.work.exists()
    assert not journal.exists()


def test_a_full_disk_is_found_before_anything_changes(
    tmp_path: Path, journal: Path, point: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    processes.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)])
    try:
        with pytest.raises(NeedError, match=r"disk under .* is full"):
            Machine(_run("full"), work=small / "work", journal=journal).up()
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
        Machine(_run("refused"), journal=journal).up()
    assert not mount.is_mounted(point)
    assert not journal.exists()


def test_an_unprivileged_user_is_told_to_use_sudo(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NeedError, match="sudo"):
        Machine(_run("user"), journal=journal).up()
    assert not journal.exists()


def test_the_journal_is_on_the_disk_before_the_change(
    journal: Path, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def record(fstype: str, place: Path) -> None:
        (entry,) = Journal(journal).entries()
        seen.extend(entry.mounts)

    def create(path: Path) -> None:
        (entry,) = Journal(journal).entries()
        seen.extend([*entry.cgroups, entry.work])
        path.mkdir(parents=True)

    monkeypatch.setattr(syscall, "mount", record)
    monkeypatch.setattr(cgroup, "create", create)
    with Machine(_run("order"), journal=journal) as target:
        pass
    assert seen == [str(point), str(_cgroup(_run("order"))), str(target.work)]


def test_facts_are_json_and_true(journal: Path, point: Path) -> None:
    facts = json.loads(json.dumps(Machine(_run("facts"), journal=journal).facts()))
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
    with Machine(_run("own"), journal=journal) as target:
        group = target.make("workload")
        assert group.is_relative_to(journal)
        assert "usage_usec" in (group / "cpu.stat").read_text()
        assert mount.is_mounted(journal / "cgroup2")
    assert not mount.is_mounted(journal / "cgroup2")
    assert not journal.exists()


def test_only_root_cleans(
    owner: processes.Process, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(NeedError, match="sudo"):
            machine.clean(journal)
