"""Collectors installed for a trial and removed after it; for `trial` and its methods.

Where several arms share a trial, a collector that cannot be installed is left out, and the others
are measured: `left_out` of the trial's details tells why, by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from harness.errors import CollectorError, HarnessError, NeedError
from harness.node import found
from harness.node.agent_process import AgentProcess
from harness.node.in_process import InProcessAgent
from harness.node.part_agent import PartAgent
from harness.node.placed_agent import PlacedAgent
from harness.node.subject_process import SubjectProcess
from harness.node.testbed import Testbed, TrialLog
from harness.wire.driving import Call, Displace, Turn
from harness.wire.spec import CollectorSpec, TrialSpec

T = TypeVar("T", CollectorSpec, AgentProcess)


def install(
    testbed: Testbed,
    collectors: Sequence[CollectorSpec],
    folder: Path,
    notes: TrialLog,
    stack: ExitStack,
    known: Sequence[AgentProcess] = (),
) -> list[AgentProcess]:
    """Start the agents of these collectors and leave them switched off; `stack` kills them.

    Of those that are `known` from before in this trial the same agents are started again.

    UnavailableError where one cannot run here, CollectorError where one fails; of a shared trial,
    where none is left.
    """
    notes.details.setdefault("hooks", {})
    last: list[HarnessError] = []

    def each(
        of: Sequence[T], step: Callable[[T], object], end: Callable[[T], object] = lambda _: None
    ) -> list[T]:
        """Take a step with each; those with which it could be taken, the others are ended."""
        done = []
        for one in of:
            try:
                step(one)
                done.append(one)
            except (CollectorError, NeedError) as error:
                if not notes.spec.shared:
                    raise
                end(one)
                last.append(error)
                notes.details.setdefault("left_out", {})[one.name] = error.to_dict()
        return done

    seen = each(collectors, lambda spec: found.require_seen(testbed.service, spec))
    before = {agent.name: agent for agent in known}
    agents = [before.get(spec.name) or _process(testbed, spec, folder, notes) for spec in seen]
    agents = each(agents, lambda agent: _start(agent, stack))
    steps: tuple[Callable[[AgentProcess], object], ...] = (
        lambda agent: _await(agent, notes),
        lambda agent: agent.send_switch(True),
        lambda agent: agent.receive_switch(),
        lambda agent: _detach(agent, notes),
    )
    for step in steps:
        agents = each(agents, step, lambda agent: agent.kill())
    if last and not agents:
        raise last[0]
    return agents


def _start(agent: AgentProcess, stack: ExitStack) -> None:
    agent.start()
    stack.callback(agent.kill)


def _await(agent: AgentProcess, notes: TrialLog) -> None:
    agent.await_ready()
    notes.details["hooks"][agent.name] = agent.ready.get("hooks", [])
    if attached := agent.ready.get("attached"):
        notes.details.setdefault("attached", {})[agent.name] = attached
    if peak := agent.ready.get("attach_peak_rss_bytes"):
        notes.add("attach_peak_rss_bytes", peak, "By", collector=agent.name)
    if version := agent.ready.get("version"):
        notes.details.setdefault("versions", {})[agent.name] = version
    for metric in ("load_seconds", "attach_seconds"):
        if metric in agent.ready:  # an external collector may not tell
            notes.add(metric, agent.ready[metric], "s", collector=agent.name)


def _detach(agent: AgentProcess, notes: TrialLog) -> None:
    detached = agent.switch(False)
    if "seconds" in detached:
        notes.add("detach_seconds", detached["seconds"], "s", collector=agent.name)


def _process(
    testbed: Testbed, collector: CollectorSpec, folder: Path, notes: TrialLog
) -> AgentProcess:
    if is_part(collector):
        return PartAgent(collector, testbed, folder)
    if collector.daemonset:
        return PlacedAgent(collector, testbed, folder)
    if collector.subject is not None:
        if collector.subject.is_within:
            return InProcessAgent(collector, testbed, folder)
        every = (*notes.spec.candidates, *notes.spec.references)
        named = [path for each in every if each.subject for path in each.subject.leaves]
        return SubjectProcess(collector, testbed, folder, named)
    return AgentProcess(
        collector,
        target_cgroup=testbed.service.cgroup,
        own_cgroup=testbed.machine.make(f"agent-{collector.name}"),
        otlp_url=testbed.receiver.url,
        folder=folder,
        socket=testbed.machine.socket(collector.name),
        cpus=testbed.placement.collector,
        service_name=notes.spec.service,
        instance=testbed.receiver.sender(collector.name, notes.spec.name),
        profiles_url=testbed.receiver.profiles_url,
    )


def is_part(collector: CollectorSpec) -> bool:
    """Whether it is a part of what goes on without it."""
    return collector.subject is not None and collector.subject.option is not None


def staying(testbed: Testbed, specs: Sequence[CollectorSpec], folder: Path) -> list[PartAgent]:
    """Those of these collectors that are parts of what goes on without them."""
    return [PartAgent(each, testbed, folder) for each in specs if is_part(each)]


def require_absent(testbed: Testbed, spec: TrialSpec) -> None:
    """CollectorError if a collector that the cluster runs is on the node; it is sent away then."""
    for each in spec.candidates:
        if not each.daemonset:
            continue
        option = each.subject.option if each.subject is not None else None
        goes = Turn(each.daemonset, option, False) if option else Displace(each.daemonset)
        found, _ = testbed.ask(Call(goes))
        if found["was"] if option else found["containers"]:
            raise CollectorError(
                f"Collector {each.name!r} was there in a part of a trial without it.",
                f"Something put the DaemonSet {each.daemonset} back to what it was.",
                "Pause what keeps it as it is, such as a GitOps controller, then resume.",
                collector=each.name,
            )


def remove(agents: Sequence[AgentProcess], notes: TrialLog, *, strictly: bool = False) -> None:
    """End the agents; what was measured does not depend on how gracefully they go.

    Where something is to be measured without them yet it does: `strictly` raises what goes wrong.
    """
    for agent in agents:
        try:
            answer = agent.remove()
            for remark in answer.get("remarks", ()):
                notes.warn(remark)
            if unsent := answer.get("unsent", 0):
                notes.warn(
                    f"{agent.name}: {unsent} spans, log records and profiles were taken by no "
                    "receiver."
                )
        except CollectorError as error:
            if strictly:
                raise
            notes.warn(str(error))
