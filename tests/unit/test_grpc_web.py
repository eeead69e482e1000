"""gRPC in a plain post: an answer is read as far as it is one, and a refusal is told as it is."""

from __future__ import annotations

import pytest

from harness.wire import grpc_web
from harness.wire.grpc_web import CallError

HEADERS = {"content-type": "application/grpc-web+proto"}


def trailers(text: bytes) -> bytes:
    return b"\x80" + len(text).to_bytes(4, "big") + text


def test_a_message_there_and_back() -> None:
    body = grpc_web.framed(b"hello")
    assert body == b"\0\0\0\0\5hello"
    assert grpc_web.answered(HEADERS, body + trailers(b"grpc-status: 0\r\n")) == b"hello"
    assert grpc_web.answered(HEADERS, trailers(b"grpc-status:0")) == b""


def test_a_refusal_comes_in_trailers_or_in_headers() -> None:
    late = trailers(b"Grpc-Status: 3\r\nGrpc-Message: missing%20__name__ label\r\n")
    with pytest.raises(CallError, match="gRPC status 3: missing __name__ label") as raised:
        grpc_web.answered(HEADERS, late)
    assert raised.value.status in grpc_web.FINAL
    with pytest.raises(CallError, match=r"^gRPC status 14$") as raised:
        grpc_web.answered({**HEADERS, "grpc-status": "14"}, b"")
    assert raised.value.status not in grpc_web.FINAL
    with pytest.raises(CallError, match="gRPC status 2"):  # none is told
        grpc_web.answered(HEADERS, grpc_web.framed(b"hello"))


@pytest.mark.parametrize(
    ("headers", "body", "why"),
    [
        ({"content-type": "text/html"}, b"<html></html>", "is text/html, not"),
        ({}, b"", "of no type"),
        (HEADERS, grpc_web.framed(b"hello")[:-1], "within a frame"),
        (HEADERS, b"\0\0", "within a frame"),
    ],
)
def test_what_is_no_answer_is_said(headers: dict[str, str], body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        grpc_web.answered(headers, body)
