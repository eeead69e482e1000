"""Whoever is killed, in whatever phase: a block is lost at most, and nothing is left behind.

HARNESS_KILLS=50 repeats each kill so often, each time a little later in its phase; so many at once
as HARNESS_KILLS_AT_ONCE says. What is checked does not depend on how long anything takes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import pytest

from harness.linux import cgroup, mount, processes
from harness.linux.procfs import HOST
from tests.e2e import victims
from tests.e2e.victims import FROM_NODE, TO_NODE, TRIALS, Evaluation, Prepare, Victim, await_

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups and namespaces"),
]
TIMES = int(os.environ.get("HARNESS_KILLS", "1"))
AT_ONCE = int(os.environ.get("HARNESS_KILLS_AT_ONCE", "4"))
USABLE_OR_NOT = (0, 3)  # on a busy machine no trial may be usable
SENDING = "sending a trial's files"
LATER = {
    "starting the service": 0.3,
    "finding its capacity": 1.5,
    "warming up": 0.5,
    "http (switched)": 2.0,
    "http (metered)": 0.4,
}  # phase -> how long after its beginning a kill may come, in seconds
PHASES = (*LATER, SENDING)
IN_ANY_BLOCK = [phase for phase in PHASES[::-1] if phase not in ("finding its capacity", SENDING)]

Kill = Callable[[Evaluation], None]
Scenario = Callable[[Evaluation, int], None]
Repeat = Callable[..., None]


@pytest.fixture(autouse=True, scope="module")
def imported() -> None:
    victims.import_all()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = _traces()
    yield
    await_(lambda: not _traces() - before, lambda: f"the end of {_traces() - before}")


def _traces() -> set[str]:
    """Our cgroups, folders and BPF programs."""
    root = mount.find("cgroup2")
    groups = {str(path) for path in root.glob("harness/*/")} if root is not None else set()
    folders = {str(path) for path in Path("/var/tmp").glob("harness-*")}
    folders |= {str(path) for path in Path("/run/harness").glob("*")}
    told = json.loads(processes.run(["bpftool", "prog", "list", "-j"]).stdout or "[]")
    return groups | folders | {f"program {each['id']} {each.get('name')}" for each in told}


@pytest.fixture
def repeat(tmp_path: Path) -> Iterator[Repeat]:
    """Runs a scenario so often, on an evaluation each time, several at once."""
    begun: list[Victim] = []

    def run(scenario: Scenario, *prepare: Prepare) -> None:
        for first in range(0, TIMES, AT_ONCE):
            numbers = range(first, min(TIMES, first + AT_ONCE))
            these = [_begin(tmp_path / str(number), number, prepare) for number in numbers]
            begun.extend(these)
            with ThreadPoolExecutor(AT_ONCE) as pool:  # after the forks
                list(pool.map(scenario, these, numbers))
            for each in these:
                assert each.left() == []

    yield run
    for each in begun:
        each.end()


def _begin(folder: Path, number: int, prepare: Sequence[Prepare]) -> Evaluation:
    """Several share the CPUs evenly: by itself each would put its load on the same one."""
    folder.mkdir()
    cpus = sorted(os.sched_getaffinity(0))
    own = {cpus[number % len(cpus)]} if min(TIMES, AT_ONCE) > 1 else {*cpus}
    return Evaluation(folder, own, prepare)


def _linger(phase: str, number: int) -> None:
    """At another moment of the phase each time, the same one in each repetition."""
    time.sleep(random.Random(f"{phase} {number}").uniform(0, LATER[phase]))


def _during(phase: str, number: int, evaluation: Evaluation, reader: int, kill: Kill) -> None:
    """Kill somebody in this phase; `reader` is the process that reads from the node."""
    if phase == SENDING:
        with victims.held_while_sending(evaluation, reader):
            kill(evaluation)
    else:
        evaluation.reach(phase)
        _linger(phase, number)
        kill(evaluation)


def _lost_one_block(evaluation: Evaluation) -> None:
    """It went on with another node, told so, and says that it is not complete."""
    assert evaluation.wait() == 2, evaluation.said()
    assert "The node process was lost" in evaluation.said()
    assert len(evaluation.statuses(0)) <= TRIALS
    assert evaluation.statuses(1) == ["ok"] * TRIALS, evaluation.said()
    assert not evaluation.about()["complete"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_controller_s_node_undoes_everything_by_itself(repeat: Repeat, phase: str) -> None:
    def scenario(evaluation: Evaluation, number: int) -> None:
        def kill(evaluation: Evaluation) -> None:
            nodes.append(evaluation.node())
            os.kill(evaluation.pid, signal.SIGKILL)

        nodes: list[int] = []
        _during(phase, number, evaluation, evaluation.pid, kill)
        assert evaluation.wait() == -signal.SIGKILL
        (node,) = nodes
        await_(lambda: HOST.started(node) is None, lambda: "the end of the node")

    repeat(scenario)


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_node_costs_a_block_and_the_next_one_cleans_up(repeat: Repeat, phase: str) -> None:
    def scenario(evaluation: Evaluation, number: int) -> None:
        _during(phase, number, evaluation, evaluation.pid, _kill_node)
        _lost_one_block(evaluation)

    repeat(scenario)


def _kill_node(evaluation: Evaluation) -> None:
    os.kill(evaluation.node(), signal.SIGKILL)


@pytest.mark.parametrize("phase", PHASES)
def test_a_channel_that_is_cut_costs_a_block_though_both_ends_live(
    repeat: Repeat, phase: str
) -> None:
    """One direction or the other: whoever reads the end of it hangs up, too."""

    def scenario(evaluation: Evaluation, number: int) -> None:
        def cut(evaluation: Evaluation) -> None:
            ends.extend((evaluation.pid, evaluation.node()))
            os.kill(evaluation.relay(direction), signal.SIGKILL)
            assert not evaluation.ended()

        direction, ends = (TO_NODE, FROM_NODE)[(number + PHASES.index(phase)) % 2], list[int]()
        evaluation.reach("starting the service")
        _during(phase, number, evaluation, evaluation.relay(FROM_NODE), cut)
        _lost_one_block(evaluation)
        assert not any(map(HOST.started, ends))

    repeat(scenario, victims.relayed)


def test_a_run_whose_controller_was_killed_is_resumed_and_completed(repeat: Repeat) -> None:
    """What was measured in the blocks before is kept, and not measured again."""

    def scenario(evaluation: Evaluation, number: int) -> None:
        phase = IN_ANY_BLOCK[number % len(IN_ANY_BLOCK)]
        evaluation.reach(phase, times=2)
        _linger(phase, number)
        node = evaluation.node()
        os.kill(evaluation.pid, signal.SIGKILL)
        evaluation.wait()
        await_(lambda: HOST.started(node) is None, lambda: "the end of the node")
        kept = _written(evaluation, "b0")
        assert len(kept) == TRIALS
        resumed = evaluation.harness("evaluate", "--resume", evaluation.run)
        assert resumed.returncode in USABLE_OR_NOT, resumed.stderr
        assert _written(evaluation, "b0") == kept
        assert evaluation.statuses(0) == evaluation.statuses(1) == ["ok"] * TRIALS
        assert evaluation.about()["complete"]

    repeat(scenario)


def _written(evaluation: Evaluation, block: str) -> dict[str, int]:
    found = evaluation.run.glob(f"trials/*-{block}-*/trial.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def test_controller_and_node_killed_together_leave_it_to_clean(repeat: Repeat) -> None:
    def scenario(evaluation: Evaluation, number: int) -> None:
        evaluation.reach("http (switched)")
        _linger("http (switched)", number)
        both = evaluation.pid, evaluation.node()
        for pid in both:  # or the controller has time to start the next node
            os.kill(pid, signal.SIGSTOP)
        with cleaning:
            for pid in both:
                os.kill(pid, signal.SIGKILL)
            evaluation.wait()
            await_(lambda: HOST.started(both[1]) is None, lambda: "the end of the node")
            assert evaluation.left()
            assert "had been killed" in evaluation.harness("clean").stdout

    cleaning = Lock()  # it takes what any killed run has left
    repeat(scenario)


def test_a_controller_that_stands_still_for_less_than_the_lease_only_pauses(
    repeat: Repeat,
) -> None:
    """A terminal's Ctrl-Z, or a laptop that sleeps for a moment."""

    def scenario(evaluation: Evaluation, number: int) -> None:
        evaluation.reach("http (switched)")
        _linger("http (switched)", number)
        os.kill(evaluation.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(evaluation.pid, signal.SIGCONT)
        assert evaluation.wait() == 0, evaluation.said()

    repeat(scenario)


def test_a_controller_that_stands_still_for_longer_than_the_lease_loses_a_block(
    repeat: Repeat,
) -> None:
    """Its node does not wait for it: it undoes everything while it stands still."""

    def scenario(evaluation: Evaluation, number: int) -> None:
        evaluation.reach("http (switched)")
        node = evaluation.node()
        os.kill(evaluation.pid, signal.SIGSTOP)
        await_(lambda: HOST.started(node) is None, lambda: "the end of the node")
        assert evaluation.left() == []
        assert not evaluation.ended()
        os.kill(evaluation.pid, signal.SIGCONT)
        _lost_one_block(evaluation)

    repeat(scenario, victims.short_lease)


def test_a_node_that_stands_still_for_longer_than_its_lease_goes_on(repeat: Repeat) -> None:
    """What the controller said meanwhile waits to be read: it is not gone."""

    def scenario(evaluation: Evaluation, number: int) -> None:
        evaluation.reach("http (switched)")
        _linger("http (switched)", number)
        node = evaluation.node()
        os.kill(node, signal.SIGSTOP)
        time.sleep(1.5 * victims.LEASE_SECONDS)
        os.kill(node, signal.SIGCONT)
        assert evaluation.wait() == 0, evaluation.said()
        assert evaluation.statuses(0) == ["ok"] * TRIALS

    repeat(scenario, victims.short_lease)


def test_a_node_that_stands_still_for_ever_is_given_up_and_killed(repeat: Repeat) -> None:
    def scenario(evaluation: Evaluation, number: int) -> None:
        evaluation.reach("http (switched)")
        _linger("http (switched)", number)
        node = evaluation.node()
        os.kill(node, signal.SIGSTOP)
        _lost_one_block(evaluation)
        assert "it said nothing for" in evaluation.said()
        assert HOST.started(node) is None

    repeat(scenario, victims.short_lease)


def test_cgroups_of_a_run_are_empty_before_they_go(repeat: Repeat) -> None:
    root = mount.find("cgroup2")
    assert root is not None

    def scenario(evaluation: Evaluation, number: int) -> None:
        evaluation.reach("http (switched)")
        own = root / "harness" / f"run-{evaluation.name}"
        assert cgroup.populated(own)
        os.kill(evaluation.pid, signal.SIGTERM)
        assert evaluation.wait() == 130
        assert not own.exists()

    repeat(scenario)
