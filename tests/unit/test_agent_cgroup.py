"""Who listens, and what is a cgroup at all."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from harness.agent import cgroup, pid_namespace
from harness.agent.errors import AgentError
from harness.linux import cgroup as host_cgroup


def test_a_listening_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in cgroup.listening_ports(os.getpid())
    assert port not in cgroup.listening_ports(os.getpid())


def test_a_process_that_ended_listens_nowhere() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert cgroup.listening_ports(pid) == set()


def test_the_listening_process_is_the_server(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "cgroup.procs").write_text("2\n")
    assert cgroup.pids(tmp_path) == [1, 2, os.getpid()]
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "below" / "cgroup.procs").write_text("")
    with socket.create_server(("127.0.0.1", 0)):
        assert cgroup.server_pid(tmp_path) == os.getpid()


def test_an_empty_cgroup_has_no_server(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    assert cgroup.server_pid(tmp_path) is None


def test_a_cgroup_that_is_gone_has_no_server(tmp_path: Path) -> None:
    assert cgroup.server_pid(tmp_path / "gone") is None


def test_a_directory_is_not_a_cgroup(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="is not a cgroup v2 directory"):
        cgroup.check(tmp_path)


def test_processes_are_found_deeper_than_calls_nest(tmp_path: Path) -> None:
    made = [tmp_path]
    for number in range(1200):
        made.append(made[-1] / "d")
        made[-1].mkdir()
        (made[-1] / "cgroup.procs").write_text(f"{number + 1}\n")
    try:
        assert cgroup.pids(tmp_path) == list(range(1, 1201))
        pid_namespace.require_sight(tmp_path)
        assert host_cgroup.tree(tmp_path) == made[::-1]
        assert sorted(host_cgroup.processes(tmp_path)) == list(range(1, 1201))
    finally:
        for each in reversed(made[1:]):
            (each / "cgroup.procs").unlink()
            each.rmdir()


def test_processes_of_another_pid_namespace_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("0\n12\n0\n")
    assert cgroup.pids(tmp_path) == [12]
