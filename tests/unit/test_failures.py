"""How a failed request is called, by what its client says of it."""

from __future__ import annotations

import http.client
from types import SimpleNamespace
from typing import Any

import pytest

from harness.load import failures
from harness.wire.failures import told


class HTTPConnectionClosed(Exception):
    """As geventhttpclient calls it."""


class RetriesExceeded(Exception):
    def __init__(self, original: Exception | None) -> None:
        self.original = original


@pytest.mark.parametrize(
    ("status", "error", "name"),
    [
        (200, None, ""),
        (404, None, ""),  # the locustfile called it a success
        (429, ValueError(), "429 Too Many Requests"),
        (503, ValueError(), "503 Service Unavailable"),
        (599, ValueError(), "599"),
        (200, ValueError("wrong"), "200, a failure by the locustfile"),
        (0, ConnectionRefusedError(111, "refused"), failures.REFUSED),
        (0, HTTPConnectionClosed("connection closed."), failures.CLOSED),
        (0, http.client.RemoteDisconnected(""), failures.CLOSED),
        (0, BrokenPipeError(), failures.CLOSED),
        (0, TimeoutError(), failures.TIMED_OUT),
        (0, RetriesExceeded(TimeoutError()), failures.TIMED_OUT),
        (0, RetriesExceeded(None), "RetriesExceeded"),
    ],
)
def test_a_failure_has_a_name(status: int, error: Exception | None, name: str) -> None:
    assert failures.of(status, SimpleNamespace(), error) == name


def test_an_answer_to_a_second_try_is_a_failure() -> None:
    def answer(*history: str) -> object:
        return SimpleNamespace(raw=SimpleNamespace(retries=SimpleNamespace(history=history)))

    assert failures.of(200, answer("reset"), None) == failures.SENT_AGAIN
    assert failures.of(200, answer(), None) == ""


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        (
            {
                "request_type": "POST",
                "name": "log in",
                "url": "http://127.0.0.1:1/health/login?a=b",
            },
            "POST /health/login",
        ),
        ({"request_type": "GET", "name": "http://127.0.0.1:1"}, "GET /"),
        ({"request_type": "grpc", "name": "/shop.Cart/Add", "url": None}, "grpc /shop.Cart/Add"),
        ({}, "/"),
    ],
)
def test_a_request_is_told_by_its_path(meta: dict[str, Any], said: str) -> None:
    assert failures.asked(meta) == said


def test_the_most_frequent_come_first_and_the_rare_are_added_up() -> None:
    assert told({"timed out": 3, "429 Too Many Requests": 1204}) == (
        "1,204 x 429 Too Many Requests, 3 x timed out"
    )
    assert told({str(n): n for n in range(1, 7)}).endswith("3 x 3, 3 others")
