"""Asks the stack's programs over HTTP and posts to them (for the sink `http` is the other side).

A program that dies while it answers has not answered: that is another kind of error than one that
was away before, and each of FAILURES has to be caught.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from harness.errors import ComponentError

FAILURES: Final = (OSError, http.client.HTTPException)
SECONDS = 10.0


def get(
    url: str,
    query: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The body of the answer to a GET; one of FAILURES where there is none, or a refusal."""
    full = f"{url}?{urllib.parse.urlencode(query)}" if query else url
    request = urllib.request.Request(full, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return bytes(answer.read())


def ask(url: str, query: Mapping[str, str] | None = None, seconds: float = SECONDS) -> Any:
    """The JSON answer to a GET; None if there is none (refused, not found, cut off, not JSON)."""
    try:
        return json.loads(get(url, query, seconds))
    except (*FAILURES, ValueError):
        return None


def refusal(error: urllib.error.HTTPError) -> str:
    """The code of a refusal and what was said with it, as far as it got."""
    said = b""
    with contextlib.suppress(*FAILURES):
        said = error.read(300)
    return f"{error.code}: {said.decode(errors='replace').strip()}"


def post(url: str, body: Any, what: str) -> None:
    """Post JSON to the Collector, which `what` names; ComponentError if it does not take it."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            pass
    except FAILURES as error:
        raise ComponentError(
            f"The Collector did not take {what} at {url}.",
            f"{error}.",
            "Look into its log; `harness down` and `harness up` start the stack again.",
        ) from error
