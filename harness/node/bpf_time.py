"""A metered trial: the run time of the collectors' BPF programs in slices; for `trial`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from harness.analysis.bill import IN_AGENT
from harness.meters.bpfstats import Program, StatsEnabled, Watched, delta
from harness.model import Window
from harness.node import windows
from harness.node.agent_process import AgentProcess
from harness.node.switch import Switch
from harness.node.testbed import Notes, Stage
from harness.plan import experiment as experiments
from harness.results.run import WindowRow

SLICE_SECONDS = 0.05
LEAST_SLICES = 24  # six quadruples: fewer give no interval

Counters = Mapping[int, Program]


def run(
    stage: Stage,
    agents: Sequence[AgentProcess],
    folder: Path,
    notes: Notes,
    against: Sequence[AgentProcess] = (),
) -> list[WindowRow]:
    """Collectors on under load, the kernel's statistics enabled; a row is a slice of the time.

    `bpf.run` is seconds in the programs of the collectors that were on, `bpf.runs` their runs;
    without those that run in the agent's own context, which the trial's totals list.
    With agents `against`, these take turns with the others, off-on-on-off. The trial is told to
    have as many requests as its slices have.
    """
    path = folder / "requests.npz"
    states = _states(stage, bool(against), notes.trial.seed)
    with ExitStack() as stack:
        watched = {
            on: stack.enter_context(closing(Watched(i for a in group for i in a.program_ids)))
            for on, group in ((True, agents), (False, against))
        }
        own = _in_agents([*agents, *against])
        stack.enter_context(StatsEnabled())
        switch = Switch(agents, against, lambda: 0.0)
        stage.driver.start(stage.rate)
        time.sleep(stage.experiment.settle_seconds)
        first = {on: each.read() for on, each in watched.items()}
        rows = [_slice(switch, watched, own, i, on) for i, on in enumerate(states)]
        last = {on: each.read() for on, each in watched.items()}
        switch.to(None)
        summary = stage.driver.finish(path)
    stage.workload.check()
    windows.note_load(summary, path, stage.rate, notes)
    rows = windows.count_requests(rows, path)
    for on, group, role in ((True, agents, "candidate"), (False, against, "reference")):
        if group or on:
            mine = [row.meters for row in rows if row.window.on == on]
            ran = delta(first[on].values(), last[on].values())
            _note(group, mine, ran, notes.of(role if against else ""))
    return rows


def _states(stage: Stage, taking_turns: bool, seed: int) -> list[bool]:
    slices = max(LEAST_SLICES, round(stage.experiment.metered_seconds / SLICE_SECONDS))
    return experiments.pattern(-(-slices // 4), seed) if taking_turns else [True] * slices


def _in_agents(agents: Sequence[AgentProcess]) -> set[int]:
    """The programs, by id, that run in the agents' own context: their CPU time contains them."""
    return {i for agent in agents for i, hook in agent.hooks.items() if hook in IN_AGENT}


def _slice(
    switch: Switch, watched: Mapping[bool, Watched], left_out: set[int], index: int, on: bool
) -> WindowRow:
    switch.to(on)
    start_ns, before = time.monotonic_ns(), watched[on].read()
    windows.sleep_until(start_ns / 1e9 + SLICE_SECONDS)
    end_ns, after = time.monotonic_ns(), watched[on].read()
    found = delta(before.values(), after.values())
    ran = [program for number, program in found.items() if number not in left_out]
    meters = {
        "seconds": (end_ns - start_ns) / 1e9,
        "bpf.run": sum(program.run_time_ns for program in ran) / 1e9,
        "bpf.runs": float(sum(program.run_cnt for program in ran)),
    }
    return WindowRow(Window(index, index // 4, on, start_ns, end_ns), meters)


def _note(
    agents: Sequence[AgentProcess],
    slices: Sequence[Mapping[str, float]],
    ran: Counters,
    notes: Notes,
) -> None:
    notes.add("metered_requests", sum(each["requests"] for each in slices), "{request}")
    notes.add("metered_seconds", sum(each["seconds"] for each in slices), "s")
    for agent in agents:
        notes.add_counts(agent, agent.flush())
        for program in (ran[number] for number in agent.program_ids if number in ran):
            labels = {"collector": agent.name, "program": program.name, "type": program.type}
            if hook := agent.hooks.get(program.id):
                labels["hook"] = hook
            notes.add("bpf_run_time_seconds", program.run_time_ns / 1e9, "s", **labels)
            notes.add("bpf_run_count", program.run_cnt, "{run}", **labels)
