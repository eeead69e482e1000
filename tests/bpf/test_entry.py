"""The cost of entry: each stimulus runs its program so many times, and nothing is left behind."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.agent import entry
from harness.agent.hooks import hook_type
from harness.agent.libbpf import Object
from harness.agent.stimulus import STIMULI
from harness.linux import processes
from harness.meters import bpfstats
from tests.waiting import until

pytestmark = pytest.mark.bpf

EVENTS = 1000
SYSTEM_WIDE = ("tp_btf", "raw_tracepoint", "tracepoint", "fentry", "kprobe")
# What the collectors need of a kernel, and so must every machine that runs these tests. The others
# are tried by the process that measures, which leaves out what the kernel refuses.
REQUIRED = (
    "cgroup_skb", "cgroup_sock", "tp_btf", "raw_tracepoint", "perf_event", "iter", "uprobe",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _same_cpus() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


def ran(hook: str, cgroup: Path, bpf: Path) -> tuple[float, int, int]:
    """Events that the stimulus says it made, runs while attached, and runs after that."""
    with closing(Object(bpf / "empty.bpf.o")) as obj:
        for program in obj.programs:
            if program.name != f"on_{hook}":
                program.skip()
        obj.load()
        (program,) = obj.programs
        with closing(STIMULI[hook](cgroup)) as stimulus, bpfstats.StatsEnabled():
            attached = stimulus.attach(obj)
            try:
                events = stimulus.run(EVENTS * (100 if hook == "perf_event" else 1))
            finally:
                attached.destroy()
            while_on = program.info().run_cnt
            stimulus.run(EVENTS)
            return events, while_on, program.info().run_cnt - while_on


@pytest.mark.parametrize("hook", REQUIRED)
def test_each_event_runs_the_program_once(hook: str, bpf_objects: Path) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # samples are counted by CPU
    with entry.own_cgroup() as cgroup:
        events, on, off = ran(hook, cgroup, bpf_objects)
    if hook == "perf_event":  # by the clock, on every CPU; the events are those of this one
        assert 0 < events <= on
        assert off == 0
    elif hook == "iter":  # the single element of the other map is walked over while off
        assert (on, off) == (events + 2, 2)  # the end of a walk runs it once more
    else:
        assert events == EVENTS
        assert on >= events if hook in SYSTEM_WIDE else on == events
        assert off == 0


def test_every_program_is_for_the_hook_that_it_is_named_for(bpf_objects: Path) -> None:
    with closing(Object(bpf_objects / "empty.bpf.o")) as obj:
        types = {program.name: hook_type(program.section) for program in obj.programs}
    assert types == {f"on_{hook}": hook for hook in STIMULI}


def test_the_estimate_is_that_of_hodges_and_lehmann() -> None:
    values = np.random.default_rng(4).standard_t(3, 60) + 20
    walsh = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2)]
    found = entry.estimate(list(values))
    assert found.entry_ns == pytest.approx(np.median(walsh))
    assert found.n == 60
    # the interval holds what the signed-rank test does not refuse
    for inside in (found.low + 1e-6, found.high - 1e-6):
        assert stats.wilcoxon(values - inside, method="approx").pvalue > 0.045
    for outside in (found.low - 0.05, found.high + 0.05):
        assert stats.wilcoxon(values - outside, method="approx").pvalue < 0.055


def test_95_percent_of_the_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        found = entry.estimate(list(random.laplace(30, 10, 25)))
        held += found.low <= 30 <= found.high
    assert stats.binomtest(held, 400, 0.95).pvalue > 0.001


class Scripted:
    """A stimulus whose clock is made up: 100 ns an event, 23 more while on, and a drift."""

    def __init__(self) -> None:
        self.now, self.on, self.drift = 0.0, False, 0.0

    def attach(self, obj: object) -> Scripted:
        self.on = True
        return self

    def destroy(self) -> None:
        self.on = False

    def run(self, count: int) -> float:
        if count == EVENTS:  # not what settles
            self.drift += 7
        self.now += count * (100 + 23 * self.on + self.drift)
        return count

    def close(self) -> None:
        pass


def test_a_quadruple_recovers_a_known_cost_in_spite_of_drift(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted = Scripted()
    monkeypatch.setattr(time, "thread_time_ns", lambda: round(scripted.now))
    assert entry._quadruple(scripted, None, EVENTS) == pytest.approx(23)  # type: ignore[arg-type]
    assert not scripted.on


def test_it_prints_json_and_leaves_nothing_behind(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "harness.agent.entry", "--json", "--seconds", "0.1"]
    programs = {program.id for program in bpfstats.programs()}
    said = processes.run([*argv, "cgroup_skb", "tp_btf", "tracepoint", "kprobe"])
    found = json.loads(said.stdout)
    # a classic tracepoint needs tracefs, which it mounts for itself where it is not
    assert set(found) - {"kprobe"} == {"cgroup_skb", "tp_btf", "tracepoint"}
    assert "kprobe" in found or "kprobe: " in said.stderr
    for cost in found.values():
        assert set(cost) == {"entry_ns", "low", "high", "n"}
        assert cost["low"] <= cost["entry_ns"] <= cost["high"]
        assert cost["n"] >= 8
    with entry.own_cgroup() as cgroup:  # where it makes its own
        assert [path.name for path in cgroup.parent.glob("entry-*")] == [cgroup.name]
    assert not cgroup.exists()

    def left() -> set[str]:
        return {each.name for each in bpfstats.programs() if each.id not in programs}

    # the kernel frees them a little later
    assert until(lambda: not left() & {"on_cgroup_skb", "on_tp_btf"}), f"still loaded: {left()}"


def test_the_cgroup_of_one_that_was_killed_is_removed(tmp_path: Path) -> None:
    gone = processes.spawn(["/bin/true"], log=tmp_path / "log")
    gone.wait()
    with entry.own_cgroup() as cgroup:
        left = cgroup.with_name(f"entry-{gone.pid}")
        left.mkdir()
        alive = cgroup.with_name(f"entry-{os.getppid()}")
        alive.mkdir()
    try:
        with entry.own_cgroup():
            assert not left.exists()
            assert alive.exists()  # it may be about to enter
    finally:
        alive.rmdir()


def test_an_unknown_hook_is_refused() -> None:
    argv = [sys.executable, "-m", "harness.agent.entry", "nothing"]
    said = processes.run(argv, check=False)
    assert said.returncode == 2
    assert "unknown hook nothing" in said.stderr
