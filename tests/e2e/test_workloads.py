import http.client
import json
import os
import shutil
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import pytest

from harness.errors import InputError, NeedError, WorkloadError
from harness.linux import listeners, ports, processes
from harness.load import record
from harness.node import service
from harness.node.load_driver import Driver
from harness.node.machine import Machine
from harness.node.service import SpawnedService
from harness.plan import trials, workloads
from harness.plan.workloads import Workload, address
from tests import waiting

pytestmark = pytest.mark.e2e
SERVER = "import sys, http.server as h; h.test(h.SimpleHTTPRequestHandler, port=int(sys.argv[1]))"


Start = Callable[..., SpawnedService]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a service as a node does, in a cgroup; all of it is ended with the test."""
    with ExitStack() as ends:
        machine = ends.enter_context(
            Machine("services", work=tmp_path / "work", journal=tmp_path / "journal")
        )

        def started(workload: Workload, **more: Any) -> SpawnedService:
            given = {"log": tmp_path / "service.log", "cgroup": machine.make("workload"), **more}
            found = service.spawn(trials.service(workload), **given)  # type: ignore[arg-type]
            ends.callback(found.stop)
            return found

        yield started


@pytest.fixture(params=["flask", "go", "java", "nodejs"])
def running(request: pytest.FixtureRequest, start: Start) -> SpawnedService:
    return start(workloads.load(request.param))


@pytest.fixture
def plain(start: Start) -> SpawnedService:
    return start(workloads.load("plain"))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_every_route_answers(running: SpawnedService) -> None:
    assert get(running.url, "/") == (200, "hello\n")
    assert get(running.url, "/healthz") == (200, "ok\n")
    status, user = get(running.url, "/api/users/42?wait_ms=1")
    assert (status, json.loads(user)) == (200, {"id": 42, "name": "User 42", "active": True})
    status, cpu = get(running.url, "/cpu?blocks=3")
    assert status == 200
    assert json.loads(cpu)["blocks"] == 3
    assert len(bytes.fromhex(json.loads(cpu)["md5"])) == 16
    assert json.loads(get(running.url, "/alloc?mb=2")[1]) == {"mb": 2, "kept_mb": 0}
    assert running.stop() == 0


def test_every_route_of_the_load_answers(running: SpawnedService) -> None:
    workload = workloads.load(running.name)
    assert workload.primary in {route.name for route in workload.routes if route.weight}
    for route in workload.routes:
        assert get(running.url, route.path.replace("{n}", "7"))[0] == 200


def test_an_order_waits_for_an_upstream_over_a_connection_of_its_own(
    running: SpawnedService,
) -> None:
    assert get(running.url, "/healthz")[0] == 200  # gunicorn listens before its worker does
    served = {each.port for each in listeners.held(running.pids())}
    assert len(served) == 2  # its own, and that of the upstream
    (upstream,) = served - {address(running.url)[1]}
    before, began = lingering(upstream), time.monotonic()
    for number in (7, 8):
        status, order = get(running.url, f"/api/orders/{number}")
        assert (status, json.loads(order)) == (200, {"id": number, "name": f"Order {number}"})
    assert time.monotonic() - began >= 2 * 0.01
    assert waiting.until(lambda: lingering(upstream) - before >= 2)  # closed after the answer
    assert get(running.url, "/api/orders/nobody")[0] == 404


def test_whoever_hangs_up_on_the_upstream_takes_nobody_s_place_there(
    running: SpawnedService,
) -> None:
    assert get(running.url, "/healthz")[0] == 200
    served = {each.port for each in listeners.held(running.pids())}
    (upstream,) = served - {address(running.url)[1]}
    for _ in range(16):  # more than threads wait there
        with socket.create_connection(("127.0.0.1", upstream), timeout=60) as connection:
            connection.sendall(b"7")
            reset = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    assert get(running.url, "/api/orders/7")[0] == 200


def test_it_opens_the_watched_file_and_executes_a_program(running: SpawnedService) -> None:
    watched = workloads.load(running.name).directory / "watched.txt"
    assert json.loads(get(running.url, "/file")[1]) == {"bytes": watched.stat().st_size}
    assert json.loads(get(running.url, "/exec")[1]) == {"exit_code": 0}


def test_a_connection_ends_where_the_client_asks_for_it(running: SpawnedService) -> None:
    with socket.create_connection(address(running.url), timeout=60) as connection:
        connection.sendall(b"GET /?close HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"hello" in body
    assert b"connection: close" in head.lower()


def lingering(port: int) -> int:
    """Connections to this port that were closed not long ago (TIME_WAIT)."""
    lines = [
        line.split()
        for path in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(path).read_text().splitlines()[1:]
    ]
    ends = [{int(each.rpartition(":")[2], 16) for each in line[1:3]} for line in lines
            if line[3] == "06"]  # fmt: skip
    return sum(port in each for each in ends)


def test_the_load_has_its_stated_mix_and_nothing_fails(
    running: SpawnedService, tmp_path: Path
) -> None:
    workload = workloads.load(running.name)
    weights = {route.name: route.weight for route in workload.routes if route.weight}
    assert sum(weights.values()) == 1000
    assert workload.locustfile is not None
    with Driver(
        running.url, control=tmp_path / "load.sock", log=tmp_path / "load.log",
        locustfile=workload.locustfile,
    ) as driver:  # fmt: skip
        driver.start(400, requests=1000)
        summary = driver.wait(tmp_path / "requests.npz")
    assert (summary.requests, summary.errors) == (1000, 0)
    made = record.read(tmp_path / "requests.npz")
    assert set(made.status.tolist()) == {200}
    assert Counter(made.route_names[each] for each in made.route) == weights
    closed = address(running.url)[1]
    assert waiting.until(lambda: lingering(closed) >= weights["/?close"])


def test_a_user_takes_as_long_as_the_database(running: SpawnedService) -> None:
    began = time.monotonic()
    get(running.url, "/api/users/1?wait_ms=150")
    assert time.monotonic() - began >= 0.15


def test_what_is_not_there_or_not_understood_says_so(running: SpawnedService) -> None:
    assert get(running.url, "/nowhere")[0] == 404
    assert get(running.url, "/api/users/nobody")[0] == 404
    assert get(running.url, "/cpu?blocks=many")[0] == 400
    assert get(running.url, "/alloc?mb=100000")[0] == 400


def test_keep_leaks(running: SpawnedService) -> None:
    for _ in range(3):
        kept = json.loads(get(running.url, "/alloc?mb=0&keep=1")[1])["kept_mb"]
    assert kept == 3


def test_sigterm_ends_it_cleanly_with_connections_open(running: SpawnedService) -> None:
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=60)
    connection.request("GET", "/")
    connection.getresponse().read()
    assert running.stop() == 0
    connection.close()


def test_plain_one_answers_and_refuses_the_rest(plain: SpawnedService) -> None:
    assert get(plain.url, "/") == (200, "hello\n")
    assert get(plain.url, "/healthz?deep=1") == (200, "ok\n")
    assert get(plain.url, "/nowhere")[0] == 404
    assert get(plain.url, "/", "POST")[0] == 405
    for route in workloads.load("plain").routes:
        assert get(plain.url, route.path)[0] == 200


def test_plain_one_answers_what_comes_together_and_ends_cleanly(plain: SpawnedService) -> None:
    with socket.create_connection(address(plain.url), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n\r\nGET /no")
        with connection.makefile("rb") as answers:
            assert [_body(answers), _body(answers)] == [b"hello\n", b"ok\n"]
            connection.sendall(b"where HTTP/1.1\r\n\r\n")
            assert _body(answers) == b"nothing here\n"
            assert plain.stop() == 0
            assert answers.read() == b""


def _body(answers: BinaryIO) -> bytes:
    head = b"".join(iter(answers.readline, b"\r\n"))
    return answers.read(int(head.partition(b"Content-Length: ")[2].split()[0]))


def test_sources_newer_than_the_program_ask_for_a_build(tmp_path: Path) -> None:
    build = workloads.Build("server", ("main.go",))
    stale = Workload("sample", ("/bin/true",), tmp_path, build=build)
    with pytest.raises(NeedError, match="make workloads"):
        stale.check()
    for name, changed in (("server", 1_000), ("main.go", 2_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (changed, changed))
    with pytest.raises(NeedError, match="older than its source"):
        stale.check()
    os.utime(tmp_path / "server", (3_000, 3_000))
    stale.check()


def test_an_unknown_workload_names_those_that_ship() -> None:
    with pytest.raises(InputError, match="flask, go, java, nodejs, plain"):
        workloads.load("cobol")


def test_a_program_of_the_users_own(start: Start, tmp_path: Path, free_port: int) -> None:
    command = f"{sys.executable} -c '{SERVER}' {free_port}"
    mine = workloads.own(command, f"http://127.0.0.1:{free_port}/")
    assert Workload.from_dict(json.loads(json.dumps(mine.to_dict()))) == mine
    started = start(mine, log=tmp_path / "own.log")
    try:
        assert get(started.url, "/")[0] == 200
        started.check()
    finally:
        started.stop()
    assert not started.alive()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_as_a_users_own_program(start: Start, tmp_path: Path, free_port: int) -> None:
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; events {{}} error_log stderr;"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{free_port}; return 204; }} }}"
    )
    url = f"http://127.0.0.1:{free_port}/"
    started = start(workloads.own(f"nginx -c {tmp_path}/nginx.conf", url))
    try:
        assert started.name == "nginx"
        assert get(started.url, "/")[0] == 204
    finally:
        assert started.stop() == 0
    assert ports.holder(free_port) is None


def test_a_taken_port_is_told_before_anything_starts(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        mine = workloads.own("touch started", f"http://127.0.0.1:{port}")
        with pytest.raises(NeedError) as caught:
            start(mine, log=tmp_path / "own.log")
    assert f"Port {port} is taken: process {os.getpid()} (" in caught.value.what
    assert not (tmp_path / "own.log").exists()


def test_a_program_that_dies_at_once_is_told_with_its_last_words(
    start: Start, tmp_path: Path, free_port: int
) -> None:
    mine = workloads.own("sh -c 'echo no such table >&2; exit 3'", f"http://127.0.0.1:{free_port}")
    with pytest.raises(WorkloadError, match=r"exit code 3.*no such table"):
        start(mine, log=tmp_path / "own.log")


def test_a_workload_that_dies_while_measured_is_told(start: Start, tmp_path: Path) -> None:
    started = start(workloads.load("go"))
    started.check()
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait()
    with pytest.raises(WorkloadError, match=r"'go' died \(signal 9\)"):
        started.check()
    started.stop()


def test_own_needs_both_command_and_url() -> None:
    with pytest.raises(InputError, match="--command and --url"):
        workloads.own("redis-server", None)
    with pytest.raises(InputError, match="not a URL"):
        workloads.own("redis-server", "localhost")
    with pytest.raises(NeedError, match="not installed"):
        workloads.own("no-such-program-anywhere", "http://127.0.0.1:1")


def test_nothing_of_a_workload_stays(start: Start, tmp_path: Path) -> None:
    started = start(workloads.load("flask"))
    session = str(started.process.pid)
    started.stop()
    listed = ["ps", "-o", "pid=", "-s", session]  # also who has ended, until init has noticed
    assert waiting.until(lambda: not processes.run(listed, check=False).stdout.split())
