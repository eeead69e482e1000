"""Load from another machine, whose clock is two hours ahead: each request in the right window."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.controller import evaluate, node, remote_load
from harness.controller.evaluate import Outcome
from harness.errors import InputError, NeedError
from harness.linux import cgroup, mount, processes
from harness.load import record
from harness.load.record import Requests
from harness.model import Trial, WindowRow
from harness.node.requests import within
from harness.report import build
from harness.results.run import Run, TrialRecord
from harness.targets import channel
from harness.targets.openssh import CONFIGURATION
from tests.e2e import apart, sshd
from tests.e2e.apart import AHEAD_SECONDS, RUN, Pair
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make namespaces"),
    pytest.mark.skipif(
        not Path("/proc/self/timens_offsets").exists(), reason="the kernel has no time namespaces"
    ),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with apart.pair(tmp_path_factory.mktemp("apart")) as made:
        yield made


def traces(pair: Pair) -> set[str]:
    """What nodes leave on either machine if they leave anything."""
    root = mount.find("cgroup2")
    assert root is not None
    found = [
        *(root / cgroup.PARENT).glob(f"run-{RUN}*"), *Path("/var/tmp").glob("harness-*"),
        *pair.run.glob("harness/*"), *Path("/run/harness").glob("*"),
    ]  # fmt: skip
    inside = [pid for space in pair.spaces for pid in pair.processes(space)]
    return {*map(str, found), *(f"process {pid}" for pid in inside)}


@pytest.fixture(autouse=True)
def nothing_left(pair: Pair) -> Iterator[None]:
    """Neither machine keeps anything of a run, however bad its day."""
    before = traces(pair)
    yield
    await_that(lambda: traces(pair) <= before, lambda: f"{traces(pair) - before} is gone")


def await_that(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    assert until(condition, 180), f"waited in vain until {what()}"


@pytest.fixture(scope="module")
def outcome(pair: Pair) -> Outcome:
    return apart.evaluated(pair, pair.folder / "good")


def of_windows(run: Run) -> list[tuple[TrialRecord, Requests, Sequence[WindowRow]]]:
    """The trials with windows, the requests of these, and the windows."""
    return [
        (each, requests(run, each.trial), run.windows(each.trial))
        for each in run.records()
        if each.trial.kind == "switched"
    ]


def requests(run: Run, trial: Trial) -> Requests:
    return record.read(run.path / "trials" / trial.name / "requests.npz")


def served(pair: Pair, run: Run) -> NDArray[np.int64]:
    """When the service itself was asked, by the clock that the windows were metered by."""
    return np.loadtxt(apart.served(pair, run.path), dtype=np.int64)


def agree(log: Requests, times: NDArray[np.int64], apart_ns: int) -> bool:
    """Whether the service was asked once in each request's life, from when it was due, no more."""
    due, end = np.sort(log.due_ns) - apart_ns, np.sort(log.end_ns) + apart_ns
    among = times[(times >= due[0]) & (times <= end[-1])]
    return len(among) == len(due) and bool(((due <= among) & (among <= end)).all())


def test_every_trial_is_measured_with_the_collector_seeing_all(outcome: Outcome) -> None:
    assert outcome.error is None
    assert [record.status for record in outcome.run.records()] == ["ok"] * 3
    (http,) = [r for r in outcome.run.records() if r.trial.name.endswith("http-switched")]
    told = {v.metric: v.value for v in http.values}
    assert told["signal_seen"] == told["signal_made"] > 0


def test_requests_are_told_by_the_clock_of_the_service(pair: Pair, outcome: Outcome) -> None:
    """And by no other one: told as the load's own clock has it, they would miss it by far."""
    times = served(pair, outcome.run)
    trials = of_windows(outcome.run)
    assert len(trials) == 2
    for each, log, _ in trials:
        clock = each.extra["clock"]
        assert abs(clock["ahead_ns"] / 1e9 - AHEAD_SECONDS) < 1
        assert 0 < clock["uncertainty_ns"] <= 1e8 * apart.GUARD_SECONDS
        assert len(log.end_ns) > 500
        assert agree(log, times, clock["uncertainty_ns"])
        for column in (log.due_ns, log.start_ns, log.end_ns):
            column += clock["ahead_ns"]
        assert not agree(log, times, clock["uncertainty_ns"])


def test_windows_count_what_the_service_was_asked_in_them(pair: Pair, outcome: Outcome) -> None:
    """All but what was on its way at an edge: a request at most, there being one connection."""
    times = served(pair, outcome.run)
    for each, log, rows in of_windows(outcome.run):
        edges = [(row.window.start_ns, row.window.end_ns) for row in rows]
        asked = [int(((times >= start) & (times < end)).sum()) for start, end in edges]
        counted = [int(row.meters["requests"]) for row in rows]
        assert sum(asked) > 400
        assert max(abs(a - c) for a, c in zip(asked, counted, strict=True)) <= 1
        log.end_ns[:] += each.extra["clock"]["ahead_ns"]
        assert within(edges, log).sum() == 0


def test_the_run_and_its_report_say_where_the_load_came_from(outcome: Outcome) -> None:
    run = outcome.run
    assert run.about().load_node["target"] == "ssh:load"
    assert run.about().load_node["facts"]["kernel"] == os.uname().release
    (name,) = run.experiment().workloads
    assert (run.path / "logs" / f"{name}-b0-load.log").exists()
    text = build.build(run).html.read_text()
    assert "from ssh:load" in text
    assert "known to " in text


def test_a_service_on_loopback_is_refused(pair: Pair) -> None:
    found = apart.evaluated(pair, pair.folder / "loopback", listens="127.0.0.1")
    assert isinstance(found.error, InputError)
    assert "listens on 127.0.0.1:8080 only" in found.error.what
    assert "ssh:load" in found.error.why


def test_a_url_at_which_nobody_answers_the_load_is_refused(pair: Pair) -> None:
    url = f"http://{apart.ADDRESS}:9/"
    found = apart.evaluated(pair, pair.folder / "nobody", load_url=url)
    assert isinstance(found.error, InputError)
    assert f"Nothing answers at {url}, asked from the node of the load" in found.error.what


def test_a_guard_that_no_clock_is_known_well_enough_for_is_refused(pair: Pair) -> None:
    with pytest.raises(NeedError, match="are known to"):
        apart.evaluated(pair, pair.folder / "strict", guard=1e-6)
    assert not (pair.folder / "strict").exists()


def during_the_first_trial(pair: Pair, run: Path, what: Callable[[], object]) -> Outcome:
    """An evaluation of two blocks, in whose first trial something happens."""

    def happen() -> None:
        await_that(lambda: any(run.glob("trials/000-*")), lambda: "the first trial has begun")
        time.sleep(1.0)  # within its windows
        what()

    other = threading.Thread(target=happen)
    other.start()
    try:
        return apart.evaluated(pair, run, blocks=2)
    finally:
        other.join()


@pytest.mark.parametrize(
    ("module", "load"), [("harness.node", True), ("harness.load", True), ("harness.node", False)]
)
def test_losing_a_side_ends_its_block_and_the_next_one_is_measured(
    pair: Pair, module: str, load: bool
) -> None:
    def kill() -> None:
        (pid,) = pair.running(module, load=load)
        os.kill(pid, signal.SIGKILL)

    run = pair.folder / f"lost-{module}-{'load' if load else 'measured'}"
    found = during_the_first_trial(pair, run, kill)
    records = found.run.records()
    assert [r.status for r in records if r.trial.block == 0] == ["failed"]
    assert [r.status for r in records if r.trial.block == 1] == ["ok"] * 3
    assert found.error is None
    assert found.left_out == 2
    assert ("load" if load else "The node process was lost") in records[0].reason


LEASE_SECONDS = 2.5


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side gives the other one up after seconds, where a user's waits for minutes."""

    def short(run: str, **how: Any) -> Any:
        return replace(node.session(run, **how), lease_seconds=LEASE_SECONDS)

    monkeypatch.setattr(evaluate, "session", short)
    monkeypatch.setattr(node, "PING_SECONDS", LEASE_SECONDS / 4)
    monkeypatch.setattr(node, "SILENT_SECONDS", 3 * LEASE_SECONDS)
    monkeypatch.setattr(remote_load, "MARGIN_SECONDS", LEASE_SECONDS)
    monkeypatch.setattr(channel, "END_SECONDS", 2 * LEASE_SECONDS)
    monkeypatch.setattr(channel, "_MEANWHILE_SECONDS", LEASE_SECONDS / 4)


@pytest.mark.parametrize("load", [True, False], ids=["load", "measured"])
def test_a_side_that_stands_still_is_given_up_and_the_other_one_stays(
    pair: Pair, load: bool, short_lease: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To close it takes longer than the other one's lease, which hears of us meanwhile."""
    there = {True: pair.load, False: pair.measured}
    begun = {True: 0, False: 0}

    def counted(which: bool, connect: Callable[[], Any]) -> Any:
        begun[which] += 1
        return connect()

    for which, machine in there.items():
        monkeypatch.setattr(machine, "connect", partial(counted, which, machine.connect))

    def stop() -> None:
        (pid,) = pair.running("harness.node", load=load)
        os.kill(pid, signal.SIGSTOP)

    run = pair.folder / f"still-{'load' if load else 'measured'}"
    found = during_the_first_trial(pair, run, stop)
    records = found.run.records()
    assert found.error is None
    assert [r.status for r in records if r.trial.block == 0] == ["failed"]
    assert "it said nothing for" in records[0].reason
    assert [r.status for r in records if r.trial.block == 1] == ["ok"] * 3
    assert begun == {load: 2, not load: 1}


COMMANDED = """
workloads = ["own"]
blocks = 1
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
switched_seconds = 2.0
steady_seconds = 1.0
metered_seconds = 0.5
calibration_seconds = 1.0
replacements = 0
guard_seconds = 0.02
loads = {own = {rate = 200}}

[[arms]]
name = "baseline"

[[arms]]
name = "http"
collectors = ["http"]
"""


@pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="sshd is not installed")
def test_the_command_line_takes_load_from_a_host_by_ssh_and_leaves_nothing_there(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is on this machine, and listens on an address that the host reaches."""
    here, there, link = "10.213.8.1", "10.213.8.2", f"hv{os.getpid()}"
    (tmp_path / "own.toml").write_text(COMMANDED)
    with sshd.serve() as server:
        monkeypatch.setenv(CONFIGURATION, str(server.configuration()))
        inside = ("nsenter", f"--net=/proc/{server.pid}/ns/net", "ip")
        for words in (
            ("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns",
             str(server.pid)),
            ("ip", "address", "add", f"{here}/24", "dev", link),
            ("ip", "link", "set", link, "up"),
            (*inside, "address", "add", f"{there}/24", "dev", "eth0"),
            (*inside, "link", "set", "eth0", "up"),
        ):  # fmt: skip
            processes.run(words)
        program = f"{sys.executable} {pair.folder}/server.py {here} {tmp_path}/times 8081"
        done = processes.run(
            [
                sys.executable, "-m", "harness", "evaluate", str(tmp_path / "own.toml"),
                "--command", program, "--url", f"http://{here}:8081/",
                "--load-target", f"ssh:{sshd.NAME}", "--reports", str(tmp_path), "--run", RUN,
            ],
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode in (0, 3), done.stderr  # 3: on a busy machine none may be usable
        left = [*server.path("/run").glob("harness*"), *server.path("/var/lib").iterdir()]
        assert left == []
    run = Run.open(tmp_path / RUN)
    assert [record.status for record in run.records()] == ["ok"] * 3
    assert run.about().load_node["target"] == f"ssh:{sshd.NAME}"
    (log, *_) = [log for _, log, _ in of_windows(run)]
    assert (log.status == 200).all()
    assert len(log.status) > 200


CONTROLLER = """
import sys
from pathlib import Path
from tests.e2e import apart

folder, *spaces = sys.argv[1:]
apart.evaluated(apart.machines(Path(folder), tuple(spaces)), Path(folder) / "killed")
"""


def test_both_nodes_undo_what_they_did_when_the_controller_is_killed(pair: Pair) -> None:
    before = traces(pair)
    argv = [sys.executable, "-c", CONTROLLER, str(pair.folder), *pair.spaces]
    controller = processes.spawn(argv, log=pair.folder / "controller.log")
    trials = pair.folder / "killed/trials"
    await_that(lambda: any(trials.glob("000-*")), lambda: "the first trial has begun")
    assert len(pair.running("harness.load", load=True)) == 1
    controller.kill()
    controller.wait()
    await_that(lambda: traces(pair) <= before, lambda: f"{traces(pair) - before} is gone")
    assert json.loads((pair.folder / "killed/run.json").read_text())["complete"] is False
