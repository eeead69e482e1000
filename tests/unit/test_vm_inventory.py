"""What the hosts of an inventory are, by what `ansible-inventory --list` printed of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.targets.vm import inventory
from harness.targets.vm.inventory import CONTROL_PLANE, WORKER, Host

FILE = Path("hosts.ini")


def printed(variables: dict[str, dict[str, Any]], **groups: Any) -> dict[str, Any]:
    """As Ansible tells it: groups by name, all hosts' variables aside."""
    children = ["ungrouped", *groups]
    inside = {host for group in groups.values() for host in group.get("hosts", ())}
    told = {"_meta": {"hostvars": variables}, "all": {"children": children}, **groups}
    if loose := [host for host in variables if host not in inside]:
        told["ungrouped"] = {"hosts": loose}
    return told


def test_without_groups_the_first_host_is_the_control_plane() -> None:
    found = inventory.hosts(printed({"a": {}, "b": {}, "c": {}}), FILE)
    assert [(host.name, host.role) for host in found] == [
        ("a", CONTROL_PLANE), ("b", WORKER), ("c", WORKER),
    ]  # fmt: skip


def test_with_groups_what_is_in_neither_is_no_part_of_the_cluster() -> None:
    told = printed({"load": {}, "a": {}, "b": {}}, worker={"hosts": ["a"]},
                   control_plane={"hosts": ["b"]})  # fmt: skip
    found = inventory.hosts(told, FILE)
    assert {host.name: host.role for host in found} == {
        "load": "", "a": WORKER, "b": CONTROL_PLANE,
    }  # fmt: skip


def test_a_group_may_be_made_of_groups() -> None:
    told = printed({"a": {}, "b": {}}, racks={"children": ["left"]}, left={"hosts": ["b"]},
                   control_plane={"hosts": ["a"]}, worker={"children": ["racks"]})  # fmt: skip
    assert [host.role for host in inventory.hosts(told, FILE)] == [WORKER, CONTROL_PLANE]


def test_the_parts_are_told_to_ansible_as_they_were_understood() -> None:
    found = inventory.hosts(printed({"a": {}, "b": {}, "c": {}}), FILE)
    told = inventory.groups([*found, Host("load")])
    assert told == {CONTROL_PLANE: {"hosts": {"a": {}}}, WORKER: {"hosts": {"b": {}, "c": {}}}}


def test_how_ssh_gets_there_is_what_the_inventory_says() -> None:
    variables = {
        "ansible_host": "192.0.2.7", "ansible_user": "me", "ansible_port": 2222,
        "ansible_ssh_private_key_file": "/keys/id", "ansible_become_password": "secret",
        "ansible_ssh_common_args": "-o ProxyJump=gate -o 'UserKnownHostsFile=\"/a b\"'",
    }  # fmt: skip
    (host,) = inventory.hosts(printed({"box": variables}), FILE)
    jump = ("-o", "ProxyJump=gate", "-o", 'UserKnownHostsFile="/a b"')
    words = ("-i", "/keys/id", *jump)
    assert host == Host("box", CONTROL_PLANE, "192.0.2.7", "me", 2222, words)
    connection = host.connection()
    try:
        connection._folder = Path("/sockets")  # as once it is open
        argv = connection.argv("id")
    finally:
        connection._folder = None
    assert argv[0] == "ssh"
    at = argv.index("HostName=192.0.2.7")
    assert argv.index("BatchMode=yes") < at  # ours come first, and ssh keeps the first
    assert argv[at + 1 :] == [*words, "-T", "-l", "me", "-p", "2222", "--", "box", "id"]


@pytest.mark.parametrize(
    ("told", "what"),
    [
        (printed({}), "has no host"),
        (printed({"a": {}}, worker={"hosts": ["a"]}), "0 hosts of hosts.ini are in the group"),
        (
            printed({"a": {}, "b": {}}, control_plane={"hosts": ["a", "b"]}),
            "2 hosts of hosts.ini are in the group control_plane",
        ),
        (
            printed({"a": {}}, control_plane={"hosts": ["a"]}, worker={"hosts": ["a"]}),
            "a of hosts.ini is in both groups",
        ),
        (printed({"-oProxyCommand=x": {}}), "is no name for a host"),
        (printed({"a b": {}}), "is no name for a host"),
        (printed({"a": {"ansible_host": "{{ lookup('env', 'A') }}"}}), "to be worked out"),
        (printed({"a": {"ansible_port": "ssh"}}), "The port of a in hosts.ini is 'ssh'"),
    ],
)
def test_what_no_cluster_can_be_of_is_refused(told: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError) as caught:
        inventory.hosts(told, FILE)
    assert what in caught.value.what
    assert caught.value.next_step


def test_ansible_reads_the_file_and_is_quoted_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, script = tmp_path / "hosts.ini", tmp_path / "ansible-inventory"
    monkeypatch.setattr(inventory, "program", lambda name: str(tmp_path / name))
    with pytest.raises(InputError, match="There is no inventory"):
        inventory.read(file)
    file.write_text("a\n")
    answer = json.dumps(printed({"a": {}}))
    script.write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/said\necho '{answer}'\n")
    script.chmod(0o755)
    assert [host.name for host in inventory.read(file)] == ["a"]
    assert (tmp_path / "said").read_text() == f"--inventory {file} --list\n"
    script.write_text("#!/bin/sh\necho 'Failed to parse it' >&2\nexit 1\n")
    with pytest.raises(InputError, match="cannot read the inventory") as caught:
        inventory.read(file)
    assert "Failed to parse it" in caught.value.why


def test_names_are_read_also_where_no_cluster_can_be_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, script = tmp_path / "hosts.ini", tmp_path / "ansible-inventory"
    monkeypatch.setattr(inventory, "program", lambda name: str(tmp_path / name))
    file.write_text("a\n")
    told = printed({"a": {}, "b": {}}, control_plane={"hosts": ["a", "b"]})
    script.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
    script.chmod(0o755)
    assert inventory.names(file) == ["a", "b"]
    script.write_text("#!/bin/sh\necho '{}'\n")
    with pytest.raises(InputError, match="has no host"):
        inventory.names(file)
