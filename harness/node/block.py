"""A block on the node: a service and its load driver, its rate, its warm-up; for `session`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

from harness.errors import WorkloadError
from harness.model import Receiver
from harness.node import found, outside, service
from harness.node.load_driver import Capacity, Driver, LoadDriver
from harness.node.load_workers import drivers
from harness.node.locustfile import placed
from harness.node.machine import Machine
from harness.node.reach import url_from
from harness.node.remote_driver import RemoteDriver
from harness.node.scope import check_scope
from harness.node.service import Service
from harness.node.testbed import LOAD, Attend, Testbed
from harness.node.warm_up import await_steady
from harness.wire.driving import Ask
from harness.wire.spec import BlockReady, BlockSpec, Found, Placement

CGROUP = "workload"
Tell = Callable[[str], None]


def start(
    machine: Machine,
    placement: Placement,
    receiver: Receiver,
    spec: BlockSpec,
    ends: ExitStack,
    attend: Attend,
    tell: Tell,
    ask: Ask,
) -> tuple[Testbed, BlockReady]:
    """Start or find the service and drive it until it is warm; `ends` ends what was started.

    WorkloadError or LoadError where that fails. Load from another node is asked for by `ask`.
    """
    logs = machine.work / "logs"
    logs.mkdir(exist_ok=True)
    tell("finding the service" if isinstance(spec.service, Found) else "starting the service")
    running, doubts = _service(machine, placement, spec, logs, ends, attend, tell)
    attend()
    driving: LoadDriver
    if spec.elsewhere is not None:
        url, doubt = url_from(spec.elsewhere, running)
        doubts.append(doubt)
        driving = RemoteDriver(ask, spec, url)
    else:
        driving = driver(
            machine, placement, spec, [running.url],
            log=logs / f"{spec.name}-load.log", control="load.sock",
            file=machine.scratch / "locustfile.py",
        )  # fmt: skip
    ends.callback(driving.stop)
    attend()
    capacity = _capacity(spec, driving, attend, tell)
    doubts.append(_redirected(running.url, capacity))
    rate = _rate(spec, capacity)
    testbed = Testbed(machine, placement, receiver, spec, running, driving, rate, attend, ask)
    tell("warming up")
    driving.start(rate)
    seconds, steady = await_steady(
        testbed.cpu_seconds, spec.warmup_seconds, spec.warmup_limit_seconds, rate, attend
    )
    driving.finish(machine.scratch / "warmup.npz")
    running.check()
    told = asdict(capacity) if capacity is not None else None
    return testbed, BlockReady(rate, seconds, steady, told, tuple(filter(None, doubts)))


def _service(
    machine: Machine,
    placement: Placement,
    spec: BlockSpec,
    logs: Path,
    ends: ExitStack,
    attend: Attend,
    tell: Tell,
) -> tuple[Service, list[str]]:
    """The service, and what is to be known of whether the requests reach what is measured."""
    if isinstance(spec.service, Found):
        there = found.attach(spec.service, machine, ends)
        return there, [*there.warnings, check_scope(there.url, there.cgroup)]
    since = outside.now()
    started = service.spawn(
        spec.service,
        log=logs / f"{spec.name}.log",
        cgroup=machine.make(CGROUP),
        cpus=placement.workload,
        tell=tell,
        attend=attend,
    )
    ends.callback(started.stop)
    return started, [outside.check_started(started.url, started.cgroup, since)]


def driver(
    machine: Machine,
    placement: Placement,
    spec: BlockSpec,
    urls: Sequence[str],
    *,
    log: Path,
    control: str,
    file: Path,
) -> LoadDriver:
    """A load driver of this service, or of it and its twin; `file` may take the locustfile."""
    made = partial(
        Driver,
        *urls,
        login=spec.login,
        locustfile=placed(spec.locustfile, file),
        connections=spec.connections,
        seed=spec.driver_seed,
        arrivals=spec.arrivals,
        cgroup=machine.make(LOAD),
        cpus=placement.load,
    )
    control_file = machine.scratch / control
    return drivers(spec.load_workers, made, placement.load, log=log, control=control_file)


def _capacity(spec: BlockSpec, driving: LoadDriver, attend: Attend, tell: Tell) -> Capacity | None:
    if not spec.find_capacity:
        return None
    tell("finding its capacity")
    if spec.warmup_seconds > 0:
        driving.capacity(spec.warmup_seconds)  # a cold process is slow
    attend()
    capacity = driving.capacity(spec.capacity_seconds)
    tell(capacity.told())
    return capacity


def _redirected(url: str, capacity: Capacity | None) -> str:
    """That most answers only name another page, which is then not what is measured."""
    if capacity is None or capacity.redirects <= 0.5:
        return ""
    return (
        f"{capacity.redirects:.0%} of the requests to {url} were answered by a redirect (3xx): "
        "what is measured is the redirect, not where it leads. Give the address that it leads to "
        "in --url, if that is what you mean."
    )


def _rate(spec: BlockSpec, capacity: Capacity | None) -> float:
    """Arrivals per second: given, or a share of the capacity."""
    if capacity is None:
        assert spec.rate is not None, "a block knows its rate, or finds the capacity"
        return spec.rate
    rate = spec.rate or min(spec.max_rate, spec.fraction * capacity.rate)
    if rate * spec.window_seconds < spec.least_requests:
        raise WorkloadError(
            f"At {rate:.1f} requests a second a window of {spec.window_seconds} s holds too few.",
            f"When {spec.service.name!r} was pressed, {capacity.told()}.",
            f"Set window_seconds to {spec.least_requests / max(rate, 0.1):.1f} or more, or a "
            "higher rate, in an experiment file.",
        )
    return spec.rate or round(rate)
