"""What is noted of a cluster on machines: which they are, who made them; for `machines`, `site`.

It is in `$XDG_STATE_HOME/harness/vm/NAME`, with the kubeconfig, the log of Ansible and, of machines
that we made, the key that opens them. Passwords and tokens are not.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import InputError, StoreError
from harness.targets.kubernetes import chosen
from harness.targets.vm.inventory import Host
from harness.wire import codec
from harness.wire.files import write_whole

FILE, KUBECONFIG, LOG = "machines.json", "kubeconfig", "ansible.log"


@dataclass(frozen=True)
class Noted:
    """The hosts of a cluster; of machines that we made also how, and the `mark` that they carry.

    `inventory` is the person's file, or the one that we wrote. One that is not `whole` was left
    in the middle of being made. The first `control_planes` of its `names` are such. `gone` are of a
    person's inventory no more, or of no part of it, and have what was made of them all the same.
    `unreached` are names of `hosts` at which nothing was done yet, as of one that is mistyped.
    """

    inventory: str
    hosts: tuple[Host, ...] = ()
    maker: str = ""
    mark: str = ""
    image: str = ""
    unaccelerated: bool = False
    names: tuple[str, ...] = ()
    whole: bool = True
    control_planes: int = 1
    gone: tuple[Host, ...] = ()
    unreached: tuple[str, ...] = ()

    @property
    def cluster(self) -> list[Host]:
        """Those that make the cluster."""
        return [host for host in self.hosts if host.role]

    @property
    def members(self) -> list[Host]:
        """Those of them at which something was done."""
        return [host for host in self.cluster if host.name not in self.unreached]

    @property
    def ever(self) -> list[Host]:
        """Those, and those that were: from all of them the cluster is to be taken at last."""
        return [*self.members, *self.gone]

    @property
    def caution(self) -> str:
        """What a reader must know of figures from there."""
        if self.unaccelerated:
            return (
                "The machines are emulated, instruction by instruction: what is slow there is the "
                "emulation, and the numbers say nothing of a real machine."
            )
        if self.maker:
            kernel = "kernel and CPUs" if self.maker == "containers" else "CPUs"
            return (
                f"The machines share this machine's {kernel}: what runs on the others, the control "
                "plane among them, takes CPU from what was measured."
            )
        return ""


def read(name: str) -> Noted | None:
    """What is noted of a cluster of this name; StoreError if that cannot be read."""
    file = folder(name) / FILE
    try:
        return codec.load(Noted, json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{file} cannot be read: {error}",
            "It says which machines were made, so that those and no others are removed.",
            "Remove by hand what is left of them, then that folder.",
        ) from error


def write(name: str, noted: Noted) -> None:
    """Note it."""
    folder(name).mkdir(parents=True, exist_ok=True)
    folder(name).chmod(0o700)
    write_whole(folder(name) / FILE, json.dumps(codec.dump(noted), indent=1), lasting=True)


def reached(name: str, host: str) -> None:
    """Note that something is about to be done at this host of a cluster."""
    now = read(name)
    if now is not None and host in now.unreached:
        others = tuple(each for each in now.unreached if each != host)
        write(name, replace(now, unreached=others))


def forget(name: str) -> None:
    """Nothing of it is noted any more."""
    shutil.rmtree(folder(name), ignore_errors=True)
    for parent in (folder(name).parent, folder(name).parent.parent):
        with contextlib.suppress(OSError):
            parent.rmdir()


def folder(name: str) -> Path:
    """Where it is noted."""
    return chosen.home(name, "vm")


def host(noted: Noted, name: str) -> Host:
    """The host of this name; InputError if there is none."""
    found = next((each for each in noted.hosts if each.name == name), None)
    if found is None:
        raise InputError(
            f"There is no host {name!r} in {noted.inventory}.",
            f"It has {', '.join(each.name for each in noted.hosts)}.",
            "Name one of them.",
        )
    return found
