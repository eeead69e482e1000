"""How a request failed, in the words of a report; for the load driver."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

REFUSED = "connection refused"
CLOSED = "connection closed without a whole answer"
TIMED_OUT = "timed out"
NO_ANSWER = "no answer"
NOT_SENT = "not sent"
RAISED = "the task raised"
SENT_AGAIN = "sent again by the client"


def of(status: int, response: object, error: object) -> str:
    """How a request failed: its status, or what became of its connection; empty if it did not.

    `error` is what the client or the locustfile says (None: nothing is wrong), a status of 0 means
    that there was no answer. Of a client that tries again by itself only the last answer is known:
    requests has urllib3 do so where a locustfile mounts such an adapter.
    """
    retries = getattr(getattr(response, "raw", None), "retries", None)
    if getattr(retries, "history", ()):
        return SENT_AGAIN
    if error is None:
        return ""
    if status >= 400:
        return f"{status} {_phrase(status)}".strip()
    return f"{status}, a failure by the locustfile" if status else _broken(error)


def asked(meta: Mapping[str, Any]) -> str:
    """A request that Locust tells of, as `POST /login`: by its path, not by its name."""
    place = str(meta.get("url") or meta.get("name") or "")
    return f"{meta.get('request_type') or ''} {urlsplit(place).path or '/'}".strip()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _broken(error: object) -> str:
    """By class and name: clients wrap what the socket said, and say it in classes of their own."""
    cause = getattr(error, "original", None) or error
    name = type(cause).__name__
    if isinstance(cause, ConnectionRefusedError) or "Errno 111" in str(cause):
        return REFUSED
    if isinstance(cause, TimeoutError) or "Timeout" in name:
        return TIMED_OUT
    closed = (ConnectionResetError, BrokenPipeError, http.client.HTTPException)
    if isinstance(cause, closed) or name in ("HTTPConnectionClosed", "HTTPParseError"):
        return CLOSED
    return name
