"""The hosts of an inventory as Ansible reads it, and their parts; for `machines` and `noted`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, NeedError
from harness.linux import processes
from harness.targets import openssh
from harness.targets.openssh import Connection

CONTROL_PLANE, WORKER = "control_plane", "worker"
"""Ansible's groups whose hosts make the cluster."""
_SECONDS = 120.0
_STRICT = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1", "ANSIBLE_NOCOLOR": "1"}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class Host:
    """One host: its part in the cluster, empty for one that is none of it, and how ssh gets there.

    What is empty or 0 is left to ssh's own configuration. `words` are further arguments of ssh.
    """

    name: str
    role: str = ""
    address: str = ""
    user: str = ""
    port: int = 0
    words: tuple[str, ...] = ()

    def connection(self) -> Connection:
        """A new connection, opened by its first use."""
        named = ("-o", f"HostName={self.address}") if self.address else ()
        return Connection(openssh.Host(self.name, self.user, self.port), (*named, *self.words))


def program(name: str) -> str:
    """Where a program of Ansible's is: beside this Python, or on PATH. NeedError if it is not."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise NeedError(
            f"Ansible is not installed: there is no {name}.",
            "Machines become a cluster by its playbooks.",
            "Install it beside the harness: pip install 'harness[vm]'; or ansible-core on PATH.",
        )
    return found


def read(file: Path) -> tuple[Host, ...]:
    """All hosts in the inventory's order; InputError if it has none, or no cluster can be of them.

    Without the groups `control_plane` and `worker` the first host is the control plane, the others
    are workers. With them what is in neither is no part of the cluster.
    """
    return hosts(_listed(file), file)


def names(file: Path) -> list[str]:
    """What its hosts are called, also where no cluster can be of them; InputError without any."""
    return _names(_listed(file), file)


def _listed(file: Path) -> dict[str, Any]:
    """What `ansible-inventory --list` prints."""
    if not file.exists():
        raise InputError(f"There is no inventory {file}.", next_step="Name another file.")
    argv = [program("ansible-inventory"), "--inventory", str(file), "--list"]
    done = processes.run(argv, check=False, timeout=_SECONDS, env=_STRICT)
    try:
        found = json.loads(done.stdout) if not done.returncode else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        said = " ".join(done.stderr.split())[-400:]
        raise InputError(
            f"Ansible cannot read the inventory {file}.",
            said,
            f"Mend it, until this works: ansible-inventory --inventory {file} --list.",
        )
    return found


def hosts(found: Mapping[str, Any], file: Path) -> tuple[Host, ...]:
    """The same of what `ansible-inventory --list` printed."""
    called = _names(found, file)
    roles = _roles(found, called, file)
    variables = found.get("_meta", {}).get("hostvars", {})
    return tuple(_host(name, roles.get(name, ""), variables.get(name, {}), file) for name in called)


def groups(of: Sequence[Host]) -> dict[str, Any]:
    """An inventory that tells each host's part and no more, for Ansible to read beside theirs."""
    return {
        role: {"hosts": {host.name: {} for host in of if host.role == role}}
        for role in (CONTROL_PLANE, WORKER)
    }


def _names(found: Mapping[str, Any], file: Path) -> list[str]:
    called = list(dict.fromkeys(_members(found, "all")))
    if not called:
        raise InputError(f"The inventory {file} has no host.", next_step="Write one into it.")
    return called


def _members(found: Mapping[str, Any], group: str) -> Iterator[str]:
    """Its hosts, and those of the groups in it."""
    told = found.get(group, {})
    yield from told.get("hosts", ())
    for child in told.get("children", ()):
        yield from _members(found, child)


def _roles(found: Mapping[str, Any], names: Sequence[str], file: Path) -> dict[str, str]:
    control, workers = (list(_members(found, role)) for role in (CONTROL_PLANE, WORKER))
    if not control and not workers:
        return {name: WORKER if number else CONTROL_PLANE for number, name in enumerate(names)}
    if both := sorted(set(control) & set(workers)):
        raise InputError(
            f"{', '.join(both)} of {file} is in both groups, {CONTROL_PLANE} and {WORKER}.",
            next_step="Leave it in one of them.",
        )
    if len(control) % 2 == 0:
        raise InputError(
            f"{len(control)} hosts of {file} are in the group {CONTROL_PLANE}.",
            "A cluster keeps what it knows on them, and needs more than half of them to go on.",
            "Put one host there, or three.",
        )
    return {**dict.fromkeys(control, CONTROL_PLANE), **dict.fromkeys(workers, WORKER)}


def _host(name: str, role: str, given: Mapping[str, Any], file: Path) -> Host:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} in {file} is no name for a host.",
            next_step="Give it a name of letters and digits, its address as ansible_host.",
        )

    def said(*keys: str) -> str:
        """The first of these variables that is set."""
        value = next((str(given[key]) for key in keys if given.get(key) not in (None, "")), "")
        if "{{" in value:
            raise InputError(
                f"{keys[0]} of {name} in {file} is to be worked out by Ansible: {value}",
                "Images are brought to the host, and evaluations, by ssh itself.",
                "Write it out, or say it in your configuration of ssh.",
            )
        return value

    key = said("ansible_ssh_private_key_file", "ansible_private_key_file")
    port = said("ansible_port", "ansible_ssh_port")
    if port and not port.isdigit():
        raise InputError(f"The port of {name} in {file} is {port!r}.", next_step="Give a number.")
    return Host(
        name,
        role,
        said("ansible_host", "ansible_ssh_host"),
        said("ansible_user", "ansible_ssh_user"),
        int(port or 0),
        (
            *(("-i", str(Path(key).expanduser())) if key else ()),
            *shlex.split(said("ansible_ssh_common_args")),
            *shlex.split(said("ansible_ssh_extra_args")),
        ),
    )
