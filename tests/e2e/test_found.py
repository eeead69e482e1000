"""Services that run already, on the real kernel: found, watched, lent, given back; never ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.errors import InputError, UnavailableError, WorkloadError
from harness.linux import adoption, cgroup, mount, processes
from harness.linux.procfs import HOST, V2
from harness.node import found, machine, outside
from harness.node.found import FoundService, attach, check_scope
from harness.node.machine import Machine
from harness.wire.spec import CollectorSpec, Found
from harness.wire.telemetry import SIGNALS
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

OUTSIDE = """
import os, subprocess, sys, time
root, *argv = sys.argv[1:]
enter = lambda: open(root + "/cgroup.procs", "w").write(str(os.getpid()))
subprocess.Popen(argv, preexec_fn=enter, start_new_session=True)
time.sleep(600)
"""
FORKS = """
import http.server, os, sys, time
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
os.fork() or time.sleep(600)
server.serve_forever()
"""  # noqa: E501

KERNEL = [pid for pid in HOST.pids() if HOST.started(pid) and not HOST.argv(pid)]

Spawn = Callable[..., processes.Process]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def root() -> Path:
    place = mount.find("cgroup2")
    if place is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    return place


@pytest.fixture
def group(root: Path) -> Iterator[Path]:
    """A cgroup of somebody else's."""
    path = root / f"harness-test-found-{os.getpid()}"
    cgroup.create(path)
    yield path
    if path.exists():
        cgroup.remove(path)


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    started: list[processes.Process] = []

    def start(*argv: str, cgroup: Path | None = None) -> processes.Process:
        started.append(processes.spawn(argv, log=tmp_path / "log", cgroup=cgroup))
        return started[-1]

    yield start
    for process in started:
        processes.stop(process, grace_seconds=0)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Machine]:
    run = f"test-{os.getpid()}-found"
    made = Machine(run, work=tmp_path / "work", journal=tmp_path / "journal", alone=False)
    with made:
        yield made


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def server(port: int, bind: str = "127.0.0.1") -> list[str]:
    return ["/usr/bin/python3", "-m", "http.server", str(port), "--bind", bind, "-d", "/proc/sys"]


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def watched(path: Path, **more: object) -> FoundService:
    return FoundService("x", "", path, path.stat().st_ino, **more)  # type: ignore[arg-type]


def collector(name: str, signal: str) -> CollectorSpec:
    by_socket = SIGNALS[signal].by_socket
    return CollectorSpec(name, name, {}, (), signal, None, "", 3.0, True, by_socket=by_socket)


def v2(pid: int) -> str:
    return HOST.cgroups(pid)[V2]


@pytest.mark.parametrize("by", ["cgroup", "path", "pid"])
def test_a_service_in_a_cgroup_of_its_own_is_left_there_and_running(
    by: str, group: Path, port: int, spawn: Spawn, target: Machine, ends: ExitStack
) -> None:
    process = spawn(*server(port), cgroup=group)
    named = {"cgroup": str(group), "path": f"/{group.name}"}.get(by, "")
    asked = Found("x", url(port), pid=0 if named else process.pid, cgroup=named)
    service = attach(asked, target, ends)
    assert service.cgroup == group
    assert service.pids() == [process.pid]
    assert service.warnings == ()
    found.require_seen(service, collector("http", "requests"))
    assert check_scope(service.url, service.cgroup) == ""
    service.check()
    service.stop()
    ends.close()
    assert process.poll() is None
    assert v2(process.pid) == f"/{group.name}"


def test_the_end_of_a_service_is_told(group: Path, spawn: Spawn) -> None:
    process = spawn("sleep", "600", cgroup=group)
    service = watched(group)
    service.check()
    processes.stop(process, grace_seconds=0)
    with pytest.raises(WorkloadError, match="no process is left in its cgroup"):
        service.check()
    cgroup.remove(group)
    with pytest.raises(WorkloadError, match="is gone"):
        service.check()
    assert not service.alive()


def test_a_cgroup_that_was_made_anew_is_told(group: Path, spawn: Spawn) -> None:
    """As systemd does on a restart: the same path, another cgroup."""
    process = spawn("sleep", "600", cgroup=group)
    service = watched(group)
    processes.stop(process, grace_seconds=0)
    cgroup.remove(group)
    group.mkdir()
    spawn("sleep", "600", cgroup=group)
    with pytest.raises(WorkloadError, match="made anew, as by a restart"):
        service.check()


def test_the_end_of_the_first_process_is_told_though_others_live(group: Path, spawn: Spawn) -> None:
    first = spawn("sleep", "600", cgroup=group)
    spawn("sleep", "600", cgroup=group)
    service = watched(group, leader=first.pid, started=HOST.started(first.pid))
    service.check()
    processes.stop(first, grace_seconds=0)
    with pytest.raises(WorkloadError, match=f"process {first.pid}, by which it was found"):
        service.check()


def test_a_service_that_does_not_answer_says_where_it_listens(
    group: Path, port: int, spawn: Spawn, target: Machine, ends: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(found, "ANSWER_SECONDS", 0.0)
    spawn(*server(port), cgroup=group)
    assert until(lambda: answers(port))
    with pytest.raises(WorkloadError, match=rf"nothing answers.*listen on 127.0.0.1:{port}"):
        attach(Found("x", "http://127.0.0.1:1/", cgroup=str(group)), target, ends)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"pid": 1 << 22}, "There is no process"),
        *(({"pid": pid}, "thread of the kernel") for pid in KERNEL[:1]),
        ({"cgroup": "/no/such/cgroup"}, "There is no cgroup"),
        ({"cgroup": "relative"}, "There is no cgroup"),
        ({"cgroup": "/"}, "It is the root"),
        ({"container": "no-such-container"}, "There is no running container"),
    ],
)
def test_what_names_no_service_is_refused(
    asked: dict[str, object], why: str, root: Path, target: Machine, ends: ExitStack
) -> None:
    with pytest.raises(InputError, match=why):
        attach(Found("x", url(1), **asked), target, ends)  # type: ignore[arg-type]


def test_an_empty_cgroup_is_refused(group: Path, target: Machine, ends: ExitStack) -> None:
    with pytest.raises(InputError, match="No process is in it"):
        attach(Found("x", url(1), cgroup=str(group)), target, ends)


def test_the_harness_does_not_measure_itself(target: Machine, ends: ExitStack) -> None:
    with pytest.raises(InputError, match="harness itself is among"):
        attach(Found("x", url(1), pid=os.getpid()), target, ends)


def test_a_service_that_left_its_cgroup_is_named_and_ended(
    group: Path, root: Path, port: int, spawn: Spawn
) -> None:
    since = outside.now()
    spawn(sys.executable, "-c", OUTSIDE, str(root), *server(port), cgroup=group)
    assert until(lambda: answers(port))
    with pytest.raises(InputError) as caught:
        outside.check_started(url(port), group, since)
    assert "(python3) of the cgroup /." in caught.value.what
    assert "--pid " in caught.value.next_step
    assert "which the command had started, was ended" in caught.value.why
    assert not answers(port)


def test_what_ran_before_the_command_is_not_ended(
    group: Path, root: Path, port: int, spawn: Spawn
) -> None:
    stranger = spawn(*server(port), cgroup=root)
    assert until(lambda: answers(port))
    time.sleep(0.02)  # a clock tick, which is what /proc resolves
    since = outside.now()
    spawn("sleep", "600", cgroup=group)
    with pytest.raises(InputError, match=f"--pid {stranger.pid}"):
        outside.check_started(url(port), group, since)
    assert answers(port)


def lend(path: Path, pid: int, ends: ExitStack) -> Path:
    own = adoption.plan(path, "harness-test")
    ends.callback(adoption.adopt(own, lambda: HOST.family(pid)))
    return own


def test_processes_are_lent_with_their_children_and_given_back(
    group: Path, port: int, spawn: Spawn, ends: ExitStack
) -> None:
    other = spawn("sleep", "600", cgroup=group)
    process = spawn("/usr/bin/python3", "-c", FORKS, str(port), cgroup=group)
    assert until(lambda: answers(port))
    assert until(lambda: len(HOST.family(process.pid)) == 2)  # it listens, and forks then
    family = HOST.family(process.pid)
    before = {key: path for key, path in HOST.cgroups(process.pid).items() if key != V2}
    own = lend(group, process.pid, ends)
    assert set(cgroup.processes(own)) == family
    assert v2(other.pid) == f"/{group.name}"
    now = HOST.cgroups(process.pid)
    assert {key: path for key, path in now.items() if key != V2} == before  # limits untouched
    ends.close()
    assert not own.exists()
    assert {v2(pid) for pid in family} == {f"/{group.name}"}
    assert process.poll() is None
    assert adoption.give_back(own) == []


def test_what_was_forked_meanwhile_is_given_back(
    group: Path, spawn: Spawn, ends: ExitStack
) -> None:
    loop = spawn("sh", "-c", "while :; do /bin/true; done", cgroup=group)
    for _ in range(20):
        own = lend(group, loop.pid, ends)
        assert v2(loop.pid) == f"/{group.name}/harness-test"
        ends.close()
        assert not own.exists()
    assert loop.poll() is None


def test_nothing_is_lent_where_it_would_change_limits(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, *_: "cpu memory\n")
    with pytest.raises(InputError, match=r"controllers \(cpu, memory\)"):
        adoption.plan(group, "own")


def test_nothing_is_lent_from_systemd(group: Path) -> None:
    unit = group / "web.service"
    unit.mkdir()
    with pytest.raises(InputError, match="systemd keeps it"):
        adoption.plan(unit, "own")


def test_a_service_in_the_root_is_lent_where_that_changes_nothing_for_it(
    root: Path, port: int, spawn: Spawn, target: Machine, ends: ExitStack
) -> None:
    process = spawn(*server(port), cgroup=root)
    assert until(lambda: answers(port))
    asked = Found("x", url(port), pid=process.pid)
    if (root / "cgroup.subtree_control").read_text().strip():
        with pytest.raises(InputError, match="controllers"):
            attach(asked, target, ends)
        return
    service = attach(asked, target, ends)
    assert service.pids() == [process.pid]
    assert service.cgroup.parent == root
    assert "were moved" in " ".join(service.warnings)
    with pytest.raises(UnavailableError, match="would see nothing"):
        found.require_seen(service, collector("http", "requests"))
    found.require_seen(service, collector("profile", "samples"))
    assert check_scope(service.url, service.cgroup) == ""
    ends.close()
    assert v2(process.pid) == "/"
    assert not service.cgroup.exists()
    assert answers(port)


OWNER = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from harness.linux import adoption
from harness.linux.procfs import HOST
from harness.node.machine import Machine
run, journal, work, group, pid = sys.argv[1:]
machine = Machine(run, work=Path(work), journal=Path(journal), alone=False)
machine.up()
own = adoption.plan(Path(group), f"harness-{run}")
machine.lent(own)
adoption.adopt(own, lambda: HOST.family(int(pid)))
print('{"ready": true}', flush=True)
time.sleep(600)
"""


def test_clean_gives_back_what_a_killed_run_had_borrowed(
    group: Path, spawn: Spawn, tmp_path: Path
) -> None:
    process = spawn("sleep", "600", cgroup=group)
    journal = tmp_path / "journal"
    argv = [f"test-{os.getpid()}-owner", str(journal), str(tmp_path / "work"), str(group)]
    owner = processes.spawn(
        [sys.executable, "-c", OWNER, *argv, str(process.pid)], log=tmp_path / "owner.log"
    )
    try:
        assert processes.announced(owner, 60), owner.log.read_text()
        assert v2(process.pid) == f"/{group.name}/harness-{argv[0]}"
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        assert f"{group}/harness-{argv[0]}" in " ".join(machine.leftovers(journal))
        done = " ".join(machine.clean(journal))
    finally:
        processes.stop(owner, grace_seconds=0)
        machine.clean(journal)
    assert f"Gave 1 processes back to the cgroup {group}" in done
    assert v2(process.pid) == f"/{group.name}"
    assert process.poll() is None
    assert not journal.exists()
