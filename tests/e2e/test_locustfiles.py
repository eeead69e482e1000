"""The load driver with locustfiles of many kinds: mixes, users that stop, and what is broken."""

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.errors import LoadError
from harness.load import record
from tests.e2e.driven import MIXED, MS, Server, drive, serving

pytestmark = pytest.mark.e2e


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


STOCK = """
from locust import HttpUser, SequentialTaskSet, between, events, task

@events.init_command_line_parser.add_listener
def _(parser):
    parser.add_argument("--mine", default="set")

@events.request.add_listener
def _(name, **_):
    assert name

class Steps(SequentialTaskSet):
    @task
    def first(self):
        self.client.get("/first")

    @task
    def second(self):
        self.client.get("/second")
        self.interrupt()

class Customer(HttpUser):
    wait_time = between(5, 9)

    def on_start(self):
        assert self.environment.parsed_options.mine == "set"
        self.client.get("/login")

    @task(3)
    def browse(self):
        self.client.get("/browse?page=1", name="/browse")

    @task
    def checked(self):
        with self.client.get("/checked", catch_response=True) as response:
            if response.text == "ok\\n":
                response.failure("not what I want")

    tasks = [Steps, Steps]
"""


def test_a_stock_locustfile_runs_unchanged(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url, STOCK, connections=2) as driver:
        driver.start(100, requests=80)
        summary = driver.wait(tmp_path / "requests.npz")
    assert server.paths["/login"] == 2
    assert server.paths["/browse?page=1"] == pytest.approx(30, abs=3)
    assert server.paths["/first"] == pytest.approx(20, abs=3)
    assert abs(server.paths["/first"] - server.paths["/second"]) <= 2
    made = record.read(tmp_path / "requests.npz")
    assert set(made.route_names) == {"/browse", "/checked", "/first", "/second"}
    assert summary.errors == server.paths["/checked"] == made.failed.sum()
    assert summary.requests == 80


def test_the_mix_is_exact_and_failures_are_counted(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url, MIXED, connections=4) as driver:
        driver.start(250, requests=100)
        summary = driver.wait(tmp_path / "requests.npz")
    assert server.paths == {"/often": 70, "/broken": 20, "/moved": 10}
    assert (summary.requests, summary.errors) == (100, 20)
    made = record.read(tmp_path / "requests.npz")
    assert Counter(made.status.tolist()) == {200: 70, 503: 20, 302: 10}


TWO_STEPS = """
from locust import FastHttpUser, task

class Visitor(FastHttpUser):
    @task
    def both(self):
        self.client.get("/one")
        self.client.get("/two")
"""


def test_only_a_tasks_first_request_was_due(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url, TWO_STEPS) as driver:
        began = driver.start(100, requests=10)
        driver.wait(tmp_path / "requests.npz")
    made = record.read(tmp_path / "requests.npz")
    first = np.array([made.route_names[i] == "/one" for i in made.route])
    assert np.sort(made.due_ns[first]).tolist() == [began + k * 10 * MS for k in range(10)]
    assert (made.due_ns[~first] == made.start_ns[~first]).all()
    assert (~first).sum() == 10


TWO_CLASSES = """
from locust import FastHttpUser, task

class Reader(FastHttpUser):
    weight = 3

    @task
    def read(self):
        self.client.get("/read")

class Writer(FastHttpUser):
    @task
    def write(self):
        self.client.get("/write")
"""


def test_user_classes_share_the_slots_by_weight(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url, TWO_CLASSES) as driver:
        driver.start(200, requests=100)
        assert driver.wait(tmp_path / "requests.npz").errors == 0
    assert server.paths == {"/read": 75, "/write": 25}


def test_a_class_of_weight_0_is_not_of_the_mix(tmp_path: Path, server: Server) -> None:
    idle = TWO_CLASSES.replace("weight = 3", "weight = 0")
    with drive(tmp_path, server.url, idle) as driver:
        driver.start(200, requests=40)
        assert driver.wait(tmp_path / "requests.npz").errors == 0
    assert server.paths == {"/write": 40}


def test_a_fixed_count_is_so_many_of_the_users(tmp_path: Path, server: Server) -> None:
    fixed = TWO_CLASSES.replace("weight = 3", "weight = 0\n    fixed_count = 2")
    with drive(tmp_path, server.url, fixed, connections=8) as driver:
        driver.start(200, requests=80)
        assert driver.wait(tmp_path / "requests.npz").errors == 0
    assert server.paths == {"/read": 20, "/write": 60}


PRINTING = """
import os, subprocess, sys
from locust import FastHttpUser, task

print("read", "me")
os.write(1, b"by descriptor\\n")
subprocess.run(["echo", "-n", "by a child"], check=True)

class Visitor(FastHttpUser):
    @task
    def visit(self):
        print("x" * 20_000)
        sys.stdout.flush()
        self.client.get("/")
"""


def test_a_locustfile_may_print(tmp_path: Path, server: Server) -> None:
    """At import, before the ready line, and for each request, more than any pipe holds."""
    with drive(tmp_path, server.url, PRINTING) as driver:
        driver.start(200, requests=100)
        summary = driver.wait(tmp_path / "requests.npz")
        assert (summary.requests, summary.errors) == (100, 0)
    log = (tmp_path / "load.log").read_text()
    for said in ("read me\n", "by descriptor\n", "by a child\n{", "x" * 20_000 + "\n"):
        assert said in log
    assert log.endswith("(What the locustfile prints from here on is not kept.)\n")
    assert len(log) < 300_000  # not two million


def test_users_that_all_stop_end_the_phase(tmp_path: Path, server: Server) -> None:
    quitting = TWO_STEPS + "\n        from locust.exception import StopUser; raise StopUser()\n"
    with drive(tmp_path, server.url, quitting, connections=3) as driver:
        driver.start(100, requests=10)
        summary = driver.wait(tmp_path / "requests.npz")
        assert summary.saturated
        assert "all users stopped" in summary.reason
        assert server.paths == {"/one": 3, "/two": 3}
        with pytest.raises(LoadError, match="have stopped"):
            driver.start(100)


def test_a_task_that_raises_is_a_failed_request(tmp_path: Path, server: Server) -> None:
    raising = TWO_STEPS.replace('self.client.get("/one")', "raise KeyError('x')")
    with drive(tmp_path, server.url, raising) as driver:
        driver.start(100, requests=10)
        summary = driver.wait(tmp_path / "requests.npz")
    assert (summary.requests, summary.errors) == (10, 10)
    assert summary.failures == {"the task raised KeyError": 10}
    assert record.read(tmp_path / "requests.npz").route_names == ("(task failed)",)


def test_a_refused_connection_is_a_failed_request(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with drive(tmp_path, url) as driver:
        driver.start(100, requests=10)
        summary = driver.wait(tmp_path / "requests.npz")
        assert (summary.requests, summary.errors) == (10, 10)
        with pytest.raises(LoadError, match="answered no request"):
            driver.capacity(0.2)
    assert set(record.read(tmp_path / "requests.npz").status) == {0}


def test_a_broken_locustfile_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"Cannot load.*NameError"):
        drive(tmp_path, "http://127.0.0.1:1", "nonsense")
    with pytest.raises(LoadError, match="no user class with tasks"):
        drive(tmp_path, "http://127.0.0.1:1", "x = 1")
    with pytest.raises(LoadError, match=r"Cannot load.*SystemExit: no licence"):
        drive(tmp_path, "http://127.0.0.1:1", "import sys; sys.exit('no licence')")
    nobody = TWO_CLASSES.replace("weight = 3", "weight = 0")
    nobody = nobody.replace(
        "class Writer(FastHttpUser):", "class Writer(FastHttpUser):\n    weight = 0\n"
    )
    with pytest.raises(LoadError, match=r"Every user class of .* has weight 0"):
        drive(tmp_path, "http://127.0.0.1:1", nobody)


def test_users_that_fail_to_start_are_told(tmp_path: Path) -> None:
    failing = TWO_STEPS + "\n    def on_start(self):\n        raise RuntimeError('no account')\n"
    with pytest.raises(LoadError, match=r"on_start. RuntimeError: no account\."):
        drive(tmp_path, "http://127.0.0.1:1", failing)
    assert "no account" in (tmp_path / "load.log").read_text()
