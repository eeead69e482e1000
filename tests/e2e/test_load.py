"""The load driver against a server whose every request is counted, and which stalls on demand."""

import contextlib
import http.server
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.errors import LoadError
from harness.load import record
from harness.load.client import Driver

pytestmark = pytest.mark.e2e
MS = 1_000_000
STALL_SECONDS = 0.3


class Server(http.server.ThreadingHTTPServer):
    """Counts the paths asked for; all requests wait while `gate` is closed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self.server.gate.wait()
        self.server.paths[self.path] += 1
        status = {"/broken": 503, "/moved": 302}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def twin() -> Iterator[Server]:
    with serving() as running:
        yield running


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield running
        finally:
            running.gate.set()
            running.shutdown()
            thread.join()


def drive(
    tmp_path: Path, url: str, locustfile: str = "", connections: int = 8, twin_url: str = ""
) -> Driver:
    path = tmp_path / "locustfile.py"
    path.write_text(locustfile)
    return Driver(
        url,
        twin_url,
        control=tmp_path / "load.sock",
        log=tmp_path / "load.log",
        locustfile=path if locustfile else None,
        connections=connections,
    )


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
    assert not summary.saturated
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
        time.sleep(0.2)
        twin.gate.set()
        opened = time.monotonic_ns()
        driver.finish(tmp_path / "requests.npz")
    made = record.read(tmp_path / "requests.npz")
    assert made.twin.sum() >= 39
    assert (made.end_ns[made.twin] >= opened).all()  # what was due for it stayed its own
    assert (made.end_ns[~made.twin] < opened).sum() >= 30
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


MIXED = """
from locust import FastHttpUser, task

class Visitor(FastHttpUser):
    max_redirects = 0

    @task(7)
    def often(self):
        self.client.get("/often")

    @task(2)
    def broken(self):
        self.client.get("/broken")

    @task(1)
    def moved(self):
        self.client.get("/moved")
"""


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


def test_users_that_fail_to_start_are_told(tmp_path: Path) -> None:
    failing = TWO_STEPS + "\n    def on_start(self):\n        raise RuntimeError('no account')\n"
    with pytest.raises(LoadError, match="on_start"):
        drive(tmp_path, "http://127.0.0.1:1", failing)
    assert "no account" in (tmp_path / "load.log").read_text()


def test_sigterm_ends_it(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url) as driver:
        driver.start(50)
        os.kill(driver.pid, signal.SIGTERM)
        assert driver.process.wait(10) == 0
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
        assert driver.process.wait(10) == 0


def test_it_imports_without_a_warning(tmp_path: Path, server: Server) -> None:
    os.environ["PYTHONWARNINGS"] = "error"
    try:
        with drive(tmp_path, server.url) as driver:
            driver.start(50, requests=2)
            driver.wait(tmp_path / "requests.npz")
    finally:
        del os.environ["PYTHONWARNINGS"]
    assert (tmp_path / "load.log").read_text() == ""
