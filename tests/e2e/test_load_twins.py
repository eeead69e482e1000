"""The load driver with two services to aim at: each gets what is due while it is its turn."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.errors import LoadError
from harness.load import record
from tests.e2e.driven import MIXED, MS, Server, drive, serving
from tests.waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def twin() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_each_twin_gets_what_is_due_while_it_is_aimed_at(
    tmp_path: Path, server: Server, twin: Server
) -> None:
    with drive(tmp_path, server.url, MIXED, twin_url=twin.url) as driver:
        began = driver.start(500)
        edges = []
        for aimed in (True, False, False, True, False):
            time.sleep(0.1)
            edges.append((driver.aim(aimed), aimed))
        time.sleep(0.1)
        summary = driver.finish(tmp_path / "requests.npz")
        assert driver.start(500, requests=10) > began  # a new phase is for the first service
        assert driver.wait(tmp_path / "again.npz").requests == 10
    made = record.read(tmp_path / "requests.npz")
    due = np.sort(made.due_ns)
    assert due.tolist() == [began + k * 2 * MS for k in range(len(due))]
    assert summary.requests == len(due)
    expected = np.zeros(len(made.due_ns), bool)
    for at_ns, aimed in edges:
        expected[made.due_ns > at_ns] = aimed
    assert made.twin.tolist() == expected.tolist()
    assert 40 < made.twin.sum() < len(due) - 40
    assert sum(twin.paths.values()) == made.twin.sum()
    assert sum(server.paths.values()) == (~made.twin).sum() + 10
    assert not record.read(tmp_path / "again.npz").twin.any()
    for served, which in ((server, ~made.twin), (twin, made.twin)):  # the mix is exact on each
        extra = 7 if served is server else 0
        assert served.paths["/often"] - extra == pytest.approx(0.7 * which.sum(), abs=1)


def test_a_stalled_twin_does_not_hold_up_the_other(
    tmp_path: Path, server: Server, twin: Server
) -> None:
    with drive(tmp_path, server.url, connections=4, twin_url=twin.url) as driver:
        twin.gate.clear()
        driver.start(200)
        driver.aim(True)
        time.sleep(0.2)
        driver.aim(False)
        assert until(lambda: server.paths.total() >= 40)
        opened = time.monotonic_ns()
        twin.gate.set()
        driver.finish(tmp_path / "requests.npz")
    made = record.read(tmp_path / "requests.npz")
    assert made.twin.sum() >= 39
    assert (made.end_ns[made.twin] >= opened).all()  # what was due for it stayed its own
    assert (made.end_ns[~made.twin] < opened).sum() >= 40 - 4  # each connection has one under way
    assert sum(twin.paths.values()) == made.twin.sum()


def test_the_capacity_is_that_of_the_first(tmp_path: Path, server: Server, twin: Server) -> None:
    with drive(tmp_path, server.url, twin_url=twin.url) as driver:
        driver.capacity(0.3)
        driver.start(100, requests=5)
        driver.wait(tmp_path / "requests.npz")
    assert twin.paths == {}
    assert server.paths["/"] > 5


def test_without_a_twin_there_is_nobody_to_aim_at(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url) as driver:
        with pytest.raises(LoadError, match="No phase"):
            driver.aim(False)
        driver.start(100, requests=3)
        with pytest.raises(LoadError, match="no twin"):
            driver.aim(True)
        driver.wait(tmp_path / "requests.npz")
    assert not record.read(tmp_path / "requests.npz").twin.any()
