"""One trial: collectors installed, compared or metered, removed; for `attempt`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

from harness.errors import ComponentError, HarnessError
from harness.linux import processes
from harness.meters import bpf_maps
from harness.meters.conditions import Conditions
from harness.meters.memory import cgroup_bytes, peak_rss_bytes, pss_bytes
from harness.model import WindowRow
from harness.node import always_on, bpf_time, in_process, install_parts, saturation, twin, windows
from harness.node.agent_process import AgentProcess
from harness.node.always_on import Before
from harness.node.install import install, remove
from harness.node.testbed import Finish, Method, Testbed, TrialLog
from harness.wire.cpus import MANY_CPUS
from harness.wire.spec import TrialMethod, TrialResult, TrialSpec

_TOLD = 3  # of BPF programs that somebody else loaded, by name


def run(testbed: Testbed, spec: TrialSpec, folder: Path) -> TrialResult:
    """Run a trial whose files go to `folder`; what it started is ended, however it ends."""
    testbed.receiver.check()
    try:
        found = _run(testbed, spec, folder)
    except ComponentError:
        testbed.receiver.check()  # a part of it that ended is the cause
        raise
    testbed.receiver.check()
    return found


def _run(testbed: Testbed, spec: TrialSpec, folder: Path) -> TrialResult:
    notes = TrialLog(spec)
    if strange := testbed.machine.strange_programs():
        notes.warn(_strange(strange))
    since = testbed.receiver.mark()
    with ExitStack() as stack:
        conditions = stack.enter_context(closing(Conditions(_scope(testbed, spec))))

        def finish(
            here: Testbed, agents: Sequence[AgentProcess], on_cpu_seconds: Mapping[str, float]
        ) -> None:
            before = Before(since, time.monotonic_ns(), on_cpu_seconds)
            _finish(here, agents, folder, notes, before)
            _service_memory(here, notes)

        if spec.references and spec.method == "switch":
            rows = _against(testbed, folder, notes, stack, since)
        else:
            rows = _METHODS[spec.method](testbed, folder, notes, stack, finish)
        for metric, share in conditions.shares().items():
            notes.add(metric, share, "1")
        for each, number in testbed.receiver.posted(since).items():
            labels = {name: text for name, text in asdict(each).items() if text}
            notes.add("posts", number, "{request}", **labels)
    return notes.result(rows)


def _strange(programs: Sequence[str]) -> str:
    """The warning of BPF programs that somebody else loaded: a network of pods loads hundreds."""
    end = "measured while the collectors are off, too."
    if len(programs) == 1:
        return (
            f"BPF program {programs[0]} was loaded since the run began: what it costs the service "
            f"is {end}"
        )
    # by name, each once: trials of a run then have the same sentence but for numbers
    named = sorted({each.partition("(")[2]: each for each in programs}.items())[:_TOLD]
    told = ", ".join(each for _, each in named)
    more = f" and {len(programs) - len(named)} more" if len(programs) > len(named) else ""
    return (
        f"{len(programs)} BPF programs were loaded since the run began, {told}{more}: what they "
        f"cost the service is {end}"
    )


def _scope(testbed: Testbed, spec: TrialSpec) -> Path:
    """The cgroup that collectors will observe."""
    if spec.method == "twin" and (spec.swapped or in_process.of(spec) is not None):
        return testbed.machine.make(twin.CGROUP)
    return testbed.service.cgroup


def _finish(
    testbed: Testbed,
    agents: Sequence[AgentProcess],
    folder: Path,
    notes: TrialLog,
    before: Before,
) -> None:
    """The part with collectors always on, the profile's names, the agents' memory; then removed.

    A trial of windows alone, whose steady part is to last no time, goes on without it.
    """
    if notes.spec.timing.steady > 0:
        always_on.run(testbed, agents, folder, notes, before)
    _profile(testbed, agents, folder, notes)
    _memory(agents, notes)
    remove(agents, notes)


def _switch(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack, finish: Finish
) -> list[WindowRow]:
    """The method `switch`: collectors turned on and off every window."""
    agents = install(testbed, notes.spec.candidates, folder, notes, stack)
    found = windows.run(testbed, agents, folder, notes)
    finish(testbed, agents, found.cpu_seconds)
    return found.rows


def _pair(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack
) -> list[tuple[list[AgentProcess], TrialLog]]:
    """Both sets of a trial that compares two, each with notes that say which it is."""
    spec = notes.spec
    return [
        (install(testbed, collectors, folder, notes.of(role), stack), notes.of(role))
        for collectors, role in ((spec.candidates, "candidate"), (spec.references, "reference"))
    ]


def _sets(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack
) -> list[tuple[list[AgentProcess], TrialLog]]:
    """The trial's set of collectors with its notes, or both, if it compares two."""
    if notes.spec.references:
        return _pair(testbed, folder, notes, stack)
    return [(install(testbed, notes.spec.candidates, folder, notes, stack), notes)]


def _against(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack, since: int
) -> list[WindowRow]:
    """Candidates are on while the references are off; then each set alone stays on.

    Which of them does so first changes with each block, so that being first is no difference.
    """
    (agents, its), (against, their) = _pair(testbed, folder, notes, stack)
    found = windows.run(testbed, agents, folder, notes, against)
    until, cpu = time.monotonic_ns(), found.cpu_seconds
    parts = [
        (agents, its, Before(since, until, cpu, "steady")),
        (against, their, Before(since, until, cpu, "steady-reference")),
    ]
    for group, labelled, before in parts[::-1] if notes.spec.swapped else parts:
        _finish(testbed, group, folder, labelled, before)
    _service_memory(testbed, notes)
    return found.rows


def _metered(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack, _finish: Finish
) -> list[WindowRow]:
    """The kernel's statistics of the programs; no part with collectors always on."""
    both = _sets(testbed, folder, notes, stack)
    agents, against = both[0][0], both[1][0] if len(both) > 1 else []
    rows = bpf_time.run(testbed, agents, folder, notes, against)
    for group, labelled in both:
        _memory(group, labelled)
    _service_memory(testbed, notes)
    for group, labelled in both:
        remove(group, labelled)
    return rows


def _saturated(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack, _finish: Finish
) -> list[WindowRow]:
    """What a closed loop gets answered, window by window; no other part."""
    if not saturation.is_filled(testbed, notes):
        return []
    both = _sets(testbed, folder, notes, stack)
    agents, against = both[0][0], both[1][0] if len(both) > 1 else []
    rows = saturation.run(testbed, agents, notes, against)
    for group, labelled in both:
        remove(group, labelled)
    return rows


_METHODS: Mapping[TrialMethod, Method] = {
    "switch": _switch,
    "twin": twin.run,
    "install": install_parts.run,
    "bpf_time": _metered,
    "saturate": _saturated,
}


def _memory(agents: Sequence[AgentProcess], notes: TrialLog) -> None:
    """Of what runs within the service `twin` has told."""
    for agent in (each for each in agents if each.pids()):
        notes.add("agent_pss_bytes", pss_bytes(agent.pids()), "By", collector=agent.name)
        peak = sum(map(peak_rss_bytes, agent.pids()))
        notes.add("agent_peak_rss_bytes", peak, "By", collector=agent.name)
        larger = agent.ready.get("entries_on_many_cpus", {})
        there = bpf_maps.total_on(bpf_maps.of_programs(agent.program_ids), MANY_CPUS, larger)
        notes.add("map_bytes_on_many_cpus", there, "By", collector=agent.name)


def _service_memory(testbed: Testbed, notes: TrialLog) -> None:
    notes.add("workload_pss_bytes", pss_bytes(testbed.service.pids()), "By")
    for name, value in cgroup_bytes(testbed.service.cgroup).items():
        notes.add(f"workload_cgroup_{name}", value, "By")  # where a memory controller is there


def _profile(
    testbed: Testbed, agents: Sequence[AgentProcess], folder: Path, notes: TrialLog
) -> None:
    """Name the addresses of these agents' own profiles while the service lives."""
    is_reference = notes.labels.get("role") == "reference"
    for agent in agents:
        if not agent.spec.writes_profiles:
            continue
        # an agent beside another writes to a folder by its own name, see AgentProcess; so does one
        # that is installed again, for which both are its own
        both = (folder / f"pprof-{agent.name}", folder / "pprof")
        found = [path for path in both if path.is_dir()]
        for path in found[:1] if is_reference else found:
            _name(testbed, path, notes)
        if not is_reference:
            notes.details["profile"] = "pprof/profile.folded"


def _name(testbed: Testbed, directory: Path, notes: TrialLog) -> None:
    argv = [sys.executable, "-m", "harness.node.symbols", str(directory)]
    try:
        processes.run([*argv, *map(str, testbed.service.pids())], timeout=120)
    except HarnessError as error:
        notes.warn(f"The profile has no symbols: {error}")
