"""Posts to one receiver over a connection that is kept; used by otlp and parca."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from harness.agent.errors import AgentError, LaterError, RefusedError, UnansweredError

_TIMEOUT_SECONDS = 5.0
_LATER = (408, 429)  # what is refused now, and may be taken at another time; so may all from 500 on
_LONGEST_SECONDS = 30.0  # that a receiver is left alone, whatever it asks for
_USUAL = {"--otlp": "http://127.0.0.1:4318", "--parca": "http://127.0.0.1:7070"}


class Answer(NamedTuple):
    """What a receiver that took a post said to it; headers by their names in small letters."""

    headers: Mapping[str, str]
    said: bytes

    @property
    def kind(self) -> str:
        """Its Content-Type."""
        return self.headers.get("content-type", "")


class Posts:
    """What is sent to `url`, which `option` told, where `receiver` is to listen.

    One thread at a time. UnansweredError or LaterError where it was not acknowledged, RefusedError
    where it never will be.
    """

    def __init__(self, option: str, url: str, receiver: str, headers: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        self._receiver = receiver
        self._next_step = f"Check that {receiver} listens there."
        parts = _parts(option, self.url, receiver)
        self._path = parts.path
        self._headers = {"User-Agent": "harness-agent", **headers}
        self._connection = _connection(parts)

    def post(self, path: str, what: str, body: bytes) -> Answer:
        """Post `what`; what was answered."""
        try:
            answer, said = self._asked(f"{self._path}{path}", body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            silent = f"The receiver did not acknowledge them within {_TIMEOUT_SECONDS:g} s."
            raise UnansweredError(
                f"The {what} did not reach {self.url}.",
                silent if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}.",
                self._next_step,
            ) from error
        if answer.status >= 300:
            if answer.status < 500 and answer.status not in _LATER:
                raise self.refused(what, f"The receiver answered with status {answer.status}.")
            asked = answer.getheader("Retry-After") or ""
            seconds = min(float(asked), _LONGEST_SECONDS) if asked.isdecimal() else 0.0
            why = f"The receiver answered with status {answer.status}."
            raise self.later(what, why, seconds)
        return Answer({name.lower(): value for name, value in answer.getheaders()}, said)

    def refused(self, what: str, why: str) -> RefusedError:
        """That it never will be taken."""
        return RefusedError(
            f"{self.url} refuses the {what} for good.",
            why,
            f"Check what it takes, and that it is {self._receiver}.",
        )

    def later(self, what: str, why: str, seconds: float = 0.0) -> LaterError:
        """That it was not taken, and may be another time."""
        return LaterError(f"The {what} did not reach {self.url}.", why, self._next_step, seconds)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _asked(self, path: str, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer and what it holds; asked twice if a kept connection had ended meanwhile."""
        was_kept = self._connection.sock is not None
        try:
            return self._answered(path, body)
        except (ConnectionError, http.client.HTTPException):
            if not was_kept:
                raise
            self._connection.close()
            return self._answered(path, body)

    def _answered(self, path: str, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request("POST", path, body, self._headers)
        answer = self._connection.getresponse()
        return answer, answer.read()


def _parts(option: str, url: str, receiver: str) -> SplitResult:
    """AgentError if nothing can be sent to it."""
    why = "It begins with http:// or https:// and the receiver's host."
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError as error:  # such as a port that is no number
        why = f"{error}."
    raise AgentError(
        f"{option} {url} is no URL of {receiver}.", why, f"The usual one is {_USUAL[option]}."
    )


def _connection(to: SplitResult) -> http.client.HTTPConnection:
    host = to.hostname or ""
    if to.scheme == "http":
        return http.client.HTTPConnection(host, to.port, timeout=_TIMEOUT_SECONDS)
    import ssl  # some MB that most agents do without

    trusted = os.environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or None
    context = ssl.create_default_context(cafile=trusted)
    return http.client.HTTPSConnection(host, to.port, timeout=_TIMEOUT_SECONDS, context=context)
