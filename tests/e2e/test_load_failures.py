"""What the load driver makes of a service that refuses, loses or wants a login."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import LoadError, StoreError
from harness.linux import processes
from harness.load import failures, record
from tests.e2e.driven import VISITOR, Server, drive, serving

pytestmark = pytest.mark.e2e

SLOW = VISITOR.replace("FastHttpUser)", "HttpUser)")
POSTING = VISITOR.replace('.get("/")', '.post("/", json={})')
LIMIT = "429 Too Many Requests"
LOGGING_IN = (
    SLOW
    + """
    def on_start(self):
        self.token = self.client.post("/login", name="log in").json()["token"]
"""
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_a_capacity_is_of_good_answers_and_tells_the_others(tmp_path: Path, server: Server) -> None:
    server.limit = 50
    with drive(tmp_path, server.url) as driver:
        found = driver.capacity(1.0)
    assert 0 < found.rate <= 50  # they came in a second at least
    assert set(found.failures) == {LIMIT}
    assert 0 < found.refused <= found.failures[LIMIT]
    told = found.told()
    assert f"a second were not ({found.failures[LIMIT]:,} x {LIMIT})" in told


def test_what_the_locustfile_calls_a_success_is_good(tmp_path: Path, server: Server) -> None:
    server.limit = 0
    tolerant = VISITOR.replace(
        'self.client.get("/")',
        'with self.client.get("/", catch_response=True) as r: r.success()',
    )
    with drive(tmp_path, server.url, tolerant) as driver:
        found = driver.capacity(0.5)
    assert (found.refused, found.failures) == (0, {})
    assert found.rate > 0
    assert found.told().endswith("a second were answered well")


def test_a_service_that_only_refuses_is_told(tmp_path: Path, server: Server) -> None:
    server.limit = 0
    with (
        drive(tmp_path, server.url) as driver,
        pytest.raises(LoadError, match=rf"no request well.*x {LIMIT}, first GET /\."),
    ):
        driver.capacity(0.3)


@pytest.mark.parametrize(("path", "asked"), [("", "/login"), ("/health", "/health/login")])
def test_a_login_that_is_refused_is_told_with_the_path_that_was_asked(
    tmp_path: Path, server: Server, path: str, asked: str
) -> None:
    """A --url with a path is the base of a locustfile's paths: who did not mean that sees it."""
    server.limit = 0
    with pytest.raises(LoadError, match=rf"past on_start\. POST {asked} -> {LIMIT}\. \w+Error: "):
        drive(tmp_path, server.url + path, LOGGING_IN)


@pytest.mark.parametrize(
    "locustfile", ["", VISITOR, POSTING, SLOW], ids=["url", "fast", "post", "slow"]
)
def test_a_request_whose_answer_was_lost_fails_and_is_not_sent_again(
    tmp_path: Path, server: Server, locustfile: str
) -> None:
    server.drops = 5
    with drive(tmp_path, server.url, locustfile) as driver:
        driver.start(100, requests=50)
        summary = driver.wait(tmp_path / "requests.npz")
    assert server.paths == {"/": 50}
    assert (summary.requests, summary.errors) == (50, 10)
    assert summary.failures == {failures.CLOSED: 10}
    made = record.read(tmp_path / "requests.npz")
    assert (made.status == 0).sum() == made.failed.sum() == 10


RETRYING = """
from locust import HttpUser, task
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

class Visitor(HttpUser):
    def on_start(self):
        retry = Retry(3, status_forcelist=[503], raise_on_status=False)
        self.client.mount("http://", HTTPAdapter(max_retries=retry))

    @task
    def visit(self):
        self.client.get("/")
"""


def test_a_request_that_a_locustfile_has_sent_again_is_told(tmp_path: Path, server: Server) -> None:
    server.drops = 5
    with drive(tmp_path, server.url, RETRYING, connections=1) as driver:
        driver.start(100, requests=40)
        summary = driver.wait(tmp_path / "requests.npz")
    assert server.paths == {"/": 50 - 1}
    assert summary.failures == {failures.SENT_AGAIN: 9}


@pytest.mark.parametrize("locustfile", ["", VISITOR, SLOW], ids=["url", "fast", "slow"])
@pytest.mark.parametrize("login", ["m3user:s3%2Fcr%40t", "t0ken"])
def test_a_login_is_sent_and_shown_to_nobody(
    tmp_path: Path, server: Server, locustfile: str, login: str
) -> None:
    printing = locustfile.replace(
        "    @task", "    def on_start(self): print(self.host)\n\n    @task"
    )
    with drive(tmp_path, server.url, printing, login=login) as driver:
        driver.start(100, requests=10)
        assert driver.wait(tmp_path / "requests.npz").errors == 0
        shown = Path(f"/proc/{driver.pid}/cmdline").read_text()
    user, _, password = login.replace("%2F", "/").replace("%40", "@").partition(":")
    sent = base64.b64encode(f"{user}:{password}".encode()).decode()
    assert server.logins == {f"Basic {sent}": 10}
    log = (tmp_path / "load.log").read_text()
    assert (server.url in log) == bool(locustfile)
    for secret in (user, password, login):
        assert not secret or secret not in shown.replace(str(tmp_path), "") + log


def test_without_a_login_none_is_sent(tmp_path: Path, server: Server) -> None:
    with drive(tmp_path, server.url) as driver:
        driver.start(100, requests=3)
        driver.wait(tmp_path / "requests.npz")
    assert server.logins == {None: 3}


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount a small disk")
def test_a_disk_that_is_full_is_no_fault_of_the_load(tmp_path: Path, server: Server) -> None:
    """What ends is the run: the next block would find the same disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    processes.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)])
    try:
        with pytest.raises(OSError, match="space"):
            (disk / "full").write_bytes(bytes(1 << 20))
        with drive(tmp_path, server.url) as driver:
            driver.start(100, requests=20)
            with pytest.raises(StoreError, match="disk is full") as refused:
                driver.wait(disk / "requests.npz")
            assert refused.value.ends == "run"
            driver.start(100, requests=20)  # it goes on where there is room
            assert driver.wait(tmp_path / "requests.npz").requests == 20
    finally:
        processes.run(["umount", str(disk)])
