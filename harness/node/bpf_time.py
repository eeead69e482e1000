"""A metered trial: the run time of the collectors' BPF programs in slices; for `trial`."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from harness.meters.bpfstats import Program, StatsEnabled, Watched, delta
from harness.model import Window, WindowRow
from harness.node import idle, rates, requests
from harness.node.agent_process import AgentProcess
from harness.node.switch import Switch
from harness.node.testbed import Testbed, TrialLog
from harness.node.windows import sleep_until, windows_of
from harness.wire.spec import WindowState
from harness.wire.telemetry import IN_AGENT

Counters = Mapping[int, Program]


def run(
    testbed: Testbed,
    agents: Sequence[AgentProcess],
    folder: Path,
    notes: TrialLog,
    against: Sequence[AgentProcess] = (),
) -> list[WindowRow]:
    """Collectors on under load, the kernel's statistics enabled; a row is a slice of the time.

    `bpf.run` is seconds in the programs of the collectors that were on, `bpf.runs` their runs;
    without those that run in the agent's own context, which the trial's totals list. In a shared
    trial both are told of each collector too, by its name in brackets.
    With agents `against`, these take turns with the others. The trial is told to have as many
    requests as its slices have.
    """
    path, spec = folder / "requests.npz", notes.spec
    plan = windows_of((*agents, *against), spec)
    with ExitStack() as stack:
        watched = {
            on: stack.enter_context(closing(Watched(i for a in group for i in a.program_ids)))
            for on, group in ((True, agents), (False, against))
        }
        own = _in_agents([*agents, *against])
        each = _apart(agents, own) if spec.shared else {}
        stack.enter_context(StatsEnabled())
        for on, group, role in ((True, agents, "candidate"), (False, against, "reference")):
            for part in (idle, rates):
                part.run(testbed, group, watched[on], notes.of(role if against else ""))
        switch = Switch((*agents, *against), lambda: 0.0)
        counted = {agent.name: agent.flush() for agent in (*agents, *against)}
        testbed.driver.start(testbed.rate)
        time.sleep(spec.timing.settle)
        first = {on: each.read() for on, each in watched.items()}
        rows = []
        for index, window in enumerate(plan):
            rows.append(_slice(switch, watched, own, index, window, spec.timing.window, each))
            testbed.attend()
        last = {on: each.read() for on, each in watched.items()}
        switch.off()
        summary = testbed.driver.finish(path)
    testbed.service.check()
    requests.note_load(summary, path, testbed.rate, notes)
    log = requests.read(path)
    rows, answered = requests.count(rows, log), int((log.status > 0).sum())
    for on, group, role in ((True, agents, "candidate"), (False, against, "reference")):
        if group or on:
            mine = [row.meters for row in rows if row.window.on == on]
            ran = delta(first[on].values(), last[on].values())
            _note(group, mine, ran, counted, answered, notes.of(role if against else ""))
    return rows


def _in_agents(agents: Sequence[AgentProcess]) -> set[int]:
    """The programs, by id, that run in the agents' own context: their CPU time contains them."""
    return {i for agent in agents for i, hook in agent.hooks.items() if hook in IN_AGENT}


def _apart(agents: Sequence[AgentProcess], left_out: set[int]) -> Mapping[str, set[int]]:
    """Whose programs they are, by id."""
    return {agent.name: set(agent.program_ids) - left_out for agent in agents}


def _slice(
    switch: Switch,
    watched: Mapping[bool, Watched],
    left_out: set[int],
    index: int,
    window: WindowState,
    seconds: float,
    apart: Mapping[str, set[int]] = {},
) -> WindowRow:
    switch.to(window.collectors)
    start_ns, before = time.monotonic_ns(), watched[window.on].read()
    sleep_until(start_ns / 1e9 + seconds)
    end_ns, after = time.monotonic_ns(), watched[window.on].read()
    found = delta(before.values(), after.values())
    meters = {"seconds": (end_ns - start_ns) / 1e9, **_ran(found, found.keys() - left_out)}
    for name, mine in apart.items():
        meters |= _ran(found, found.keys() & mine, f"[{name}]")
    return WindowRow(Window(index, index // 4, window.on, start_ns, end_ns), meters)


def _ran(found: Counters, of: Collection[int], whose: str = "") -> dict[str, float]:
    """Seconds in these programs and how often they ran."""
    return {
        f"bpf.run{whose}": sum(found[number].run_time_ns for number in of) / 1e9,
        f"bpf.runs{whose}": float(sum(found[number].run_cnt for number in of)),
    }


def _note(
    agents: Sequence[AgentProcess],
    slices: Sequence[Mapping[str, float]],
    ran: Counters,
    counted: Mapping[str, Mapping[str, Any]],
    answered: int,
    notes: TrialLog,
) -> None:
    """What the collectors did since their answers in `counted`.

    Those that are switched were off until the slices. Others saw the whole load, its settling and
    its draining too, so that what they counted is told with all the requests `answered` in it.
    """
    notes.add("metered_requests", sum(each["requests"] for each in slices), "{request}")
    notes.add("metered_seconds", sum(each["seconds"] for each in slices), "s")
    for agent in agents:
        told, before = agent.flush(), counted[agent.name]
        notes.add_counts(agent, told)
        both = [name for name in ("events", "spans") if name in told and name in before]
        for name in both:
            number = told[name] - before[name]
            notes.add(f"metered_{name}", number, f"{{{name[:-1]}}}", collector=agent.name)
        if both and not agent.counts:
            notes.add("counted_requests", answered, "{request}", collector=agent.name)
        for program in (ran[number] for number in agent.program_ids if number in ran):
            labels = {"collector": agent.name, "program": program.name, "type": program.type}
            if hook := agent.hooks.get(program.id):
                labels["hook"] = hook
            notes.add("bpf_run_time_seconds", program.run_time_ns / 1e9, "s", **labels)
            notes.add("bpf_run_count", program.run_cnt, "{run}", **labels)
