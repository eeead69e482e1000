"""Why a service does not answer at its URL; asked until it does by who starts or finds it."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

SECONDS = 5.0  # for one request
SOON_SECONDS = 2.0  # after which what no service says that is only starting is believed
WORDS = 40  # of what something says that is no HTTP

NO_TLS = "What listens there speaks no TLS (https)."
NO_HTTP = "What it says is no HTTP/1, in which it was asked"
_PLAIN = b"GET / HTTP/1.0\r\n\r\n"  # without a header, at which some close without a word


class Asked:
    """A URL that is asked until somebody answers, whatever it says; `over` says when to stop.

    Who says something that is no HTTP, or no TLS, will not begin to: that takes SOON_SECONDS.
    """

    def __init__(
        self, url: str, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url, self._clock = url, clock
        self._ends, self._wrong_since = clock() + seconds, clock()
        self.is_other = False  # something answers there, and will never do so as it was asked

    def why(self) -> str:
        """Ask once: why nobody answers, empty if somebody does."""
        told = reason(self._url)
        self.is_other = told.startswith((NO_TLS, NO_HTTP))
        if not self.is_other:
            self._wrong_since = self._clock()
        return told

    @property
    def over(self) -> bool:
        """Whether to ask again is of no use."""
        now = self._clock()
        return now > self._ends or (self.is_other and now > self._wrong_since + SOON_SECONDS)

    def told(self, name: str) -> tuple[str, str]:
        """What is to be said of the service of this name, once it is over, and what to do."""
        if self.is_other:
            return (
                f"{name!r} runs, but {self._url} is not answered as it was asked.",
                "Give the --url of a port that speaks HTTP/1: only such services can be measured.",
            )
        return (
            f"{name!r} runs, but nothing answers at {self._url}.",
            "Check --url: address, port and path.",
        )


def reason(url: str) -> str:
    """Why nobody answers there, in a sentence; empty if somebody does, whatever it says."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        connection.getresponse()
    except ssl.SSLCertVerificationError:
        return ""  # somebody is there; whom to trust is the locustfile's business
    except (OSError, http.client.HTTPException) as error:
        told = _told(error, is_connected=connection.sock is not None)
        return told if secure or not _is_closed(error) else _asked_plainly(parts) or told
    finally:
        connection.close()
    return ""


def _told(error: Exception, is_connected: bool) -> str:
    if _is_closed(error):
        return "It closed the connection instead of an answer."
    if isinstance(error, ssl.SSLError):
        alert = (error.reason or "").replace("_", " ").lower()
        return f"It speaks TLS (https), and refused: {alert}." if "alert" in alert else NO_TLS
    if isinstance(error, http.client.HTTPException):
        return _no_http(str(error))
    if isinstance(error, TimeoutError) and is_connected:
        return f"It took the connection, and said nothing for {SECONDS:.0f} s."
    return f"There is no connection: {getattr(error, 'strerror', None) or error}."


def _is_closed(error: Exception) -> bool:
    closed = (http.client.RemoteDisconnected, ConnectionResetError, ssl.SSLEOFError)
    return isinstance(error, closed)


def _asked_plainly(parts: SplitResult) -> str:
    """What is no HTTP in the answer to a request without headers; empty if nothing is.

    Redis, for one, hangs up at the header `Host` without a word, and answers this.
    """
    place = parts.hostname or "127.0.0.1", parts.port or 80
    try:
        with socket.create_connection(place, SECONDS) as plain:
            plain.settimeout(SECONDS)
            plain.sendall(_PLAIN)
            said = plain.recv(4 * WORDS)
    except OSError:
        return ""
    return _no_http(said.decode("latin-1")) if said and not said.startswith(b"HTTP/") else ""


def _no_http(said: str) -> str:
    words = "".join(each for each in said.strip() if " " <= each <= "~")[:WORDS]
    quoted = f" ({words!r})" if words else ""
    return f"{NO_HTTP}{quoted}; HTTP/2 and gRPC are others."
