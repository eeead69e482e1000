"""What a request's head says, in plain Python: what test_http_message.py holds the C to."""

from __future__ import annotations

import re
from dataclasses import dataclass

METHODS = (
    b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS", b"CONNECT", b"TRACE",
)  # fmt: skip
OTHER = len(METHODS) + 1
WINDOW, STEP, SCANNED, ROUTE = 192, 128, 152, 56
ENDS = 3  # of lines, in eight bytes: the C looks at no more, for no header has more
UNKNOWN = 2**64 - 1
_ID = re.compile(rb"(?=.*[0-9])([0-9-]+|[0-9a-fA-F-]{16,}|(?=.*[A-Z])[0-9A-Za-z_-]{12,})")


@dataclass(frozen=True)
class Told:
    """As struct told in http_host.c."""

    method: int
    target: int
    route: bytes
    end: int
    length: int
    line: bool
    version: int
    chunked: bool


def request(message: bytes, parts: int) -> Told | None:
    """The request that a segment starts with, looked at in so many parts; None for none."""
    found = re.match(rb"([A-Z]{3}[A-Z-]{0,20}) ", message)
    if found is None or len(message) < 16:
        return None
    name, target = found[1], found.end()
    method = METHODS.index(name) + 1 if name in METHODS else OTHER
    end, lines = _lines(message, SCANNED + STEP * (parts - 1))
    length = UNKNOWN
    for line in lines:
        if _folded(line[:15]) == b"content-length:":
            length = _number(line[15:31])
    return Told(
        method,
        target,
        _route(message[:WINDOW], target),
        end,
        length,
        bool(lines) or end > 0 or _ended(message, parts),
        _version(message, parts),
        any(_folded(line[:16]) == b"transfer-encodin" for line in lines),
    )


def _newlines(message: bytes, parts: int) -> list[int]:
    last = min(SCANNED + STEP * (parts - 1), len(message))
    return [k for k in range(8, last) if message[k] == 10]


def _ended(message: bytes, parts: int) -> bool:
    return bool(_newlines(message, parts))


def _version(message: bytes, parts: int) -> int:
    """What follows HTTP/1. at the end of the first line."""
    for k in _newlines(message, parts)[:1]:
        line = message[: k - (message[k - 1] == 13)]
        if re.fullmatch(rb"HTTP/1\.[0-9]", line[-8:]):
            return line[-1]
    return 0


def _lines(message: bytes, last: int) -> tuple[int, list[bytes]]:
    """Where the header ends (0: not here), and what follows the ends of its lines."""
    lines: list[bytes] = []
    for k in range(8, min(last, len(message))):
        if message[k] != 10 or message.count(b"\n", k // 8 * 8, k) >= ENDS:
            continue
        if message[k + 1 : k + 2] == b"\r":
            return (k + 3 if k + 3 <= len(message) else 0), lines
        lines.append(message[k + 1 :])
    return 0, lines


def _folded(text: bytes) -> bytes:
    """As the C compares: with the bit that tells small letters from capitals set."""
    return bytes(c | 0x20 for c in text)


def _number(text: bytes) -> int:
    """Digits with something behind them that ends them."""
    found = re.match(rb"[ \t]*([0-9]+)[\0-\x20]", text)
    value = int(found[1]) if found else UNKNOWN
    return value if value <= 1 << 56 else UNKNOWN


def _route(text: bytes, target: int) -> bytes:
    start = target
    if _folded(text[target : target + 7]) == b"http://":
        for i in range(7, 128):
            if text[target + i : target + i + 1] in (b"/", b"") or text[target + i] <= 32:
                start = target + i
                break
    path = re.match(rb"[^\0-\x20?]*", text[start:])
    assert path is not None
    room = bytearray(ROUTE)
    at = 0
    for number, whole in enumerate(path[0].split(b"/")):
        segment = whole.partition(b";")[0]
        if number:
            room[at : at + 1] = b"/" if at < ROUTE else b""
            at += 1
        if _ID.fullmatch(segment):
            if at >= ROUTE - 4:  # it is cut there
                break
            room[at : at + 4] = b"{id}"
            at += 4
        else:
            _put(room, at, segment)
            at += len(segment)
    return bytes(room[:at]).rstrip(b"\0") if at else b"/"


def _put(room: bytearray, at: int, segment: bytes) -> None:
    cut = segment[: max(0, ROUTE - at)]
    room[at : at + len(cut)] = cut
