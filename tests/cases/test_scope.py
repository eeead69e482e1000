"""What /proc shows of a service and of who listens at its URL in, a verdict out."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.node.scope import check_scope
from tests.cases.recorded import Machine, Network, cgroup

ID = "3f2a1b2c3d4e" + "5" * 52
OTHER = "aa" * 32
DOCKER = f"0::/system.slice/docker-{ID}.scope"
SERVICE = "0::/harness/run-x/workload"
URL = "http://127.0.0.1:8080/"


def open_port(*sockets: int, address: str = "127.0.0.1") -> Network:
    """The machine's network with listeners on port 8080."""
    return Network(1, ("192.0.2.2",), tuple((address, 8080, inode) for inode in sockets))


def refused(url: str, path: Path, machine: Machine) -> InputError:
    with pytest.raises(InputError) as caught:
        check_scope(url, path, machine.procfs)
    return caught.value


def test_a_service_in_its_cgroup_passes(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "proc", open_port(7))
    machine.process(20, "nginx", cgroup=SERVICE, sockets=[7])
    machine.process(21, "nginx", cgroup=SERVICE, parent=20, sockets=[7])
    path = cgroup(tmp_path / "service", 20, 21)
    for url in (URL, "http://localhost:8080/x?y=1"):
        assert check_scope(url, path, machine.procfs) == ""


def test_a_service_that_left_its_cgroup_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "proc", open_port(7))
    machine.process(20, "python3", sockets=[7])
    error = refused(URL, cgroup(tmp_path / "service"), machine)
    assert "outside of the cgroup that is measured" in error.what
    assert error.what.endswith("by process 20 (python3) of the cgroup /.")
    assert "which holds no process;" in error.why
    assert error.next_step.endswith("measure it where it runs: --pid 20.")


def test_a_service_in_a_unit_is_measured_by_the_unit(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "proc", open_port(7))
    machine.process(20, "app", cgroup="0::/system.slice/run-u12.service", sockets=[7])
    machine.process(30, "systemd-run", cgroup=SERVICE)
    error = refused(URL, cgroup(tmp_path / "service", 30), machine)
    assert "process 20 (app) of the cgroup /system.slice/run-u12.service" in error.what
    assert "which holds process 30 (systemd-run);" in error.why
    assert "--unit run-u12.service" in error.next_step


def in_docker(tmp_path: Path, **of_the_service: str) -> Machine:
    """docker run -p 127.0.0.1:8080:80: the proxy listens, the service has a network of its own."""
    machine = Machine(tmp_path / "proc", open_port(7))
    inner = Network(2, ("172.17.0.2",), (("0.0.0.0", 80, 8),))
    argv = (
        "-proto tcp -host-ip 127.0.0.1 -host-port 8080 -container-ip 172.17.0.2 -container-port 80"
    )
    machine.process(
        40, "docker-proxy", "/usr/bin/docker-proxy", *argv.split(),
        cgroup="0::/system.slice/docker.service", sockets=[7],
    )  # fmt: skip
    machine.process(50, "app", cgroup=DOCKER, sockets=[8], network=inner, pid_namespace=2)
    machine.process(30, "docker", "docker", "run", "-p", "8080:80", cgroup=SERVICE)
    return machine


def test_docker_run_in_the_foreground_names_the_container(tmp_path: Path) -> None:
    machine = in_docker(tmp_path)
    error = refused(URL, cgroup(tmp_path / "service", 30), machine)
    assert "process 40 (docker-proxy)" in error.what
    assert "which forwards to process 50 (app) of the container 3f2a1b2c3d4e." in error.what
    assert error.next_step.endswith("--container 3f2a1b2c3d4e --url http://172.17.0.2:80/.")


def test_a_container_behind_its_proxy_is_measured_and_the_proxy_is_told(tmp_path: Path) -> None:
    told = check_scope(URL, cgroup(tmp_path / "docker", 50), in_docker(tmp_path).procfs)
    assert "process 40 (docker-proxy)" in told
    assert "is in no figure of CPU" in told
    assert "--url http://172.17.0.2:80/ leads to the service itself" in told


def test_a_container_by_its_own_address_passes(tmp_path: Path) -> None:
    machine = in_docker(tmp_path)
    path = cgroup(tmp_path / "docker", 50)
    assert check_scope("http://172.17.0.2:80/", path, machine.procfs) == ""


def test_a_sidecar_that_listens_in_the_services_namespace_is_named(tmp_path: Path) -> None:
    machine = in_docker(tmp_path)
    pod = Network(3, ("10.244.0.5",), (("0.0.0.0", 80, 11), ("127.0.0.1", 81, 12)))
    kube = "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{}.scope"
    machine.process(60, "envoy", cgroup=kube.format(OTHER), sockets=[11], network=pod)
    machine.process(61, "app", cgroup=kube.format("bb" * 32), sockets=[12], network=pod)
    error = refused("http://10.244.0.5/", cgroup(tmp_path / "pod", 61), machine)
    assert "process 60 (envoy)" in error.what
    assert f"--container {OTHER[:12]}" in error.next_step


def test_an_address_of_somebody_elses_namespace_names_who_listens_there(tmp_path: Path) -> None:
    machine = in_docker(tmp_path)
    error = refused("http://172.17.0.2/", cgroup(tmp_path / "service", 30), machine)
    assert "process 50 (app)" in error.what
    assert "--container 3f2a1b2c3d4e" in error.next_step


def test_a_forwarder_inside_the_cgroup_is_no_service(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "proc", open_port(7))
    machine.process(30, "kubectl", "kubectl", "port-forward", "pod/x", cgroup=SERVICE, sockets=[7])
    error = refused(URL, cgroup(tmp_path / "service", 30), machine)
    assert "only hands on what comes: process 30 (kubectl)" in error.what
    assert "--container, --unit or --pid" in error.next_step


def test_a_forwarder_to_somewhere_unknown_is_a_caution_where_the_service_listens(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path / "proc", open_port(7))
    inner = Network(2, ("10.0.2.100",), (("0.0.0.0", 80, 8),))
    machine.process(40, "rootlessport", sockets=[7])
    machine.process(50, "app", cgroup=DOCKER, sockets=[8], network=inner)
    told = check_scope(URL, cgroup(tmp_path / "service", 50), machine.procfs)
    assert "cannot be checked: process 40 (rootlessport)" in told


def test_two_that_share_a_port_are_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "proc", open_port(7, 8))
    machine.process(20, "app", cgroup=SERVICE, sockets=[7])
    machine.process(21, "app", sockets=[8], started=10)
    error = refused(URL, cgroup(tmp_path / "service", 20), machine)
    assert "by the service and by process 21 (app) of the cgroup /, in turns" in error.what


def test_a_socket_that_init_made_and_handed_on_is_the_services(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "proc", open_port(7))
    (tmp_path / "proc/1/fd/9").symlink_to("socket:[7]")
    machine.process(20, "app", cgroup=SERVICE, sockets=[7])
    assert check_scope(URL, cgroup(tmp_path / "service", 20), machine.procfs) == ""


def test_redirected_packets_are_a_caution_where_the_service_listens_elsewhere(
    tmp_path: Path,
) -> None:
    machine = in_docker(tmp_path)
    told = check_scope("http://192.0.2.2:9999/", cgroup(tmp_path / "d", 50), machine.procfs)
    assert "(DNAT)" in told
    assert "listens on 0.0.0.0:80" in told


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://198.51.100.7/", "an address of another host"),
        ("http+unix://%2Frun%2Fapp.sock/", "no address of TCP"),
    ],
)
def test_what_cannot_be_checked_is_said(tmp_path: Path, url: str, why: str) -> None:
    machine = Machine(tmp_path / "proc", open_port(7))
    machine.process(20, "app", cgroup=SERVICE, sockets=[7])
    assert why in check_scope(url, cgroup(tmp_path / "service", 20), machine.procfs)


def test_a_cgroup_that_listens_nowhere_is_refused_whatever_the_url(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "proc")
    machine.process(30, "docker", cgroup=SERVICE)
    error = refused("http://198.51.100.7/", cgroup(tmp_path / "service", 30), machine)
    assert "nobody in the cgroup that is measured listens on TCP" in error.what
    assert "process 30 (docker)" in error.why


def test_processes_of_another_pid_namespace_are_a_caution(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "proc", open_port(7))
    path = cgroup(tmp_path / "service", 0)
    assert "cannot be seen from this PID namespace" in check_scope(URL, path, machine.procfs)
