"""What runtimes, engines and /proc tell of containers in, their processes out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.linux import containers
from harness.linux.containers import Container
from tests.cases.recorded import Machine

ID = "3f2a1b2c3d4e" + "5" * 52
OTHER = "3f2a" + "6" * 60
POD = f"/docker/{'cc' * 32}/kubelet/kubepods/burstable/pod7/{ID}"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "proc")


@pytest.fixture(autouse=True)
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    "line",
    [
        f"0::/system.slice/docker-{ID}.scope",
        f"0::/docker/{ID}",
        f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
        f"0::/kubepods/pod1/{ID}",
        f"0::/machine.slice/libpod-{ID}.scope/container",
        f"0::/system.slice/docker-{ID}.scope/init.scope",
        f"4:memory:{POD}\n0::/docker/{'cc' * 32}",  # a pod of a node that is a container itself
    ],
)
def test_cgroups_tell_the_container(machine: Machine, line: str) -> None:
    machine.process(20, "app", cgroup=line)
    assert containers.id_of(20, machine.procfs) == ID


def test_a_process_of_no_container_has_no_id(machine: Machine) -> None:
    machine.process(20, "app", cgroup="0::/system.slice/nginx.service")
    machine.process(21, "conmon", cgroup=f"0::/machine.slice/libpod-conmon-{ID}.scope")
    assert containers.id_of(20, machine.procfs) == ""
    assert containers.id_of(21, machine.procfs) == ""


def test_mounts_tell_the_container_where_cgroups_do_not(machine: Machine) -> None:
    mounted = (
        f"723 701 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 x rw\n"
    )
    machine.process(20, "app", mountinfo=mounted, pid_namespace=2)
    assert containers.id_of(20, machine.procfs) == ID


def test_the_first_process_is_found_by_the_beginning_of_the_id(machine: Machine) -> None:
    scope = f"0::/system.slice/docker-{ID}.scope"
    machine.process(30, "shim", started=90)
    machine.process(33, "sh", parent=30, cgroup=scope, started=300)  # docker exec
    machine.process(31, "master", parent=30, cgroup=scope, started=200)
    machine.process(32, "worker", parent=31, cgroup=scope, started=201)
    found = containers.find(ID[:8], machine.procfs, Path("/none"))
    assert found == Container(ID, 31)
    assert found.short == "3f2a1b2c3d4e"


def test_a_beginning_of_two_ids_is_refused_with_both(machine: Machine) -> None:
    machine.process(20, "a", cgroup=f"0::/docker/{ID}")
    machine.process(21, "b", cgroup=f"0::/docker/{OTHER}")
    with pytest.raises(InputError) as caught:
        containers.find("3f2a", machine.procfs, Path("/none"))
    assert ID in caught.value.why
    assert OTHER in caught.value.why


@pytest.mark.parametrize(
    ("where", "engine", "state"),
    [
        ("runc/web/state.json", "runc", {"id": "web", "init_process_pid": 20}),
        (
            "containerd/runc/k8s.io/web/state.json",
            "containerd",
            {"id": "web", "init_process_pid": 20},
        ),
        (
            "docker/runtime-runc/moby/web/state.json",
            "docker",
            {"id": "web", "init_process_pid": 20},
        ),
        ("crun/web/status", "crun", {"pid": 20, "process-start-time": 100}),
    ],
)
def test_what_runtimes_keep_is_found(
    machine: Machine, tmp_path: Path, where: str, engine: str, state: dict[str, object]
) -> None:
    path = tmp_path / "run" / where
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(state))
    machine.process(20, "app", started=100)
    assert containers.find("web", machine.procfs, tmp_path / "run") == Container("web", 20, engine)


def test_what_a_runtime_keeps_of_a_dead_process_is_not_found(
    machine: Machine, tmp_path: Path
) -> None:
    for name, state in {
        "gone": {"id": "gone", "init_process_pid": 99},
        "anew": {"id": "anew", "init_process_pid": 20, "init_process_start": 55},
        "torn": "{",
    }.items():
        path = tmp_path / "run/runc" / name / "state.json"
        path.parent.mkdir(parents=True)
        path.write_text(state if isinstance(state, str) else json.dumps(state))
    machine.process(20, "another", started=100)
    for name in ("gone", "anew", "torn"):
        with pytest.raises(InputError, match="There is no running container"):
            containers.find(name, machine.procfs, tmp_path / "run")


@pytest.mark.parametrize("given", ["we", ID[:9], f"containerd://{ID}"])
def test_only_long_ids_may_be_shortened(machine: Machine, tmp_path: Path, given: str) -> None:
    for name in ("web", ID):
        path = tmp_path / "run/runc" / name / "state.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"id": name, "init_process_pid": 20}))
    machine.process(20, "app")
    if given == "we":
        with pytest.raises(InputError, match="There is no running container 'we'"):
            containers.find(given, machine.procfs, tmp_path / "run")
    else:
        assert containers.find(given, machine.procfs, tmp_path / "run").id == ID


def test_an_engine_is_asked_for_a_name(machine: Machine, engines: Path) -> None:
    program(
        engines, "docker", 'echo "$*" >"$0.asked"; echo "Error: No such container: web" >&2; exit 1'
    )
    program(engines, "podman", f'[ "$5" = web ] && echo {ID} 20')
    machine.process(20, "app", cgroup=f"0::/machine.slice/libpod-{ID}.scope")
    assert containers.find("web", machine.procfs, Path("/none")) == Container(ID, 20, "podman")
    assert (engines / "docker.asked").read_text().startswith("container inspect --format {{.Id}} ")


def test_a_container_of_an_engine_on_another_host_is_not_taken_for_one_here(
    machine: Machine, engines: Path
) -> None:
    program(engines, "docker", f"echo {ID} 20")
    machine.process(20, "nobody-of-it")
    with pytest.raises(InputError, match="docker: it runs 3f2a1b2c3d4e, but not here"):
        containers.find("web", machine.procfs, Path("/none"))


def test_who_was_asked_is_told(machine: Machine, engines: Path) -> None:
    program(engines, "docker", "echo Cannot connect to the Docker daemon. >&2; exit 1")
    program(engines, "podman", f"echo {ID} 0")  # it exists and does not run
    with pytest.raises(InputError) as caught:
        containers.find("web", machine.procfs, Path("/none"))
    assert "docker: Cannot connect to the Docker daemon;" in caught.value.why
    assert "podman: it runs no such container;" in caught.value.why
    assert "crictl: crictl is not installed" in caught.value.why


def test_members_are_those_of_the_cgroup_that_bears_the_id(machine: Machine) -> None:
    pod = f"4:memory:{POD}\n0::/docker/node"
    machine.process(20, "app", cgroup=pod)
    machine.process(21, "exec", cgroup=f"4:memory:{POD}/below\n0::/docker/node")
    machine.process(22, "kubelet", cgroup=f"4:memory:{POD[:-64]}\n0::/docker/node")
    machine.process(23, "next", cgroup=f"4:memory:{POD}7\n0::/docker/node")
    container = Container(ID, 20)
    assert containers.members(container, machine.procfs) == {20, 21}
    assert containers.place(container, "memory", machine.procfs) == POD
    assert containers.place(container, procfs=machine.procfs) == ""


def test_members_are_those_of_the_pid_namespace_where_no_cgroup_bears_the_id(
    machine: Machine,
) -> None:
    machine.process(20, "app", pid_namespace=2)
    machine.process(21, "exec", pid_namespace=2)
    machine.process(22, "other")
    machine.process(23, "child", parent=20, pid_namespace=3)
    assert containers.members(Container("web", 20), machine.procfs) == {20, 21, 23}


def test_members_without_a_namespace_of_their_own_are_the_family(machine: Machine) -> None:
    machine.process(20, "app")
    machine.process(21, "child", parent=20)
    machine.process(22, "other")
    assert containers.members(Container("web", 20), machine.procfs) == {20, 21}


def test_the_place_of_a_container_is_the_cgroup_above_those_that_it_makes(
    machine: Machine,
) -> None:
    machine.process(20, "systemd", cgroup=f"0::/system.slice/docker-{ID}.scope/init.scope")
    place = containers.place(Container(ID, 20), procfs=machine.procfs)
    assert place == f"/system.slice/docker-{ID}.scope"


def test_an_engine_that_knows_it_stops_a_container(engines: Path) -> None:
    program(engines, "docker", f'[ "$1" = stop ] && echo "$*" >"$0.asked"; echo {ID} {os.getpid()}')
    assert containers.stop(Container(ID, os.getpid()))
    assert (engines / "docker.asked").read_text() == f"stop {ID}\n"


def test_a_container_of_no_engine_is_not_stopped_by_one() -> None:
    assert not containers.stop(Container("web", os.getpid()))
