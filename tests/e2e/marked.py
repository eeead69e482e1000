"""Records with a mark each, posted to the Collector and looked for in backends; for test_stack."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator

from harness.stack import backends, client
from harness.stack.client import ask
from harness.stack.config import Stack

BATCH = 20  # records in a post


@contextlib.contextmanager
def loading(stack: Stack, kind: str, service: str) -> Iterator[list[str]]:
    """Post without an end while the block runs; the marks of what was acknowledged, growing."""
    acknowledged, ends = list[str](), threading.Event()

    def post() -> None:
        while not ends.is_set():
            marks = [secrets.token_hex(16) for _ in range(BATCH)]
            with contextlib.suppress(OSError, http.client.HTTPException):  # not acknowledged
                _post(stack, kind, service, marks)
                acknowledged.extend(marks)
            time.sleep(0.1)

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield acknowledged
    finally:
        ends.set()
        thread.join()


def await_more(acknowledged: list[str], posts: int = 10) -> None:
    """Until so many more posts were acknowledged; the next one may be under way then."""
    wanted, deadline = len(acknowledged) + posts * BATCH, time.monotonic() + 60
    while len(acknowledged) < wanted:
        assert time.monotonic() < deadline, "the Collector takes nothing any more"
        time.sleep(0.01)


def load(stack: Stack, kind: str, service: str, posts: int) -> list[str]:
    """Post records of a service, as the Collector must acknowledge; the mark of each."""
    sent = []
    for _ in range(posts):
        marks = [secrets.token_hex(16) for _ in range(BATCH)]
        _post(stack, kind, service, marks)
        sent += marks
    return sent


def _post(stack: Stack, kind: str, service: str, marks: list[str]) -> None:
    request = urllib.request.Request(
        stack.otlp_url + f"/v1/{kind}",
        json.dumps(_payload(kind, service, marks)).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def _payload(kind: str, service: str, marks: list[str]) -> dict[str, object]:
    now = str(time.time_ns())
    resource = {"attributes": [_text("service.name", service)]}
    if kind == "traces":
        times = {"startTimeUnixNano": now, "endTimeUnixNano": now}
        spans = [
            {"traceId": mark, "spanId": mark[:16], "name": "work", "kind": 2, **times}
            for mark in marks
        ]
        return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
    if kind == "metrics":
        points = [
            {"timeUnixNano": now, "asDouble": 1.0, "attributes": [_text("mark", mark)]}
            for mark in marks
        ]
        gauge = {"name": "loaded", "gauge": {"dataPoints": points}}
        return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [gauge]}]}]}
    lines = [{"timeUnixNano": now, "body": {"stringValue": mark}} for mark in marks]
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": lines}]}]}


def _text(key: str, value: str) -> dict[str, object]:
    return {"key": key, "value": {"stringValue": value}}


def found(stack: Stack, kind: str, service: str, marks: Iterable[str]) -> set[str]:
    """Which of these marks the backend finds; spans are asked for one by one, by trace id."""
    if kind == "traces":
        keeper = backends.keeper(stack, "traces")
        return {mark for mark in marks if keeper.has(mark)}
    if kind == "metrics":
        query = {"query": f'last_over_time(loaded{{service_name="{service}"}}[15m])'}
        answer = ask(stack.url("prometheus") + "/api/v1/query", query)
        return {one["metric"]["mark"] for one in answer["data"]["result"]} if answer else set()
    return LINES[stack.keeps["logs"]](stack, service)


def _of_loki(stack: Stack, service: str) -> set[str]:
    query = {"query": f'{{service_name="{service}"}}', "limit": "5000"}
    answer = ask(stack.url("loki") + "/loki/api/v1/query_range", query)
    streams = answer["data"]["result"] if answer else []
    return {line for stream in streams for _, line in stream["values"]}


def _of_victorialogs(stack: Stack, service: str) -> set[str]:
    query = {"query": f'{{"service.name"="{service}"}}'}
    text = client.get(stack.url("victorialogs") + "/select/logsql/query", query).decode()
    return {json.loads(line)["_msg"] for line in text.splitlines()}


LINES = {"loki": _of_loki, "victorialogs": _of_victorialogs}


def expect(
    stack: Stack, kind: str, service: str, sent: list[str], limit_seconds: float = 120
) -> None:
    """Every record is found in its backend in the end."""
    missing, deadline = set(sent), time.monotonic() + limit_seconds
    while missing and time.monotonic() < deadline:
        missing -= found(stack, kind, service, missing)
        time.sleep(0.1)
    assert not missing, f"{len(missing)} of {len(sent)} are lost"
