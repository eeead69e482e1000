"""Several load drivers that are one load, of a real server: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.errors import LoadError
from harness.linux import processes
from harness.load import record
from harness.load.schedule import Share, scheduled
from harness.model import Arrivals
from harness.node import load_driver, load_workers
from harness.node.driving import Driving
from harness.node.load_driver import Driver
from harness.node.load_workers import Workers, own
from harness.results.run import Run
from harness.wire import codec
from harness.wire.driving import Begin, Call, Does, Finish, Start
from harness.wire.spec import Placement
from tests.e2e.driven import MIXED, MS, Server, serving
from tests.e2e.evaluating import HARNESS, ROOT, SMALL, clean_machine, command
from tests.waiting import until

pytestmark = pytest.mark.e2e
SEED = 3


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def drive(
    folder: Path, url: str, workers: int = 2, locustfile: str = "", arrivals: Arrivals = "periodic"
) -> Workers:
    path = folder / "locustfile.py"
    path.write_text(locustfile)

    def start(share: Share) -> Driver:
        return Driver(
            url,
            control=own(folder / "load.sock", share),
            log=own(folder / "load.log", share),
            locustfile=path if locustfile else None,
            connections=8,
            seed=SEED,
            arrivals=arrivals,
            share=share,
            awaited=False,
        )

    return Workers(workers, start, sorted(os.sched_getaffinity(0)))


@pytest.mark.parametrize("arrivals", ["periodic", "poisson"])
def test_they_make_together_what_one_would(
    tmp_path: Path, server: Server, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_workers, "AHEAD_NS", 2000 * MS)  # however busy the machine is
    workers = drive(tmp_path, server.url, arrivals=arrivals)
    try:
        began = workers.start(200)
        time.sleep(3)
        before = time.monotonic_ns()
        summary = workers.finish(tmp_path / "requests.npz")
    finally:
        workers.stop()
    made = record.read(tmp_path / "requests.npz")
    due = np.sort(made.due_ns)
    alone = scheduled(arrivals, 200.0, None, f"{SEED}/1")
    alone.start_ns = began
    assert due.tolist() == alone.take(int(due[-1]))  # each of them, up to one end for both
    assert due[-1] > before - 100 * MS
    assert server.paths == {"/": len(due)}
    assert (summary.requests, summary.errors) == (len(due), 0)
    assert summary.due_per_second == pytest.approx(200, rel=0.2)
    shares = [each["requests"] for each in summary.workers]
    assert sum(shares) == len(due)
    assert max(shares) - min(shares) <= 1
    assert (np.diff(made.end_ns) >= 0).all()
    assert not list(tmp_path.glob("requests.npz.*"))


def test_a_counted_phase_makes_that_many(tmp_path: Path, server: Server) -> None:
    """Of a single request one of the two has none, and does not wait for one."""
    workers = drive(tmp_path, server.url)
    try:
        for number in (23, 1, 8):
            workers.start(100, requests=number)
            assert workers.wait(tmp_path / "requests.npz").requests == number
    finally:
        workers.stop()
    assert server.paths == {"/": 32}


def test_a_closed_loop_has_the_users_of_both(tmp_path: Path, server: Server) -> None:
    workers = drive(tmp_path, server.url)
    try:
        found = workers.capacity(1.0)
        assert 0 < found.rate <= server.paths["/"]
        asked = server.paths.total()
        workers.start(None)
        time.sleep(0.5)
        summary = workers.finish(tmp_path / "full.npz")
    finally:
        workers.stop()
    made = server.paths.total() - asked
    # each user may have one on its way when the loop begins, and one when it ends
    assert made - 16 <= summary.requests == len(record.read(tmp_path / "full.npz").due_ns) <= made
    assert all(each["requests"] > 0 for each in summary.workers)


def test_the_mix_and_the_failures_are_those_of_all(tmp_path: Path, server: Server) -> None:
    workers = drive(tmp_path, server.url, locustfile=MIXED)
    try:
        workers.start(400, requests=400)
        summary = workers.wait(tmp_path / "requests.npz")
    finally:
        workers.stop()
    made = record.read(tmp_path / "requests.npz")
    named = [made.route_names[i] for i in made.route]
    assert {name: named.count(name) for name in named} == dict(server.paths)
    assert dict(server.paths) == {"/often": 280, "/broken": 80, "/moved": 40}
    assert summary.failures == {"503 Service Unavailable": 80}


def test_one_that_is_killed_fails_the_phase_and_is_named(tmp_path: Path, server: Server) -> None:
    workers = drive(tmp_path, server.url, workers=3)
    try:
        workers.start(90)
        os.kill(workers.pids[1], signal.SIGKILL)
        os.waitid(os.P_PID, workers.pids[1], os.WEXITED | os.WNOWAIT)
        with pytest.raises(LoadError, match=r"Load worker 2 of 3: .* failed to finish") as found:
            workers.finish(tmp_path / "requests.npz")
        assert "It ended (-9)." in found.value.why
        assert "load-2.log" in found.value.next_step
        asked = server.paths.total()
        with pytest.raises(LoadError, match=r"Load worker 2 of 3: .* failed to start"):
            workers.start(90)  # by the two that are left: two thirds of the load
        time.sleep(0.3)
        assert server.paths.total() == asked
    finally:
        workers.stop()
    assert not list(tmp_path.glob("*.sock"))
    assert not list(tmp_path.glob("*.npz*"))


def test_one_that_stands_still_fails_the_phase_and_is_ended_all_the_same(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_driver, "MARGIN_SECONDS", 2.0)
    workers = drive(tmp_path, server.url)
    try:
        workers.start(50)
        os.kill(workers.pids[0], signal.SIGSTOP)
        with pytest.raises(LoadError, match=r"Load worker 1 of 2: .* failed to finish") as found:
            workers.finish(tmp_path / "requests.npz")
        assert "no answer" in found.value.why
    finally:
        workers.stop()
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers.pids)


def test_one_that_cannot_begin_ends_the_others(tmp_path: Path, server: Server) -> None:
    with pytest.raises(LoadError, match=r"Cannot load the locustfile"):
        drive(tmp_path, server.url, locustfile="raise RuntimeError('no')")
    assert not list(tmp_path.glob("*.sock"))


@pytest.fixture
def clean() -> Iterator[None]:
    yield from clean_machine()


def worker_of(pid: int, number: str) -> int:
    """The load driver with this `--worker` among all that a process has started; 0 without one."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = (path.parent / "cmdline").read_text().split("\0")
            if "harness.load" in words and words[words.index("--worker") + 1] == number:
                child = each = int(path.parent.name)
                while each > 1:
                    each = int(Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[1])
                    if each == pid:
                        return child
        except (OSError, ValueError):  # it ended meanwhile, or is the only one
            continue
    return 0


@pytest.mark.usefixtures("clean")
@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to measure")
def test_an_evaluation_loses_a_trial_with_a_worker_and_goes_on_with_as_many(tmp_path: Path) -> None:
    small, run = tmp_path / "small.toml", tmp_path / "r"
    small.write_text(SMALL)
    process = processes.spawn(
        [*HARNESS, "evaluate", str(small), "--load-workers", "2", "--reports", str(tmp_path),
         "--run", "r"],
        log=tmp_path / "harness.log", cwd=ROOT,
    )  # fmt: skip
    try:
        log = tmp_path / "harness.log"
        assert until(lambda: any(run.glob("trials/*/trial.json")), 180), log.read_text()
        victim = worker_of(process.pid, "1")
        assert victim
        os.kill(victim, signal.SIGKILL)
        code = process.wait(300)
    finally:
        processes.stop(process)
    assert code == 2
    failed = [each for each in Run.open(run).records() if each.status == "failed"]
    assert [("Load worker 2 of 2: The load driver failed" in each.reason) for each in failed] == [
        True
    ]
    command("evaluate", "--resume", run)
    assert json.loads((run / "run.json").read_text())["experiment"]["load_workers"] == 2
    records = Run.open(run).records()
    assert [each.status for each in records] == ["ok"] * 3
    for each in records:
        if each.trial.kind == "switched":
            told = {value.metric: value.value for value in each.values}
            shares = [worker["requests"] for worker in each.extra["load_workers"]]
            assert len(shares) == 2
            assert sum(shares) == told["requests_total"]
            made = record.read(run / "trials" / each.trial.name / "requests.npz")
            assert len(made.due_ns) == told["requests_total"]


def test_a_node_of_the_load_drives_with_as_many_as_it_is_asked_for(
    tmp_path: Path, server: Server
) -> None:
    (tmp_path / "logs").mkdir()
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    machine: Any = SimpleNamespace(scratch=tmp_path, work=tmp_path, make=lambda _: None)
    driving = Driving(machine, Placement(cpus, cpus, cpus, cpus, ""))

    def do(does: Does) -> tuple[Mapping[str, Any], Path | None]:
        return driving.do(codec.load(Call, json.loads(json.dumps(codec.dump(Call(does))))))

    try:
        do(Begin("far", server.url, None, 8, SEED, "poisson", workers=2))
        do(Start(200.0, 41))
        found, path = do(Finish(is_counted=True))
        assert path is not None
        assert len(record.read(path).due_ns) == 41 == server.paths["/"] - 1  # and one look before
        assert json.loads(json.dumps(found))["summary"]["workers"][1]["requests"] == 20
    finally:
        driving.stop()
    assert {each.name for each in (tmp_path / "logs").iterdir()} == {"far.log", "far-2.log"}
