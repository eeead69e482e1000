"""A roll-out on machines: they become a cluster, which is then one that exists; `cli` asks.

What comes after the cluster is the profile's, the same as in any cluster that exists.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from harness.errors import NeedError
from harness.targets.kubernetes import (
    archive,
    chosen,
    dashboards,
    helm,
    images,
    keepers,
    meant,
    profiles,
    sources,
    values,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.preflight import Check
from harness.targets.kubernetes.profiles import Profile
from harness.targets.kubernetes.rollout import RolledOut, Tell, timed
from harness.targets.vm import inventory, machines, nodes, noted, site
from harness.targets.vm.inventory import CONTROL_PLANE, WORKER
from harness.targets.vm.noted import Noted


def of(options: Options) -> Profile:
    """The profile that is meant, around it the machines where those are the target."""
    found = profiles.of(options)
    if options.target != "vm":
        return found
    return Profile(
        partial(up, found), partial(plan, found), partial(status, found), partial(down, found),
        partial(left, found), found.pages,
    )  # fmt: skip


def up(profile: Profile, options: Options, tell: Tell) -> RolledOut:
    """Make the machines a cluster, then go on in it; machines that this call made go if it fails.

    What changed nothing on the machines and in the cluster is told so.
    """
    chosen.check(options)
    with chosen.alone(options):
        phases: dict[str, float] = {}
        with timed(phases, "checks", tell):
            chosen.require_tools(options)
            site.require()
            sources.carried(options)
            if options.machines.upgrade:
                chosen.on_machines(options)  # NeedError without a cluster
        with timed(phases, "machines", tell):
            found, fresh = machines.taken(options, tell)
        try:
            done = _on(profile, options, found, phases, tell)
        except BaseException:
            if fresh and not options.keep:
                tell("the machines that were made for it are removed again; --keep keeps them")
                machines.remove(options.name, found)
            raise
        done.changed = done.changed or fresh
        return done


def _on(
    profile: Profile, options: Options, found: Noted, phases: dict[str, float], tell: Tell
) -> RolledOut:
    """The cluster on these machines, then what goes into it."""
    changed = False
    if options.machines.upgrade:
        with timed(phases, "upgrade", tell):
            changed = site.upgrade(options, found, tell)
    with timed(phases, "cluster", tell):
        changed = site.make(options, found, tell) or changed
    options = _settled(options)
    if not options.registry:
        with timed(phases, "images", tell):
            _load(options, found, tell)
    done = profile.up(chosen.on_machines(options), tell)
    spent = phases["checks"] + done.phases.get("checks", 0.0)
    done.phases = {**phases, **done.phases, "checks": spent}
    done.changed = done.changed or changed
    return done


def _settled(options: Options) -> Options:
    """With who keeps each signal, by what is in the cluster or else in the bundle.

    Its images are needed on the machines before the cluster is taken for one that exists, which
    knows of no bundle.
    """
    if options.profile == "production":
        return options
    return meant.settled(options, _release(options), sources.carried(options))


def _release(options: Options) -> dict[str, Any] | None:
    return helm.state(chosen.existing(chosen.on_machines(options)))


def _load(options: Options, found: Noted, tell: Tell) -> None:
    """What the nodes would otherwise pull, or could not: a bundle's images, or docker's of here."""
    ours = images.name()
    # of production charts name images that the nodes pull; backends of a person's own need none
    alone = options.profile == "production" or options.external
    given = archive.own_values(
        grafana=options.dashboards != dashboards.NONE, keeps=keepers.settled(options.keepers)
    )
    wanted = [ours] if alone else values.images(given)
    with nodes.reached(found.cluster) as there:
        sources.load(there, sources.carried(options), wanted, tell)


def plan(profile: Profile, options: Options) -> dict[str, Any]:
    """What `up` would make, and of which machines; it changes nothing."""
    found = profile.plan(options)
    found["machines"] = _planned(options)
    found["cluster"] = {"nodes": [each for each in found["machines"] if each["role"]]}
    if options.machines.upgrade:
        found["cluster"]["upgrade"] = options.machines.upgrade
    found["checks"] = [*found["checks"], *(vars(check) for check in _ansible())]
    return found


def _planned(options: Options) -> list[dict[str, str]]:
    now, asked = noted.read(options.name), options.machines
    if now is None and asked.create:
        roles = [CONTROL_PLANE] * asked.control_planes + [WORKER] * asked.create
        return [
            _told(f"{options.name}-{number + 1}", roles[number], "", asked.maker)
            for number in range(asked.create)
        ]
    if now is None or not now.maker:
        now = machines.named(options, now)
    return machine_list(now)


def machine_list(now: Noted) -> list[dict[str, str]]:
    """Its machines, as they are told."""
    return [_told(each.name, each.role, each.address, now.maker) for each in now.hosts]


def _told(name: str, role: str, address: str, maker: str) -> dict[str, str]:
    return {"name": name, "role": role, "address": address, "made": maker}


def _ansible() -> list[Check]:
    try:
        return [Check("Ansible is installed", True, inventory.program("ansible-playbook"))]
    except NeedError as error:
        return [Check("Ansible is installed", False, "", error.next_step)]


def status(profile: Profile, options: Options) -> dict[str, Any]:
    """How it is, and on which machines."""
    now = noted.read(options.name)
    found = profile.status(options)
    return {**found, "machines": machine_list(now) if now else []}


def down(profile: Profile, options: Options, tell: Tell) -> list[str]:
    """Remove machines that we made; of others take the stack off them, or the cluster as well."""
    chosen.check(options)
    with chosen.alone(options):
        now = noted.read(options.name)
        if now is None:
            return []
        names = ", ".join(now.names if now.maker else [host.name for host in now.ever])
        if now.maker:
            tell(f"removing {names}")
            machines.remove(options.name, now)
            return [f"The machines {names} were removed."]
        if not now.ever:
            machines.remove(options.name, now)
            return [f"On no host of {now.inventory} was anything begun: nothing was made of them."]
        if options.machines.reset:
            return _reset(options, now, tell)
        again = f"harness down --target vm --name {options.name} --reset takes it off them."
        if not (noted.folder(options.name) / noted.KUBECONFIG).exists():
            return [f"It had not come to a cluster. What was begun stays on {names}: {again}"]
        done = profile.down(chosen.on_machines(options), tell)
        return [*done, f"The cluster stays on {names}: {again}"]


def _reset(options: Options, now: Noted, tell: Tell) -> list[str]:
    """Of hosts that somebody took out of the inventory, as those that are gone, only say so."""
    there, gone = machines.there_and_gone(options.name, now)
    site.reset(options, replace(now, hosts=tuple(there)), tell)
    machines.remove(options.name, now)
    left_out = f"is not in {now.inventory} any more: nothing was taken off it."
    return [
        f"The cluster was taken off {', '.join(host.name for host in there)}.",
        *(f"{host.name} {left_out}" for host in gone),
    ]


def left(profile: Profile, options: Options) -> list[str]:
    """What is there of it, in sentences; of a cluster that stays, what is there in it."""
    now = noted.read(options.name)
    if now is None or now.maker:
        return machines.left(options.name)
    if not (noted.folder(options.name) / noted.KUBECONFIG).exists():
        names = ", ".join(host.name for host in now.ever)
        return [f"What was begun on {names} is there."]
    return profile.left(chosen.on_machines(options))


def require_cluster(name: str) -> Noted:
    """What is noted of it; NeedError if `up` made no cluster of this name."""
    found = noted.read(name)
    if found is None or not found.whole:
        raise NeedError(
            f"There is no cluster {name} that `harness up --target vm` made.",
            next_step="Make it: harness up --target vm --inventory FILE, or --create 3.",
        )
    return found
