"""CPUs shared out among the roles, and lists of CPUs as the kernel writes them.

A node does it; `--plan` shows what it would do, and a report repeats the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.wire.spec import Placement

MANY = 4  # CPUs of a service, from which on the load's one thread may be what limits it

Cores = list[tuple[int, ...]]  # the usable hardware threads of each core


def plan(
    cpus: Sequence[int],
    siblings: Mapping[int, Sequence[int]],
    service_cpus: int = 0,
    load_workers: int = 1,
) -> Placement:
    """Share out `cpus`; `siblings` maps each to the hardware threads of its core.

    With one CPU all share it, with two the service has the first, with three each role has one.
    From four on the load and the collectors have a core each, and the service all that is left,
    or `service_cpus` of it if that is not 0. The load needs no more than a core on any machine: its
    driver is one thread. Where it is `load_workers` threads it has so many more cores as hold them,
    while one is left for the service; none says that they are elsewhere. Cores are kept whole where
    there are three or more.
    """
    cores = _cores(cpus, siblings)
    if len(cpus) < 3:
        place = _together(cores)
    elif len(cpus) == 3:
        place = _one_each(cores)
    elif len(cores) < 3:
        place = _few_cores(cores)
    else:
        place = _core_each(cores, load_workers)
    limited = _limited(place, cores, service_cpus)
    told = [_shares(limited, cpus), *_doubts(limited, cores, len(place.workload), service_cpus)]
    told += _of_load(limited, load_workers)
    return replace(limited, why=" ".join(told))


def _cores(cpus: Sequence[int], siblings: Mapping[int, Sequence[int]]) -> Cores:
    """The usable threads of each core, in the order of their first ones."""
    cores: Cores = []
    for cpu in sorted(cpus):
        if not any(cpu in core for core in cores):
            twins = {cpu, *siblings.get(cpu, ())} & set(cpus)
            cores.append(tuple(sorted(twins - {each for core in cores for each in core})))
    return cores


def _together(cores: Cores) -> Placement:
    """One or two CPUs: the service has the first, and the rest is everybody else's."""
    first, *rest = sorted(cpu for core in cores for cpu in core)
    others = tuple(rest) or (first,)
    return Placement((first,), others, others, others, "")


def _one_each(cores: Cores) -> Placement:
    """Three CPUs: the service has the one that shares its core with the fewest."""
    service = min(cores, key=len)[0]
    load, collector = (cpu for core in cores for cpu in core if cpu != service)
    return Placement((service,), (load,), (collector,), (collector,), "")


def _few_cores(cores: Cores) -> Placement:
    """One or two cores of many threads: the service keeps a whole core if there are two."""
    service, rest = max(cores, key=len), min(cores[::-1], key=len)
    if len(cores) == 1:
        service, rest = service[:-2], service[-2:]
    load, others = (rest[:1], rest[1:]) if len(rest) > 1 else (rest, rest)
    return Placement(service, load, others, others[-1:], "")


def _core_each(cores: Cores, load_workers: int) -> Placement:
    """Three cores or more: the load and the collectors have the smallest, the last of them.

    Several load workers have as many more of these as they need, while the service keeps one.
    """
    in_turn = sorted(cores, key=lambda core: (len(core), -core[0]))
    load, collector = sorted(in_turn[:2])
    for core in in_turn[2:-1]:
        load += core if len(load) < load_workers else ()
    service = sorted(cpu for core in cores for cpu in core if cpu not in (*load, *collector))
    return Placement(tuple(service), tuple(sorted(load)), collector, collector[-1:], "")


def _limited(place: Placement, cores: Cores, most: int) -> Placement:
    """At most so many CPUs for the service, of as many cores; other threads of these stay idle."""
    if not 0 < most < len(place.workload):
        return place
    own = [[cpu for cpu in core if cpu in place.workload] for core in cores]
    in_turn = sorted((turn, cpu) for core in own for turn, cpu in enumerate(core))
    service = tuple(sorted(cpu for _, cpu in in_turn[:most]))
    touched = (cpu for core in own if set(core) & set(service) for cpu in core)
    idle = tuple(sorted(set(touched) - set(service)))
    return replace(place, workload=service, idle=idle)


def _shares(place: Placement, cpus: Sequence[int]) -> str:
    """Who has which of how many CPUs."""
    if len(cpus) == 1:
        return "1 CPU: the service, the load and the collectors share it and disturb each other."
    service = f"{len(cpus)} CPUs: the service has {len(place.workload)} ({names(place.workload)})"
    if place.load == place.collector:
        return f"{service}, the load and the collectors share {names(place.load)}."
    return f"{service}, the load {names(place.load)}, the collectors {names(place.collector)}."


def _doubts(place: Placement, cores: Cores, left: int, most: int) -> Iterable[str]:
    """What a reader must know of such a plan."""
    if most > left:
        yield f"{most} were asked for, {left} {'is' if left == 1 else 'are'} left."
    if place.idle:
        yield f"Left idle, as other threads of the service's cores: {names(place.idle)}."
    others = {*place.load, *place.collector} - {*place.workload}
    beside_it = {
        cpu for core in cores if set(core) & set(place.workload) for cpu in core if cpu in others
    }
    if beside_it:
        yield f"On a core with the service, so that each slows the other: {names(beside_it)}."


def _of_load(place: Placement, workers: int) -> Iterable[str]:
    """What may limit the load before the service is full."""
    if workers > len(place.load):
        yield (
            f"The {workers} load workers share {names(place.load)}: that many send no more than "
            f"{len(place.load)} would."
        )
    elif workers == 1 and len(place.workload) >= MANY:
        yield (
            "The load is driven by one thread, whatever the service has: what one CPU can send is "
            "the most that it gets."
        )


def names(cpus: Iterable[int]) -> str:
    """CPU numbers as the kernel writes them: `CPU 3`, `CPUs 0-2,7`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][-1] == cpu - 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    text = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"CPU{'s' if sum(map(len, runs)) > 1 else ''} {text}"


def parse_cpus(text: str) -> list[int]:
    """The CPU numbers of a kernel list such as `0-2,7`."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low:
            cpus += range(int(low), int(high or low) + 1)
    return cpus
