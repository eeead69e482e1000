"""The URL of a service: where it answers, and a login in it, which only the load driver is told."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from harness.errors import InputError

HIDDEN = "***"
PORT = "{port}"  # of a URL: a port that nobody has is chosen for each process of the service


def address(url: str) -> tuple[str, int]:
    """Host and port of a service's URL; InputError if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
            raise ValueError(url)
    except (KeyError, ValueError):
        raise InputError(
            f"{_blotted(url)} is not a URL of a service.",
            next_step="Say http://127.0.0.1:PORT/. In a login write / as %2F and @ as %40.",
        ) from None  # its message has the whole URL
    return parts.hostname or "127.0.0.1", port


def without_login(url: str) -> tuple[str, str]:
    """A URL without its login, and the login: user:password, percent-encoded, or empty.

    What is no URL has none: `address` refuses it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, ""
    login, _, place = parts.netloc.rpartition("@")
    return (urlunsplit(parts._replace(netloc=place)) if login else url), login


def hidden(text: str) -> str:
    """The same text, with *** for the login if it is a URL that has one."""
    place, login = without_login(text)
    return place.replace("//", f"//{HIDDEN}@", 1) if login else text


def _blotted(text: str) -> str:
    """For what is no proper URL: nothing before the last @ is shown."""
    return re.sub(r"^([a-z]+://)?.*@", rf"\1{HIDDEN}@", text, flags=re.DOTALL)
