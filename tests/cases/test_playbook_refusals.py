"""Hosts that cannot become nodes are refused by the playbook itself: nothing is changed there.

Another network, and where Cilium cannot be had, are in `test_playbook_network`; what takes another
machine (clocks, a full disk, somebody else's cluster) is in `tests/cluster/test_faults`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.targets.vm import ansible
from tests.cases.placed import put

ROLES = ansible.PLAYBOOKS / "roles"
MANY = 1 << 40
DOCKER = "#!/bin/sh\nprintf 'ii '\n"
FACTS = {
    "ansible_distribution": "Debian", "ansible_distribution_major_version": "12",
    "ansible_distribution_version": "12.11", "ansible_os_family": "Debian",
    "ansible_architecture": "x86_64", "ansible_service_mgr": "systemd",
}  # fmt: skip
"""What this machine is taken for."""
UBUNTU = {"ansible_distribution": "Ubuntu", "ansible_distribution_version": "24.04"}
ROCKY = {
    "ansible_distribution": "Rocky", "ansible_distribution_major_version": "9",
    "ansible_os_family": "RedHat",
}  # fmt: skip
PLAY = {
    "hosts": "control_plane:worker", "any_errors_fatal": True,
    "gather_subset": ["!all", "!min", "distribution", "hardware", "platform", "user", "virtual"],
}  # fmt: skip
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="who is not root is refused for that")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ROLES))
    return tmp_path


def refused(
    place: Path, *names: str, facts: dict[str, str] | None = None, **given: Any
) -> HarnessError | None:
    """What hosts of these names, which are all this machine, are refused by."""
    host = {
        "ansible_connection": "local", "cluster_state": str(place / "state"),
        "ansible_python_interpreter": str(Path(sys.executable).resolve()),
    }  # fmt: skip
    first, *others = names
    groups = {"control_plane": [first], "worker": others}
    inventory = {name: {"hosts": dict.fromkeys(each, host)} for name, each in groups.items()}
    play = {
        **PLAY,
        "environment": {"PATH": f"{place}/there:/usr/sbin:/usr/bin:/sbin:/bin"},
        "tasks": [
            {"ansible.builtin.set_fact": {**FACTS, **(facts or {}), "cacheable": True}},
            {"ansible.builtin.include_role": {"name": "host", "tasks_from": "refuse"}},
        ],
    }
    (place / "hosts.json").write_text(json.dumps(inventory))
    (place / "book.json").write_text(json.dumps([play]))
    # of what this machine is, nothing else is in the way
    given = {"cluster_memory_mib": 1, "cluster_free_mib": 1, **given}
    try:
        book, hosts = str(place / "book.json"), place / "hosts.json"
        recap = ansible.play(book, hosts, given, place / "log", print)
    except HarnessError as error:
        return error
    finally:
        print((place / "log").read_text()[-6000:])
    assert [counts.changed for counts in recap.values()] == [0] * len(names)
    return None


@ROOT
@pytest.mark.parametrize("facts", [{}, UBUNTU, ROCKY], ids=["Debian", "Ubuntu", "Rocky"])
def test_a_host_that_can_become_a_node_is_not_refused(place: Path, facts: dict[str, str]) -> None:
    assert refused(place, "alpha", facts=facts) is None


@ROOT
@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"ansible_distribution": "Fedora", "ansible_distribution_version": "42"}, "Fedora 42 on"),
        ({**UBUNTU, "ansible_distribution_version": "20.04"}, "Ubuntu 20.04 on x86_64"),
        ({"ansible_architecture": "riscv64"}, "on riscv64 with systemd"),
        ({"ansible_service_mgr": "openrc"}, "on x86_64 with openrc"),
    ],
    ids=["Fedora", "an old Ubuntu", "processor", "no systemd"],
)
def test_a_system_that_is_not_known_is_refused(
    place: Path, facts: dict[str, str], told: str
) -> None:
    error = refused(place, "alpha", facts=facts)
    assert error is not None
    assert error.what.startswith("alpha runs ")
    assert told in error.what
    assert "Known are Debian 12 and 13, Ubuntu" in error.why
    assert error.next_step == "Take a host with one of these."


@ROOT
@pytest.mark.parametrize(
    ("given", "what", "next_step"),
    [
        ({"cluster_memory_mib": MANY}, "MiB of memory", "let another host be the control plane"),
        ({"cluster_free_mib": MANY}, "MiB free in /var/lib", "Make room"),
        ({"cluster_source": "elsewhere"}, "cluster_source is elsewhere", "Name one of them"),
        ({"cluster_source": "files"}, "cluster_source is files", "Name one of them"),
    ],
    ids=["memory", "room", "source", "no files"],
)
def test_a_host_that_cannot_is_refused(
    place: Path, given: dict[str, Any], what: str, next_step: str
) -> None:
    error = refused(place, "alpha", **given)
    assert error is not None
    assert what in error.what
    assert error.why
    assert next_step in error.next_step
    assert not (place / "state").exists()


@ROOT
def test_hosts_of_one_name_are_refused(place: Path) -> None:
    error = refused(place, "alpha", "beta")
    assert error is not None
    assert error.what.startswith("Another host of the inventory is called ")
    assert "hostnamectl set-hostname" in error.next_step


@ROOT
def test_a_host_with_dockers_containerd_is_refused(place: Path) -> None:
    (place / "there" / "dpkg-query").write_text(DOCKER)
    (place / "there" / "dpkg-query").chmod(0o755)
    error = refused(place, "alpha")
    assert error is not None
    assert error.what == "alpha has Docker's package containerd.io."


@ROOT
@pytest.mark.parametrize(
    ("programs", "told"),
    [
        ({"rpm": "exit 0"}, "package docker-ce"),
        (
            {"rpm": "exit 1", "systemctl": 'test "$*" = "cat docker.service"'},
            "service docker.service",
        ),
    ],
)
def test_docker_is_refused_on_what_is_built_from_rhel_as_well(
    place: Path, programs: dict[str, str], told: str
) -> None:
    """containerd is Docker's there: another one's, and ours, is none of its business."""
    for name, text in programs.items():
        put(place, f"there/{name}", f"#!/bin/sh\n{text}\n")
    error = refused(place, "alpha", facts=ROCKY)
    assert error is not None
    assert error.what == f"alpha has Docker's {told}."


def test_two_control_planes_are_refused(place: Path) -> None:
    hosts = {name: {"ansible_connection": "local"} for name in ("alpha", "beta")}
    (place / "hosts.json").write_text(json.dumps({"control_plane": {"hosts": hosts}}))
    with pytest.raises(HarnessError, match="2 control planes are named") as caught:
        ansible.play("parts.yml", place / "hosts.json", {}, place / "log", print)
    assert caught.value.next_step == "Name one or three in the group control_plane."
