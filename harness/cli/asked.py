"""What the options of `harness evaluate` ask for, names resolved; `evaluation` runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import targets
from harness.cli import choice, hosts
from harness.cli.options import DEFAULT, Options, run_folder
from harness.cli.reaching import reached
from harness.cli.screen import err
from harness.collectors import Definition
from harness.controller.remote_load import LoadTarget
from harness.errors import InputError
from harness.linux import arguments
from harness.plan import duration, running, trials, workloads
from harness.plan.definitions import changed, from_dict
from harness.plan.experiment import Experiment
from harness.plan.running import Running
from harness.plan.url import PORT, address, without_login
from harness.plan.workloads import Workload
from harness.results import certificates
from harness.results.run import Run
from harness.targets.base import OnMachine, Target
from harness.targets.local import Local

LOCAL = Local.name

# what says what is measured, and so cannot be said again of a run that goes on
_PLANNING = {
    "EXPERIMENT": "name", "--command": "command", "--url": "url", "--pid": "pid",
    "--cgroup": "cgroup", "--unit": "unit", "--container": "container",
    "--locustfile": "locustfile", "--arm": "arms", "--workload": "workload",
    "--duration": "duration", "--quick": "quick", "--rigorous": "rigorous", "--blocks": "blocks",
    "--minutes": "minutes", "--run": "run_name", "--stack": "stack",
    "--service-cpus": "service_cpus", "--load-workers": "load_workers", "--target": "target",
    "--load-target": "load_target", "--load-url": "load_url", "--host": "host",
    "--load-host": "load_host", "--inventory": "inventory",
}  # fmt: skip

_PLACES = ("run_name", "target", "host", "inventory")
"""Of these what says where, and so not what."""


@dataclass(frozen=True)
class Asked:
    """An experiment, the service of one's own in it, and where the run is or will be kept.

    `run` is one that goes on; `anyway` lets it go on on another machine. Without `load` the load
    comes from where the service is.
    """

    experiment: Experiment
    path: Path
    own: Workload | None = None
    run: Run | None = None
    certificate: dict[str, Any] = field(default_factory=dict)
    anyway: bool = False
    target: Target = field(default_factory=Local)
    described: Mapping[str, Any] | None = None
    load: LoadTarget | None = None

    def definitions(self) -> dict[str, Definition] | None:
        """The collectors of a run that goes on, as they were when it began."""
        kept = self.run.about().collectors if self.run is not None else None
        if not kept:
            return None
        if (others := changed(kept)) and not self.anyway and self.target.name == "local":
            raise InputError(
                f"The program of collector {others[0]!r} is another one than when the run began.",
                "Its report would be of both, as if they were one.",
                "Begin another run, or go on with --anyway.",
            )
        return {spec: from_dict(each) for spec, each in kept.items()}


def asked(options: Options, ends: ExitStack) -> Asked:
    """Resolve the options; InputError where they contradict each other, or name nothing.

    What is installed on the target for that is removed by `ends`.
    """
    arguments.conceal(without_login(options.url)[1])
    if options.resume is not None:
        return _going_on(options, options.resume, ends)
    if options.anyway:
        raise InputError(
            "--anyway is for a run that is resumed.", next_step="Give --resume RUN too, or neither."
        )
    options = hosts.named(options)
    target = targets.target(options.target)
    own = _own(options, here=target.name == LOCAL)
    load = _load(options, own, target)
    if options.run_name:
        run_folder(options.reports, options.run_name, "")  # refused before the target is entered
    described = describe(target, options, ends)
    certificate = choice.certified(options.reports, described["facts"]) if described else {}
    if described and certificates.outdated(options.reports, described["facts"]):
        err.print(
            "This machine's certificate was written by an earlier version and is not used: "
            "`harness calibrate` makes one, `harness calibrate --report RUN` renews it.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    experiment = choice.chosen(
        options.name or DEFAULT, own=own, arms=options.arms or (),
        workloads=_shipped(options), minutes=options.minutes, stack=options.stack,
        service_cpus=options.service_cpus, load_workers=options.load_workers,
        defaults=certificate,
    )  # fmt: skip
    experiment = _long(options, experiment)
    for name in experiment.workloads:
        service = own if own is not None and name == own.name else workloads.load(name)
        target.check_service(trials.service(service))
    if not isinstance(target, OnMachine):
        _require_no_twins(experiment)
    if load is not None:
        load.check(experiment)
        if not options.plan:
            ends.enter_context(reached(load.target))
    return Asked(
        experiment, _path(options, experiment), own,
        certificate=certificate, target=target, described=described, load=load,
    )  # fmt: skip


def _require_no_twins(experiment: Experiment) -> None:
    """InputError if an arm needs two processes of a service, which in a cluster is one pod."""
    if twins := [arm.name for arm in experiment.arms if arm.method == "twin"]:
        raise InputError(
            f"The arm {twins[0]!r} cannot be measured in a cluster.",
            "Its method is twin, two processes of the service side by side, and there a service is "
            "one pod.",
            "Choose method switch or block, or measure on a machine: --target local or ssh:HOST.",
        )


def names_something(options: Options) -> bool:
    """Whether anything says what is to be measured, or that a default is meant (`--plan`)."""
    fresh = Options()
    given = [
        name for name in _PLANNING.values()
        if name not in _PLACES and getattr(options, name) != getattr(fresh, name)
    ]  # fmt: skip
    return bool(given) or options.plan or options.resume is not None


def _long(options: Options, experiment: Experiment) -> Experiment:
    """As long as it is asked for; InputError if that is said twice."""
    lengths = {"--duration": options.duration, "--quick": options.quick,
               "--rigorous": options.rigorous, "--blocks": options.blocks}  # fmt: skip
    named = [option for option, value in lengths.items() if value]
    if len(named) > 1:
        raise InputError(
            f"{' and '.join(named)} each say how long it is to take.", next_step="Give one of them."
        )
    if options.duration:
        return duration.lasting(experiment, duration.seconds(options.duration))
    if options.blocks is not None:
        return duration.in_blocks(experiment, options.blocks)
    if options.quick:
        return duration.quick(experiment)
    return duration.rigorous(experiment) if options.rigorous else experiment


def describe(target: Target, options: Options, ends: ExitStack) -> Mapping[str, Any] | None:
    """What the node says of itself; nothing where it would have to be installed for a plan."""
    if options.plan and target.name != LOCAL:
        return None
    if not options.plan:  # which changes nothing, and needs no root
        ends.enter_context(reached(target))
    found: Mapping[str, Any] = target.ask("describe")
    return found


def _going_on(options: Options, path: Path, ends: ExitStack) -> Asked:
    fresh = Options()
    login = without_login(options.url)[1]
    extra = [
        option
        for option, name in _PLANNING.items()
        if getattr(options, name) not in (getattr(fresh, name), [])
        and not (option == "--url" and login)  # which a run does not keep
    ]
    if extra:
        raise InputError(
            f"A run that is resumed goes on as it was asked for: {', '.join(extra)} cannot be "
            "given with --resume.",
            next_step="Leave them out, or begin a new run without --resume.",
        )
    run = Run.open(path)
    about = run.about()
    own, target = _own_again(about.own_workload, options.url), targets.target(about.target)
    kept = about.load_node
    load = LoadTarget(targets.target(kept["target"]), kept["url"]) if kept else None
    if not options.plan:
        for each in (target, load.target) if load else (target,):
            ends.enter_context(reached(each))
    return Asked(
        run.experiment(), path, own, run, anyway=options.anyway, target=target, load=load,
    )  # fmt: skip


def _own_again(stored: Mapping[str, Any] | None, url: str) -> Workload | None:
    """`url` may be given to say a login again."""
    if stored is not None:
        return workloads.again(stored, url)
    if url:
        raise InputError(
            "The run measures no service of your own, for which --url could be.",
            next_step="Give --resume without --url.",
        )
    return None


def _shipped(options: Options) -> list[str]:
    """The services that ship among the workloads; NAMESPACE/NAME is one of a cluster."""
    return [each for each in options.workload or () if "/" not in each]


def _running(options: Options) -> Running | None:
    shipped = _shipped(options)
    deployed = [each for each in options.workload or () if each not in shipped]
    if len(deployed) > 1:
        raise InputError(
            f"{' and '.join(deployed)} are {len(deployed)} services of your own.",
            "A run measures one, or those that ship.",
            "Give one of them.",
        )
    found = {"--pid": options.pid is not None, "--cgroup": options.cgroup, "--unit": options.unit,
             "--container": options.container, "--workload": deployed}  # fmt: skip
    named = [option for option, value in found.items() if value]
    if not named:
        return None
    other = {"--command": options.command, "--workload": shipped}
    if starts := [option for option, value in other.items() if value]:
        raise InputError(
            f"{starts[0]} starts a service, {named[0]} names one that runs already.",
            next_step="Give one of them.",
        )
    return Running(
        options.url, options.pid, options.cgroup, options.unit, options.container, *deployed
    )


def _own(options: Options, here: bool) -> Workload | None:
    if (found := _running(options)) is not None:
        return running.service(found, options.locustfile)
    if options.command or options.url:
        return workloads.own(options.command, options.url, options.locustfile, here=here)
    if options.locustfile is not None:
        raise InputError(
            "--locustfile drives a program of your own.", next_step="Give --command and --url too."
        )
    return None


def _load(options: Options, own: Workload | None, target: Target) -> LoadTarget | None:
    """Where the load comes from, if not from beside the service."""
    if not options.load_target:
        if options.load_url:
            raise InputError(
                "--load-url is for load from another machine.",
                next_step="Give --load-target too, or neither.",
            )
        return None
    if options.load_target == options.target:
        raise InputError(
            f"--load-target and --target are the same: {options.target}.",
            "The load comes from there as it is.",
            "Leave --load-target out, or name another machine.",
        )
    if own is None and isinstance(target, OnMachine):
        raise InputError(
            "--load-target needs a service of your own.",
            "The services that ship listen on the loopback address of the machine they run on.",
            "Give --command and --url, or --url and one of --pid, --cgroup, --unit, --container.",
        )
    url, login = without_login(options.load_url)
    if login:
        raise InputError("--load-url has a login.", next_step="Give it in --url, and only there.")
    if url and own is not None and PORT in own.url:
        raise InputError(
            f"--url {own.url} leaves the port open, and --load-url says where it is reached.",
            "Each process of your program gets another port.",
            "Leave --load-url out, or give a port in --command and in both.",
        )
    if url:
        address(url)
    return LoadTarget(targets.target(options.load_target), url)


def _path(options: Options, experiment: Experiment) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", experiment.name.lower()).strip("-") or "run"
    return run_folder(options.reports, options.run_name, slug)
