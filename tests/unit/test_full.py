"""The full stack as a receiver: what is counted, when something has arrived, who is to blame."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import ComponentError
from harness.model import Part
from harness.stack import full, questions
from harness.stack.config import Stack, loki
from harness.stack.config.description import KEEPS
from harness.stack.full import Full
from tests.unit.answered import COLLECTOR, JAEGER, LINES, ROWS, SEARCH, SECOND, Answers
from tests.unit.clocked import Clock
from tests.unit.stacked import GRAFANAS


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _all_at(port: int) -> dict[str, int]:
    names = {"otelcol", *GRAFANAS.values(), *KEEPS.values()}
    return {"otelcol.metrics": port, **{f"{name}.http": port for name in names}}


def _begun(name: str, receiver: Full, ago: int = 0, **more: Any) -> tuple[Part, int]:
    """A part that began now, or so long ago, and when that was (unix ns), to less than 1 ms.

    Between two readings of clocks a busy machine may let a second pass.
    """
    part = Part(name, receiver.mark(), time.monotonic_ns() - ago, **more)
    return part, full.unix_ns(part.since_ns)


@pytest.fixture
def other(answers: Answers, receiver: Full) -> Full:
    """The same with Jaeger and VictoriaLogs."""
    return Full(dataclasses.replace(receiver.stack, keeps=KEEPS), {})


@pytest.fixture
def receiver(answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Full:
    monkeypatch.setattr(full, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(questions, "PAUSE_SECONDS", 0.01)
    ports = _all_at(answers.server_port)
    cgroup = tmp_path / "tempo"
    cgroup.mkdir()
    (cgroup / "cgroup.procs").write_text("7\n")
    (tmp_path / "tempo.log").write_text("level=info\npanic: out of luck\n")
    stack = Stack(tmp_path, keeps=GRAFANAS, ports=ports)
    return Full(stack, {"tempo": cgroup}, {"tempo": tmp_path / "tempo.log"})


def test_requests_are_counted_once_the_flush_is_found(receiver: Full, answers: Answers) -> None:
    """The sample of the flush arrives at the third question."""
    flush_ns = time.monotonic_ns()
    flush, before = time.time(), time.time() - 5
    values = [[[before, "100"]], [[before, "100"]], [[before, "100"], [flush + 0.001, "123"]]]

    def say() -> Any:
        rest = values.pop(0) if len(values) > 1 else values[0]
        return {"data": {"result": [{"metric": {}, "values": rest}]}}

    answers.say["/api/v1/query"] = say
    since_ns = flush_ns - SECOND
    part = Part("harness.http", receiver.mark() - 60 * SECOND, since_ns, instance="http-1",
                flushed_ns=flush_ns)  # fmt: skip
    assert receiver.count(part, "requests", 23) == 23
    assert len(answers.asked) == 3
    query = answers.asked[0]["query"]
    assert 'service_instance_id="http-1"' in query
    assert '__name__=~"http_server_request_duration(_.+)?_(total|count)"' in query
    assert re.search(r"\[[6-9]\ds\]$", query)  # a minute, and what the test took


def test_requests_are_counted_by_port(receiver: Full, answers: Answers) -> None:
    flush_ns = time.monotonic_ns()
    before, after = time.time() - 5, time.time() + 0.001
    found = [
        {"metric": labels, "values": [[before, "100"], [after, str(100 + number)]]}
        for labels, number in (
            ({"server_port": "8080"}, 23),
            ({"server_port": "8081"}, 46),
            ({}, 1),
        )
    ]
    answers.say["/api/v1/query"] = lambda: {"data": {"result": found}}
    part = Part("harness.http", receiver.mark() - 60 * SECOND, flush_ns - SECOND,
                instance="http-1", flushed_ns=flush_ns)  # fmt: skip
    assert receiver.ports(part, "requests", 70) == {8080: 23, 8081: 46, 0: 1}


def test_events_are_counted_until_all_are_there(receiver: Full, answers: Answers) -> None:
    found: list[Any] = [{"traces": []}, SEARCH]
    answers.say["/api/search"] = lambda: found.pop(0) if len(found) > 1 else found[0]
    assert receiver.count(Part("harness.http", instance="http-1"), "spans", 2) == 2
    assert answers.asked[0]["q"] == '{resource.service.instance.id="http-1"}'
    assert not {"start", "end"} & set(answers.asked[0])
    answers.say["/loki/api/v1/query_range"] = lambda: LINES
    only = ("process.executable.path", "/tmp/probe")
    part = Part("harness.guard", instance="guard-1", only=only)
    assert receiver.count(part, "executions", 4) == 4
    asked = answers.asked[-1]["query"]
    assert asked.endswith('| service_instance_id="guard-1" | process_executable_path="/tmp/probe"')


def test_events_are_counted_with_jaeger_and_victorialogs(other: Full, answers: Answers) -> None:
    answers.say["/api/services"] = lambda: {"data": ["go"]}
    answers.say["/api/traces"] = lambda: JAEGER
    assert other.count(Part("harness.http", instance="http-1"), "spans", 1) == 1
    assert answers.asked[1]["service"] == "go"
    assert json.loads(answers.asked[1]["tags"]) == {"service.instance.id": "http-1"}
    answers.say["/select/logsql/query"] = lambda: ROWS
    only = ("process.executable.path", "/tmp/probe")
    part = Part("harness.guard", instance="guard-1", only=only)
    assert other.count(part, "executions", 3) == 3
    assert answers.asked[-1]["query"] == (
        '{"service.instance.id"="guard-1"} "process.executable.path":="/tmp/probe"'
    )


def test_a_search_of_jaeger_that_is_cut_off_is_no_count(
    other: Full, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "MOST", 1)
    answers.say["/api/services"] = lambda: {"data": ["go"]}
    answers.say["/api/traces"] = lambda: JAEGER
    with pytest.raises(ComponentError, match="found 1 traces, which is all that it may"):
        other.count(Part("harness.http", instance="http-1"), "spans", 5)


def test_more_lines_than_one_answer_may_hold_are_asked_for_in_pages(
    receiver: Full, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lines an answer; the second and the third are of the same time."""
    monkeypatch.setattr(loki, "LINES", 2)
    every = [(1, "a"), (2, "b"), (2, "c"), (3, "d")]

    def say() -> Any:
        start = int(answers.asked[-1]["start"])
        values = [[str(at), line] for at, line in every if at >= start][:2]
        return {"data": {"result": [{"stream": {"a": "b"}, "values": values}]}}

    answers.say["/loki/api/v1/query_range"] = say
    found = receiver._backends.logs.lines("guard-1", 0)
    assert [line.name for line in found] == ["a", "b", "c"]
    every[2] = (3, "c")
    found = receiver._backends.logs.lines("guard-1", 0)
    assert [line.name for line in found] == ["a", "b", "c", "d"]


def test_what_never_comes_is_waited_for_only_so_long(
    receiver: Full, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "COMPLETE_SECONDS", 0.05)
    answers.say["/api/search"] = lambda: SEARCH
    assert receiver.count(Part("harness.http", instance="http-1"), "spans", 3) == 2


def test_a_record_is_late_by_the_time_of_its_first_sight(receiver: Full, answers: Answers) -> None:
    part, began = _begun("harness.http", receiver, instance="http-1")

    def search() -> Any:
        visible = time.time_ns() - began > 0.2 * SECOND
        ends = [began + 10**7] if visible else []
        ends.append(began - SECOND)  # from before the part
        return {
            "traces": [
                {"traceID": str(end), "spanSets": [{"spans": [
                    {"spanID": "a", "startTimeUnixNano": str(end)}]}]}
                for end in ends
            ]
        }  # fmt: skip

    answers.say["/api/search"] = search
    receiver.watch([(part, "spans")], 0.0, lambda: len(receiver.data_latency(part, "spans")) > 0)
    (delay,) = receiver.data_latency(part, "spans")
    assert delay > 0.15
    assert receiver.poll_seconds >= 0.01
    assert len(receiver.data_latency(part, "logs")) == 0


def test_the_last_question_goes_back_to_the_beginning(
    receiver: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing is known to be missing: some collectors do not tell what they sent."""
    asked: list[int] = []
    monkeypatch.setattr(Full, "_new", lambda *told: iter(asked.append(told[-1]) or ()))
    part = Part("scope", 0, time.monotonic_ns() - 90 * SECOND)
    receiver.watch([(part, "spans")], 0.0, lambda: True)
    assert asked == [pytest.approx(full.unix_ns(part.since_ns), abs=SECOND)]


def test_what_is_very_late_is_found_while_others_come(
    receiver: Full, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Tempo that keeps to start and end: one span is 12 s old when it can first be found."""
    clock = Clock()
    monkeypatch.setattr(full, "time", clock)
    began = clock.time_ns()
    ends = {"late": began - 12 * SECOND, "early": began - 30 * SECOND}
    part = Part("", receiver.mark(), clock.monotonic_ns() - 20 * SECOND, instance="http-1")

    def search() -> Any:
        if clock.time_ns() - began < 0.1 * SECOND:
            return {"traces": []}
        ends[str(clock.time_ns())] = clock.time_ns()
        start, end = (int(answers.asked[-1][key]) * SECOND for key in ("start", "end"))
        return {
            "traces": [
                {"traceID": name, "spanSets": [{"spans": [
                    {"spanID": "a", "startTimeUnixNano": str(at)}]}]}
                for name, at in ends.items() if start <= at <= end
            ]
        }  # fmt: skip

    answers.say["/api/search"] = search
    receiver.watch([(part, "spans")], 1.0, lambda: True)
    starts = [int(query["start"]) - began // SECOND for query in answers.asked]
    assert sum(start >= -5 for start in starts) > len(starts) / 3
    assert min(starts) >= -20 - 1
    delays = receiver.data_latency(part, "spans")
    assert sum(delays > 5) == 1
    assert max(delays) < 14
    assert len(delays) > 5


def test_in_the_end_all_is_asked_for(
    receiver: Full, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "COMPLETE_SECONDS", 0.05)
    answers.say["/api/search"] = dict
    part, began = _begun("", receiver, ago=60 * SECOND, instance="http-1")
    receiver.watch([(part, "spans")], 0.0, lambda: False)
    assert answers.asked
    assert {began // SECOND - int(q["start"]) for q in answers.asked} <= {-1, 0, 1}


def test_a_metric_is_late_by_its_interval_and_its_way(receiver: Full, answers: Answers) -> None:
    part, began_ns = _begun("harness.flows", receiver, instance="flows-1")
    began = began_ns / SECOND
    values = [[began - 1, "5"], [began + 0.05, "9"]]
    answers.say["/api/v1/query"] = lambda: {
        "data": {"result": [{"metric": {"__name__": "tcp_io_bytes_total"}, "values": values}]}
    }
    time.sleep(0.06)
    receiver.watch([(part, "metrics")], 0.1, lambda: True)
    delays = receiver.data_latency(part, "metrics")
    assert np.ptp(delays) == pytest.approx(1.05, abs=0.01)
    assert delays.min() >= 0


def test_a_backend_that_ended_is_named_with_its_last_words(receiver: Full) -> None:
    receiver.check()
    (receiver.cgroups["tempo"] / "cgroup.procs").write_text("")
    with pytest.raises(ComponentError, match=r"tempo ended .*out of luck.*kept in the run's"):
        receiver.check()
    receiver.stays = True
    with pytest.raises(ComponentError, match=r"tempo ended .*out of luck.*harness down"):
        receiver.check()


def test_a_backend_that_refuses_says_why(receiver: Full, answers: Answers) -> None:
    answers.say["/api/search"] = lambda: 400
    with pytest.raises(ComponentError, match=r"Tempo refused a query. It said 400: no such thing"):
        receiver.count(Part("harness.http", instance="x"), "spans", 1)
    assert len(answers.asked) == 1


def test_a_refusal_that_passes_is_asked_again(receiver: Full, answers: Answers) -> None:
    said: list[Any] = [500, SEARCH]
    answers.say["/api/search"] = lambda: said.pop(0)
    assert receiver.count(Part("harness.http", instance="x"), "spans", 2) == 2


def test_a_backend_that_ends_while_it_answers_is_named(receiver: Full, answers: Answers) -> None:
    answers.cut = 5
    answers.say["/api/search"] = lambda: SEARCH
    with pytest.raises(ComponentError, match=r"Tempo does not answer. IncompleteRead"):
        receiver.count(Part("harness.http", instance="x"), "spans", 1)


def test_a_search_that_is_cut_off_is_no_count(
    receiver: Full, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "MOST", 3)
    answers.say["/api/search"] = lambda: SEARCH
    with pytest.raises(ComponentError, match="found 3 traces, which is all that it may"):
        receiver.count(Part("harness.http", instance="x"), "spans", 5)


def test_asking_ends_for_what_never_comes(
    receiver: Full, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "COMPLETE_SECONDS", 0.05)
    answers.say["/api/search"] = dict
    part = Part("harness.http", receiver.mark(), time.monotonic_ns(), instance="http-1")
    receiver.watch([(part, "spans")], 0.01, lambda: False)
    assert len(receiver.data_latency(part, "spans")) == 0


def test_a_backend_that_is_not_there_is_named(receiver: Full, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # so that nobody else listens there
        closed = silent.getsockname()[1]
        away = Full(Stack(tmp_path, keeps=GRAFANAS, ports={"tempo.http": closed}), {})
        with pytest.raises(ComponentError, match="Tempo does not answer"):
            away.count(Part("harness.http", instance="x"), "spans", 1)


def test_what_the_backends_took_is_read_from_the_collector(
    receiver: Full, answers: Answers
) -> None:
    answers.say["/metrics"] = lambda: COLLECTOR
    assert receiver.read()["spans"] == 42


def test_senders_of_one_name_are_told_apart(receiver: Full) -> None:
    names = {receiver.sender("http", "001-go-b0-http-switched") for _ in range(10)}
    assert len(names) == 10
    assert all(name.startswith("http-001-go-b0-http-switched-") for name in names)
