"""Services in namespaces of their own: a network namespace, and a container that runc runs."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.linux import cgroup, containers, mount, network_namespace, processes
from harness.linux.procfs import HOST, V2
from harness.node import known_events, silence
from harness.node.found import attach, check_scope
from harness.node.machine import Machine
from harness.wire.spec import Found
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]
NAME = f"harness-test-{os.getpid()}"
V1 = list(Path("/sys/fs/cgroup").glob("*/cgroup.clone_children"))
SHARED = ["with a stranger", *(["hidden"] if V1 else [])]
SERVER = ["/usr/bin/python3", "-m", "http.server", "-d", "/proc/sys"]
MOUNTED = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.conf")


@pytest.fixture
def root() -> Path:
    place = mount.find("cgroup2")
    if place is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    return place


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Machine]:
    with Machine(NAME, work=tmp_path / "work", journal=tmp_path / "journal", alone=False) as made:
        yield made


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def apart(root: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A server in a network namespace of its own, and its address there."""
    here, there, address = f"ht{os.getpid()}a", f"ht{os.getpid()}b", "198.51.100.2"
    group = root / NAME
    cgroup.create(group)
    argv = ["unshare", "--net", *SERVER, "8000", "--bind", "0.0.0.0"]
    server = processes.spawn(argv, log=tmp_path / "log", cgroup=group)
    try:
        own = HOST.namespace("self", "net")
        assert until(lambda: HOST.namespace(server.pid, "net") not in (0, own))
        inside = ["nsenter", f"--net=/proc/{server.pid}/ns/net", "ip"]
        ip = ["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns"]
        processes.run([*ip, str(server.pid)])
        processes.run(["ip", "address", "add", "198.51.100.1/24", "dev", here])
        processes.run(["ip", "link", "set", here, "up"])
        processes.run([*inside, "address", "add", f"{address}/24", "dev", there])
        processes.run([*inside, "link", "set", there, "up"])
        processes.run([*inside, "link", "set", "lo", "up"])
        yield group, address
    finally:
        processes.stop(server, grace_seconds=0)
        cgroup.remove(group)
        processes.run(["ip", "link", "delete", here], check=False)


def test_a_service_in_another_network_namespace_is_measured_by_its_own_address(
    apart: tuple[Path, str], target: Machine
) -> None:
    group, address = apart
    with ExitStack() as ends:
        service = attach(Found("x", f"http://{address}:8000/", cgroup=str(group)), target, ends)
        assert check_scope(service.url, service.cgroup) == ""


def test_who_listens_in_another_network_namespace_is_named(
    apart: tuple[Path, str], root: Path, tmp_path: Path
) -> None:
    group, address = apart
    assert until(lambda: not silence.reason(f"http://{address}:8000/"))
    (pid,) = cgroup.processes(group)
    empty = root / f"{NAME}-empty"
    cgroup.create(empty)
    try:
        with pytest.raises(InputError) as caught:
            check_scope(f"http://{address}:8000/", empty)
    finally:
        cgroup.remove(empty)
    assert f"by process {pid} (python3) of the cgroup /{NAME}." in caught.value.what
    assert f"--pid {pid}" in caught.value.next_step


def test_a_probe_reaches_it_from_an_address_of_its_own(apart: tuple[Path, str]) -> None:
    group, address = apart
    url = f"http://{address}:8000/"
    assert until(lambda: not silence.reason(url))
    own = HOST.namespace("thread-self", "net")
    assert known_events.connect(url, cgroup.processes(group)) == ""
    assert "failed" in known_events.connect(url, [])  # from here nobody answers to loopback
    assert HOST.namespace("thread-self", "net") == own
    with pytest.raises(OSError, match="No such file"):
        network_namespace.inside(0, lambda: None)


def bundle(folder: Path, port: int, group: str) -> Path:
    """An OCI bundle: this machine's Python in namespaces and a root of its own."""
    rootfs = folder / "rootfs"
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    for place in filter(os.path.exists, MOUNTED):
        if os.path.islink(place):
            (rootfs / place[1:]).symlink_to(os.readlink(place))
            continue
        bind: dict[str, object] = {"destination": place, "type": "bind", "source": place}
        mounts.append({**bind, "options": ["rbind", "ro"]})  # type: ignore[dict-item]
        rootfs.mkdir(parents=True, exist_ok=True)
    config = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": False},
        "process": {
            "cwd": "/",
            "args": [*SERVER, str(port), "--bind", "127.0.0.1"],
            "user": {"uid": 0, "gid": 0},
            "env": ["PATH=/usr/bin"],
        },
        "mounts": mounts,
        "linux": {"cgroupsPath": group, "namespaces": [{"type": "pid"}, {"type": "mount"}]},
    }
    rootfs.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def run(tmp_path: Path, port: int) -> Iterator[Callable[[str], int]]:
    """Runs the container in this cgroup, hidden from v2 if it is empty; its first pid here."""
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed (make setup-test installs it)")
    folder = tmp_path / "bundle"
    folder.mkdir()

    def start(group: str, before: str = "") -> int:
        bundle(folder, port, group)
        command = f"{before} exec runc run --detach --bundle {folder} {NAME} </dev/null >log 2>&1"
        processes.run(["unshare", "--mount", "sh", "-c", command], cwd=folder)
        told = json.loads(processes.run(["runc", "state", NAME]).stdout)
        return int(told["pid"])

    yield start
    processes.run(["runc", "delete", "--force", NAME], check=False)


def test_a_container_of_runc_is_measured_where_it_is(
    run: Callable[[str], int], root: Path, target: Machine, port: int
) -> None:
    pid = run(f"/{NAME}-container")
    assert containers.id_of(pid) == NAME
    with ExitStack() as ends:
        asked = Found("x", f"http://127.0.0.1:{port}/", container=NAME)
        service = attach(asked, target, ends)
        assert service.cgroup == root / f"{NAME}-container"
        assert service.pids() == [pid]
        assert service.warnings == ()
        assert check_scope(service.url, service.cgroup) == ""
    assert HOST.cgroups(pid)[V2] == f"/{NAME}-container"
    processes.run(["runc", "kill", NAME, "KILL"])
    assert until(lambda: not service.alive())


@pytest.mark.parametrize("how", SHARED)
def test_a_container_that_shares_its_cgroup_is_lent_and_given_back(
    how: str, run: Callable[..., int], root: Path, target: Machine, port: int, tmp_path: Path
) -> None:
    """Hidden: as in a node of kind on a host with v1 controllers, where the runtime sees no v2."""
    pid = run(f"/{NAME}-container", before=f"umount {root};" if how == "hidden" else "")
    before, home = HOST.cgroups(pid), root / HOST.cgroups(pid)[V2][1:]
    stranger = processes.spawn(["sleep", "600"], log=tmp_path / "log", cgroup=home)
    try:
        with ExitStack() as ends:
            asked = Found("x", f"http://127.0.0.1:{port}/", container=NAME)
            service = attach(asked, target, ends)
            assert service.pids() == [pid]
            assert service.cgroup.parent == home
            assert "were moved" in service.warnings[0]
            assert check_scope(service.url, service.cgroup) == ""
            now = HOST.cgroups(pid)
            assert {k: v for k, v in now.items() if k} == {k: v for k, v in before.items() if k}
        assert HOST.cgroups(pid) == before
        assert not service.cgroup.exists()
        assert stranger.poll() is None
    finally:
        processes.stop(stranger, grace_seconds=0)


def test_the_container_that_answers_is_named_by_its_id(
    run: Callable[[str], int], root: Path, port: int
) -> None:
    pid = run(f"/{NAME}-container")
    empty = root / f"{NAME}-empty"
    cgroup.create(empty)
    try:
        assert until(lambda: not silence.reason(f"http://127.0.0.1:{port}/"))
        with pytest.raises(InputError) as caught:
            check_scope(f"http://127.0.0.1:{port}/", empty)
    finally:
        cgroup.remove(empty)
    assert f"process {pid} (python3)" in caught.value.what
    assert f"--container {NAME}" in caught.value.next_step
