"""The machines of a cluster: taken from an inventory, or made and removed again.

Called by `rollout` and `remains`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import CommandError, InputError
from harness.targets.kubernetes.chosen import Options
from harness.targets.vm import inventory, making, noted
from harness.targets.vm.containers import Containers
from harness.targets.vm.inventory import CONTROL_PLANE, WORKER, Host
from harness.targets.vm.making import Made, Maker, Tell, Wanted
from harness.targets.vm.noted import Noted
from harness.targets.vm.qemu import Qemu

MAKERS: Mapping[str, Callable[[Wanted], Maker]] = {"containers": Containers, "qemu": Qemu}
"""By what `--machines` calls them."""
_STARTED_SECONDS = 600.0
INVENTORY, KNOWN_HOSTS = "inventory.json", "known_hosts"


def taken(options: Options, tell: Tell) -> tuple[Noted, bool]:
    """What is noted of them, made first where that is asked; whether this call made them."""
    now, asked = noted.read(options.name), options.machines
    if now is not None and now.maker:
        return _again(options, now, tell)
    if asked.create:
        if now is not None:
            raise _another(options.name, now)
        return _make(options, options.image, tell), True
    found = named(options, now)
    for host in found.gone:
        tell(f"{host.name} is no part of {found.inventory} any more: it stays as it was made")
    noted.write(options.name, found)
    return found, False


def named(options: Options, now: Noted | None) -> Noted:
    """The hosts of the inventory that is given, or was; InputError if it is another one."""
    given = options.machines.inventory
    if not given and now is None:
        raise InputError(
            "Which machines are to become a cluster?",
            next_step="Name them: --inventory FILE. Or have some made: --create 3.",
        )
    file = str(Path(given).resolve()) if given else now.inventory if now else ""
    if now is not None and now.inventory != file:
        raise _another(options.name, now)
    found = Noted(file, inventory.read(Path(file)))
    has_a_part = {host.name for host in found.cluster}
    before = now.ever if now else []
    gone = tuple(host for host in before if host.name not in has_a_part)
    unreached = has_a_part - {host.name for host in before}
    return replace(found, gone=gone, unreached=tuple(sorted(unreached)))


def there_and_gone(name: str, now: Noted) -> tuple[list[Host], list[Host]]:
    """Its hosts that the inventory still names, and those that somebody took out of it.

    InputError if it names none of them: they may have other names now, and nothing tells.
    """
    named = inventory.names(Path(now.inventory))
    there = [host for host in now.ever if host.name in named]
    if not there:
        raise InputError(
            f"{now.inventory} names no host of the cluster {name} any more.",
            f"It was made on {', '.join(host.name for host in now.ever)}. Hosts that have other "
            "names now still have it, and it would be forgotten here.",
            "Name them there as they were called; or, if all of them are gone for good, remove "
            f"{noted.folder(name)}, which is what is kept of it here.",
        )
    return there, [host for host in now.ever if host.name not in named]


def maker(name: str, now: Noted) -> Maker:
    """What made them."""
    wanted = Wanted(name, now.mark, now.image, noted.folder(name), now.unaccelerated)
    return MAKERS[now.maker](wanted)


def remove(name: str, now: Noted) -> None:
    """Remove what we made, and what is noted of it."""
    if now.maker:
        maker(name, now).remove()
    noted.forget(name)


def left(name: str) -> list[str]:
    """What is there of machines that were made for a cluster of this name, in sentences."""
    found = [
        line
        for make in MAKERS.values()
        for line in make(Wanted(name, "", "", noted.folder(name))).left()
    ]
    return [*found, *([f"{noted.folder(name)} is there."] if noted.folder(name).exists() else [])]


def _again(options: Options, now: Noted, tell: Tell) -> tuple[Noted, bool]:
    """Those that were made before, started where they were stopped; half of them is made anew."""
    asked = options.machines
    others = asked.create and asked.control_planes != now.control_planes
    if asked.inventory or others or asked.create not in (0, len(now.names)):
        raise _another(options.name, now)
    if now.whole:
        maker(options.name, now).start()
        for host in now.hosts:  # as long as one that starts may take
            making.await_ssh(
                host.name, host.address, _STARTED_SECONDS, "See what its console says."
            )
        return now, False
    tell(f"the machines of {options.name} were left half made; they are made anew")
    remove(options.name, now)
    count = replace(
        asked, create=len(now.names), maker=now.maker, unaccelerated=now.unaccelerated,
        control_planes=now.control_planes,
    )  # fmt: skip
    return _make(replace(options, machines=count), options.image or now.image, tell), True


def _make(options: Options, image: str, tell: Tell) -> Noted:
    """Make them; of what is not finished all is removed again, unless it is to be kept."""
    name, asked = options.name, options.machines
    begun = Noted(
        str(noted.folder(name) / INVENTORY), (), asked.maker, f"{name}-{secrets.token_hex(4)}",
        image, asked.unaccelerated, tuple(f"{name}-{n + 1}" for n in range(asked.create)), False,
        asked.control_planes,
    )  # fmt: skip
    made_by = maker(name, begun)
    made_by.check()
    noted.write(name, begun)  # before anything is made, so that whoever is killed leaves a trace
    try:
        key = making.key(noted.folder(name))
        made = made_by.make(begun.names, making.public(key).read_text(), tell)
        _write_inventory(Path(begun.inventory), key, made, begun.control_planes)
        found = replace(begun, hosts=inventory.read(Path(begun.inventory)), whole=True)
        noted.write(name, found)
    except BaseException:
        if not options.keep:
            with contextlib.suppress(CommandError):  # it stays noted: `down` removes it
                remove(name, begun)
        raise
    return found


def _write_inventory(file: Path, key: Path, made: Sequence[Made], control_planes: int) -> None:
    """What Ansible and ssh need to reach them, and to know that it is they."""
    known = file.with_name(KNOWN_HOSTS)
    known.write_text("".join(f"{each.address} {each.host_key}\n" for each in made))
    told: dict[str, Any] = {
        each.name: {"ansible_host": each.address, "ansible_user": each.user} for each in made
    }
    first, others = list(told)[:control_planes], list(told)[control_planes:]
    arguments = (
        f"-o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null "
        f"-o 'UserKnownHostsFile=\"{known}\"'"
    )
    content = {
        "all": {
            "vars": {
                "ansible_ssh_private_key_file": str(key),
                "ansible_ssh_common_args": arguments,
            },
            "children": {
                CONTROL_PLANE: {"hosts": {each: told[each] for each in first}},
                WORKER: {"hosts": {each: told[each] for each in others}},
            },
        }
    }
    file.write_text(json.dumps(content, indent=1))  # which is YAML as well


def _another(name: str, now: Noted) -> InputError:
    made = f"{len(now.names)} machines that were made, control planes: {now.control_planes}"
    what = made if now.maker else f"those of {now.inventory}"
    return InputError(
        f"The machines of the cluster {name} are {what}.",
        "Other ones were asked for.",
        f"Take another --name, or end that one first: harness down --target vm --name {name}"
        f"{'' if now.maker else ' --reset'}.",
    )
