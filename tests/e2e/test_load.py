"""The load driver: the rate that was asked for, stalls, saturation, and its end."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.errors import LoadError
from harness.load import record
from tests.e2e.driven import MS, Server, drive, serving

pytestmark = pytest.mark.e2e
STALL_SECONDS = 0.3


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_it_makes_exactly_the_requests_that_were_due(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url) as driver:
        began = driver.start(200)
        time.sleep(3)
        before = time.monotonic_ns()
        summary = driver.finish(tmp_path / "requests.npz")
        after = time.monotonic_ns()
    made = record.read(tmp_path / "requests.npz")
    due = np.sort(made.due_ns)
    assert due.tolist() == [began + k * 5 * MS for k in range(len(due))]
    assert (before - began) // (5 * MS) < len(due) <= (after - began) // (5 * MS) + 1
    assert server.paths == {"/": len(due)}
    assert (summary.requests, summary.errors) == (len(due), 0)
    assert made.route_names == ("/",)
    assert set(made.status) == {200}
    assert (made.start_ns <= made.end_ns).all()
    assert (made.due_ns < made.end_ns).all()


def test_a_counted_phase_makes_that_many(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url) as driver:
        for number in (23, 7):
            driver.start(100, requests=number)
            assert driver.wait(tmp_path / "requests.npz").requests == number
    assert server.paths == {"/": 30}


def test_drawn_arrivals_are_due_when_the_seed_says_whatever_the_server_does(
    tmp_path: Path, server: Server
) -> None:
    found = []
    for stalled in (False, True):
        with drive(tmp_path, server.url, connections=4, arrivals="poisson") as driver:
            if stalled:
                server.gate.clear()
            began = driver.start(400, requests=200)
            time.sleep(0.2 * stalled)
            server.gate.set()
            summary = driver.wait(tmp_path / "requests.npz")
        found.append(np.sort(record.read(tmp_path / "requests.npz").due_ns) - began)
        assert summary.requests == 200
        assert summary.due_per_second == pytest.approx(400, rel=0.3)
    assert found[0].tolist() == found[1].tolist()
    assert len(set(np.diff(found[0]).tolist())) > 190


def test_a_stall_shows_in_all_that_was_due_meanwhile(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url, connections=4) as driver:
        driver.start(200, requests=400)
        time.sleep(0.3)
        server.gate.clear()
        closed = time.monotonic_ns()
        time.sleep(STALL_SECONDS)
        opened = time.monotonic_ns()
        server.gate.set()
        driver.wait(tmp_path / "requests.npz")
    made = record.read(tmp_path / "requests.npz")
    meanwhile = (made.due_ns > closed) & (made.due_ns < opened)
    assert len(made.due_ns) == 400
    assert meanwhile.sum() >= STALL_SECONDS * 200 - 1
    assert (made.end_ns[meanwhile] >= opened).all()
    # only as many as there are connections were sent; the others waited, and are late all the same
    assert (made.start_ns[meanwhile] < opened).sum() <= 4


def test_an_impossible_rate_is_called_saturated(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url, connections=2) as driver:
        driver.start(20_000)
        time.sleep(0.3)
        summary = driver.finish(tmp_path / "requests.npz")
        assert summary.saturated
        assert summary.reason
        made = record.read(tmp_path / "requests.npz")
        assert len(made.due_ns) == summary.requests > 5_000
        driver.start(20, requests=5)  # and it is as good as new
        assert driver.wait(tmp_path / "again.npz").requests == 5


def test_a_closed_loop_finds_the_capacity(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url) as driver:
        found = driver.capacity(1.0)
    assert 0 < found.rate <= server.paths["/"]  # the loop lasts one second at least
    assert found.cpu_share > 0


def test_a_closed_loop_that_is_recorded_leaves_nothing_for_the_next_phase(
    tmp_path: Path, server: Server
) -> None:
    with drive(tmp_path, server.url, connections=4) as driver:
        began = driver.start(None)
        time.sleep(0.5)
        summary = driver.finish(tmp_path / "full.npz")
        asked = server.paths["/"]
        driver.start(100, requests=20)
        assert driver.wait(tmp_path / "counted.npz").requests == 20
    full = record.read(tmp_path / "full.npz")
    assert summary.requests == len(full.due_ns) > 4
    assert asked - 4 <= len(full.due_ns) <= asked  # what was under way at the end is not counted
    assert full.start_ns.min() >= began
    assert summary.cpu_share > 0
    assert not full.failed.any()


def test_sigterm_ends_it(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url) as driver:
        driver.start(50)
        os.kill(driver.pid, signal.SIGTERM)
        assert driver.process.wait(60) == 0
        with pytest.raises(LoadError, match="failed to finish"):
            driver.finish(tmp_path / "requests.npz")
    assert not (tmp_path / "load.sock").exists()


def test_sigterm_ends_even_a_wait(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url) as driver:
        driver.start(1, requests=1_000)
        terminate = threading.Timer(0.5, os.kill, (driver.pid, signal.SIGTERM))
        terminate.start()
        with contextlib.suppress(LoadError):  # or what was made until then
            assert driver.wait(tmp_path / "requests.npz").saturated
        terminate.join()
        assert driver.process.wait(60) == 0


def test_it_imports_without_a_warning(tmp_path: Path, server: Server) -> None:
    os.environ["PYTHONWARNINGS"] = "error"
    try:
        with drive(tmp_path, server.url) as driver:
            driver.start(50, requests=2)
            driver.wait(tmp_path / "requests.npz")
    finally:
        del os.environ["PYTHONWARNINGS"]
    assert (tmp_path / "load.log").read_text() == '{"ready": true}\n'
