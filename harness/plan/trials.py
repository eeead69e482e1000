"""What a node is asked for: an experiment's blocks and trials as specs; for `controller`.

Here the seed becomes states, so that nodes know none.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.collectors import Definition, subject
from harness.model import FACTORIAL, Arm, Method, Trial, TrialKind
from harness.plan import design, parts, saturation
from harness.plan.experiment import Experiment, pattern
from harness.plan.workloads import SHIPPED, Workload
from harness.wire.spec import (
    BlockSpec,
    CollectorSpec,
    Found,
    Locustfile,
    Needs,
    Spawn,
    Timing,
    TrialMethod,
    TrialSpec,
    WindowState,
)

SLICE_SECONDS = 0.05  # of a metered trial
LEAST_SLICES = 24  # six quadruples: fewer give no interval
MIN_REQUESTS = 5  # in a window, or its cost per request is mostly chance
REFERENCE = "reference"  # added to the names of what the candidates are compared against
WITHIN_FRACTION = 0.15  # agents were seen to take three times what a quick request takes

Definitions = Mapping[str, Definition]
"""The collectors of an experiment, by how they are written there; resolved once."""

_METHODS: Mapping[Method, TrialMethod] = {
    "switch": "switch", "factorial": "switch", "twin": "twin", "block": "install",
}  # fmt: skip


_OF_KIND: Mapping[TrialKind, TrialMethod] = {"metered": "bpf_time", "saturated": "saturate"}


def block(e: Experiment, workload: Workload, number: int, rate: float | None) -> BlockSpec:
    """The block of this number; without a rate, which an earlier block found, it is found."""
    load = e.load(workload.name)
    return BlockSpec(
        name=f"{workload.name}-b{number}",
        service=service(workload),
        locustfile=_locustfile(workload),
        connections=load.connections,
        driver_seed=random.Random(f"{e.seed}/{workload.name}/{number}").getrandbits(32),
        rate=rate if rate is not None else load.rate,
        find_capacity=rate is None,
        fraction=_fraction(e, workload.name),
        max_rate=load.max_rate,
        warmup_seconds=e.warmup_seconds,
        warmup_limit_seconds=e.warmup_limit_seconds,
        capacity_seconds=e.calibration_seconds,
        window_seconds=e.window_seconds,
        least_requests=MIN_REQUESTS,
        arrivals=load.arrivals,
        login=workload.login,
        count_instructions=e.count_instructions,
        load_workers=e.load_workers,
    )


def _fraction(e: Experiment, workload: str) -> float:
    """Of the capacity; less, unless it is said, where a collector within may multiply the CPU."""
    within = any(map(subject.is_within, (spec for arm in e.arms for spec in arm.collectors)))
    return WITHIN_FRACTION if within and workload not in e.loads else e.load(workload).fraction


def service(workload: Workload) -> Spawn | Found:
    """How a service is had: its command, or where it runs. Paths of ours are told relatively."""
    if workload.running is not None:
        return workload.running
    return Spawn(
        name=workload.name,
        argv=tuple(word.replace("{dir}", str(workload.directory)) for word in workload.command)
        if workload.url
        else tuple(_told(word, workload) for word in workload.command),
        cwd=str(workload.directory) if workload.url else _told("{dir}", workload),
        environment={name: _told(text, workload) for name, text in workload.environment.items()},
        url=workload.url,
    )


def _told(word: str, workload: Workload) -> str:
    return word.replace("{dir}", str(workload.directory)).replace(str(SHIPPED), "{workloads}")


def _locustfile(workload: Workload) -> Locustfile | None:
    path = workload.locustfile
    if path is None:
        return None
    return Locustfile(str(path).replace(str(SHIPPED), "{workloads}"), path.read_text())


def trial(
    e: Experiment, planned: Trial, definitions: Definitions, without: Collection[str] = ()
) -> TrialSpec:
    """A trial of the plan, with the state of every collector in every window.

    Of a shared trial some collectors may be left out, by their names at the node.
    """
    arm = e.arm(planned.arm)
    method = _OF_KIND.get(planned.kind) or _METHODS[arm.method]
    resolved = [definitions[name] for name in arm.collectors]
    metered = [each for each in resolved if method != "bpf_time" or not _is_in_another(each)]
    candidates = tuple(map(collector, metered))
    references = tuple(collector(definitions[name], REFERENCE) for name in arm.against)
    cycled = arm.method == FACTORIAL and method in ("switch", "saturate")
    kept = [i for i, each in enumerate(candidates) if each.name not in without]
    return TrialSpec(
        name=planned.name,
        service=planned.workload,
        method=method,
        candidates=tuple(candidates[i] for i in kept),
        references=references,
        windows=tuple(_shared_windows(e, planned, kept))
        if cycled
        else tuple(
            WindowState(on, (on,) * len(kept) + (not on,) * len(references))
            for on in _states(e, arm, planned, method)
        ),
        swapped=planned.block % 2 == 1,
        timing=_timing(e, method, planned),
        cycle=design.cycle(len(design.factors(e))) if cycled else 4,
        shared=arm.method == FACTORIAL,
    )


def _is_in_another(definition: Definition) -> bool:
    """Whether it is a part of the service or of an agent: no programs are its own to meter."""
    found = definition.subject
    return found is not None and (found.is_within or found.option is not None)


def _shared_windows(e: Experiment, planned: Trial, kept: Sequence[int]) -> Iterator[WindowState]:
    """Each collector by its column of the design; the null factor's switches nothing."""
    cycles = design.cycles(e, e.seconds_of(planned))
    if planned.kind == "saturated":
        cycles = saturation.cycles(e)
    for states in design.states(len(design.factors(e)), cycles, planned.seed):
        on = tuple(states[i] for i in kept)
        yield WindowState(any(on), on, states)


def collector(definition: Definition, instance: str = "") -> CollectorSpec:
    """A collector as a node runs it; `instance` is added to its name where it runs twice."""
    if instance:
        definition = replace(definition, variant=f"{definition.variant},{instance}".strip(","))
    return CollectorSpec(
        name=definition.slug,
        agent=definition.agent,
        options=dict(definition.options),
        command=definition.command,
        signal=definition.signal,
        telemetry=definition.telemetry,
        scope=definition.scope,
        export_seconds=definition.export_seconds,
        tells_instance=definition.tells_instance,
        by_socket=definition.by_socket,
        writes_profiles=definition.writes_profiles,
        daemonset=definition.daemonset,
        subject=definition.subject,
    )


def needs(definitions: Definitions) -> dict[str, Needs]:
    """What each collector needs of the machine."""
    return {spec: Needs(d.slug, d.hooks, d.prefers, d.subject) for spec, d in definitions.items()}


def _states(e: Experiment, arm: Arm, planned: Trial, method: TrialMethod) -> Sequence[bool]:
    if method == "install":
        first = installed_first(e.seed, planned)
        return parts.states(first)
    if method == "bpf_time":
        slices = max(LEAST_SLICES, round(e.metered_seconds / SLICE_SECONDS))
        return pattern(-(-slices // 4), planned.seed) if arm.against else [True] * slices
    quadruples = e.quadruples_in(e.seconds_of(planned))
    return pattern(saturation.quadruples(e) if method == "saturate" else quadruples, planned.seed)


def installed_first(seed: int, planned: Trial) -> bool:
    """Whether the collectors are installed in the parts at the ends: by turns over the blocks."""
    coin = random.Random(f"{seed}/{planned.workload}/{planned.arm}").random() < 0.5
    return (planned.block % 2 == 0) == coin


def _window(e: Experiment, method: TrialMethod) -> float:
    if method == "saturate":
        return saturation.window_seconds(e)
    return SLICE_SECONDS if method == "bpf_time" else e.window_seconds


def _timing(e: Experiment, method: TrialMethod, planned: Trial) -> Timing:
    return Timing(
        settle=e.settle_seconds,
        window=_window(e, method),
        guard=saturation.guard_seconds(e) if method == "saturate" else e.guard_seconds,
        switched=e.seconds_of(planned),
        steady=e.steady_seconds if e.is_metered(planned.block) else 0.0,
        watched=e.watched_seconds,
        metered=e.metered_seconds,
        warmup=e.warmup_seconds,
        warmup_limit=e.warmup_limit_seconds,
        idle=e.idle_seconds,
        low_rate=e.low_rate_fraction,
    )
