"""JSON for other programs: numbers that it cannot hold are null; for reports, certificates."""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO


def finite(value: Any) -> Any:
    """The same with None for every number that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value


def text(document: Mapping[str, Any]) -> str:
    """A document as it is kept in a file."""
    return json.dumps(finite(document), indent=1) + "\n"


@contextmanager
def packed(out: BinaryIO) -> Iterator[TextIO]:
    """Text that is gzipped into a file; the same text makes the same file."""
    with (
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0) as zipped,
        io.TextIOWrapper(zipped, encoding="utf-8") as lines,
    ):
        yield lines
