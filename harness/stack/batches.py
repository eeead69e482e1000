"""OTLP requests made once, in which ids, times and values are replaced cheaply; for `generator`.

The marks of `requests` are found in the encoded bytes, and each sending overwrites those places.
"""

from __future__ import annotations

import copy
import random
import re
import struct

import numpy as np
from numpy.typing import NDArray

from harness.stack import requests
from harness.stack.requests import COUNT, ID, MIDDLE, REAL, RECORDS, TIME

Patch = tuple[NDArray[np.intp], NDArray[np.int64]]  # places (n, 8), and a number for each


class Batch:
    """One request: its bytes, and the places in them that change with each sending."""

    def __init__(self, request: bytes, records: int) -> None:
        self.records = records
        self._body = np.frombuffer(request, np.uint8).copy()
        self._times = self._find(request, TIME)
        self._counts = self._find(request, COUNT)
        self._reals = self._find(request, REAL)
        self._ids, names = self._find(request, ID)
        different, self._which = np.unique(names, return_inverse=True)
        self._unique = len(different)
        self._fresh = _source()

    def fill(self, now_ns: int) -> bytes:
        """The request with times around `now_ns`, new ids, and counters that have grown."""
        places, offsets = self._times
        self._put(places, offsets - MIDDLE + now_ns)
        grown = now_ns // 1_000_000  # each counter counts its weight every millisecond
        self._put(self._counts[0], self._counts[1] * grown)
        self._put(self._reals[0], self._reals[1].astype(np.float64) * grown * 1e-3)
        if self._unique:
            self._put(self._ids, self._fresh.integers(1, 1 << 63, self._unique)[self._which])
        return self._body.tobytes()

    def copy(self) -> Batch:
        """The same for another thread, with bytes and ids of its own."""
        other = copy.copy(self)
        other._body = self._body.copy()
        other._fresh = _source()
        return other

    @property
    def trace(self) -> str:
        """The first trace id as it was last filled, in hex; empty where there are none."""
        if not self._unique:
            return ""
        return bytes(self._body[self._ids[:2].ravel()]).hex()

    def _put(self, places: NDArray[np.intp], values: NDArray[np.int64 | np.float64]) -> None:
        if len(places):
            little = values.astype(values.dtype.newbyteorder("<"))
            self._body[places] = little.view(np.uint8).reshape(-1, 8)

    @staticmethod
    def _find(request: bytes, mark: int) -> Patch:
        """Where a marked 8-byte number stands, and its lower half."""
        word = re.escape(struct.pack("<I", mark))
        starts = [found.start() - 4 for found in re.finditer(word, request)]
        lower = [struct.unpack_from("<I", request, start)[0] for start in starts]
        places = np.array(starts, np.intp).reshape(-1, 1) + np.arange(8)
        return places, np.array(lower, np.int64)


def _source() -> np.random.Generator:
    return np.random.default_rng(random.SystemRandom().getrandbits(128))


def batches(signal: str, mark: str) -> list[Batch]:
    """The requests that are sent in turn; `mark` is the instance id by which they are counted."""
    return [Batch(one.SerializeToString(), RECORDS) for one in requests.REQUESTS[signal](mark)]
