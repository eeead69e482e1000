"""Ansible's playbooks, run on the machines of a cluster, and the way in; for `rollout`."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ComponentError, InputError
from harness.linux import processes
from harness.targets.kubernetes.chosen import Options
from harness.targets.vm import ansible, inventory, noted
from harness.targets.vm.ansible import Recap
from harness.targets.vm.making import Tell
from harness.targets.vm.noted import Noted

_ADMIN, _GROUPS = "admin.conf", "groups.json"


def require() -> None:
    """NeedError if Ansible is not there."""
    for name in ("ansible-playbook", "ansible-inventory"):
        inventory.program(name)


def make(options: Options, found: Noted, tell: Tell) -> bool:
    """Make the machines a cluster, or complete it; whether anything was changed on them.

    The way in is kept with what is noted, under a context that is called by the cluster's name.
    """
    folder = noted.folder(options.name)
    given = {**_given(options), "kubeconfig": str(folder / _ADMIN)}
    recap = _play("site.yml", options, found, given, tell)
    _keep_way_in(options.name, folder)
    return any(counts.changed for counts in recap.values())


def upgrade(options: Options, found: Noted, tell: Tell) -> bool:
    """Bring the cluster to the version that is asked for; whether anything was changed."""
    given = {**_given(options), "upgrade_version": options.machines.upgrade}
    recap = _play("upgrade.yml", options, found, given, tell)
    return any(counts.changed for counts in recap.values())


def reset(options: Options, found: Noted, tell: Tell) -> None:
    """Take the cluster off the machines, which are then as they were."""
    _play("reset.yml", options, found, {}, tell, [host.name for host in found.cluster])


def _given(options: Options) -> dict[str, Any]:
    """The variables that are set; an upgrade says which packages are meant by then."""
    given = dict(map(_variable, options.machines.variables))
    if version := options.machines.upgrade:
        given["cluster_minor"] = ".".join(version.removeprefix("v").split(".")[:2])
    return given


def _play(
    playbook: str,
    options: Options,
    found: Noted,
    variables: Mapping[str, Any],
    tell: Tell,
    limit: Sequence[str] = (),
) -> Recap:
    """Run it on all hosts, or on no others than these: what the inventory itself says goes on."""
    folder = noted.folder(options.name)
    groups = folder / _GROUPS
    groups.write_text(json.dumps(inventory.groups(found.hosts)))
    log = folder / noted.LOG
    # of two of one person here the names tell them apart
    owner = f"harness --name {options.name} of user {os.getuid()} on {socket.gethostname()}"
    given = {**variables, "cluster_owner": owner}
    return ansible.play(
        playbook, [Path(found.inventory), groups], given, log, tell,
        limit=limit, alone=lambda host: noted.reached(options.name, host),
    )  # fmt: skip


def _keep_way_in(name: str, folder: Path) -> None:
    admin, context = folder / _ADMIN, f"vm-{name}"
    if not admin.exists():
        raise ComponentError(
            f"The cluster {name} was made, and no way into it was fetched.",
            f"There is no {admin}.",
            f"{folder / noted.LOG} has what Ansible said.",
        )
    draft = folder / f".{noted.KUBECONFIG}"
    shutil.copyfile(admin, draft)
    draft.chmod(0o600)
    kubectl = ["kubectl", f"--kubeconfig={draft}", "config"]
    was = processes.run([*kubectl, "current-context"]).stdout.strip()
    if was != context:
        processes.run([*kubectl, "rename-context", was, context])
    draft.replace(folder / noted.KUBECONFIG)


def _variable(given: str) -> tuple[str, Any]:
    """NAME=VALUE; lists, mappings, truths, whole numbers are JSON; a version, as 1.30, is text."""
    name, _, value = given.partition("=")
    if value.startswith(("[", "{")) or value in ("true", "false") or value.isdecimal():
        try:
            return name, json.loads(value)
        except ValueError as error:
            raise InputError(
                f"The value of --set {name} cannot be read: {error}.",
                next_step="A list is written as JSON: --set 'cluster_ignore_preflight=[\"Swap\"]'.",
            ) from error
    return name, value
