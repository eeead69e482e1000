"""A ring buffer that fills wakes its reader before it is full; a few records wake nobody."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
NEVER = ("--drain", "3600", "--interval", "3600")
RING_BYTES = 256 * 1024
SPAN_BYTES, EXEC_BYTES = 248, 568  # a record of http and of guard with its header, or less
PATIENCE_SECONDS = 60


def test_spans_are_drained_before_their_time_when_a_quarter_of_the_ring_waits(
    service: Any, start_agent: Any
) -> None:
    agent = start_agent("http", "--sample", "1", *NEVER)
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    quarter = RING_BYTES // SPAN_BYTES // 4
    asked = 0
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:

        def ask(times: int) -> None:
            nonlocal asked
            asked += times
            for _ in range(times):
                connection.request("GET", "/status/204")
                connection.getresponse().read()

        ask(23)
        told = agent.call("stats")
        assert (told["events"], told["spans"], told["waiting"]) == (23, 0, 0)
        for _ in range(6):  # more than there is room for, in all
            ask(quarter + 100)
            assert until(lambda: agent.call("stats")["spans"] >= asked - quarter - 10)
    assert asked > RING_BYTES // SPAN_BYTES
    told = agent.call("flush")
    assert (told["spans"], told["lost"]) == (asked, 0)


def test_executions_are_drained_before_their_time_when_a_quarter_of_the_ring_waits(
    service: Any, start_agent: Any, receiver: Any
) -> None:
    agent = start_agent("guard", *NEVER)
    quarter = RING_BYTES // EXEC_BYTES // 4
    many = quarter + 50

    def exported(least: int) -> bool:
        return until(lambda: agent.call("stats")["exported"] >= least)

    for turn in range(1, 6):
        script = f"i=0; while [ $i -lt {many} ]; do /bin/true; i=$((i + 1)); done"
        service.start("/bin/sh", "-c", script).wait(PATIENCE_SECONDS)
        assert exported(turn * many - quarter - 10)
    told = agent.call("flush")
    executed = [log for log in receiver.logs if log.event_name == "process.exec"]
    assert len(executed) == told["events"] >= 5 * many > RING_BYTES // EXEC_BYTES
    assert told["lost"] == 0


def test_a_larger_ring_is_asked_for_by_its_kib(start_agent: Any) -> None:
    least = start_agent("http", "--off").call("stats")["map_bytes"]
    more = start_agent("http", "--off", "--ring-kib", "1024").call("stats")["map_bytes"]
    assert more - least >= 1024 * 1024 - RING_BYTES


@pytest.mark.parametrize("kib", ["0", "100", "32"])
def test_a_size_that_no_ring_has_is_refused(
    launch: Callable[..., Any], service: Any, tmp_path: Path, kib: str
) -> None:
    process, line = launch(
        tmp_path / "log", "http", tmp_path / "s", service.path, "http://127.0.0.1:9",
        "--ring-kib", kib,
    )  # fmt: skip
    assert process.wait(60) == 2
    assert line["what"] == f"--ring-kib {kib} is no size of a ring buffer."
