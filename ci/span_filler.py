"""Puts spans into an agent's ring buffer, so many a second; for measure_spans."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from harness.agent.libbpf import Object
from harness.agent.library import LIB, checked
from harness.linux import processes

ROOT = Path(__file__).resolve().parents[1]
STEP_SECONDS = 0.005
MOST = 1000  # of span_filler.bpf.c
_RINGBUF = "27"  # BPF_MAP_TYPE_RINGBUF
_OPTIONS_BYTES = 80  # struct bpf_test_run_opts
# struct http_event; times are the program's
_RECORD = struct.Struct("=QQQQ56sHHBBBxQ128sQ")
RECORD = _RECORD.pack(
    0, 0, 0, 1234, b"/users/{id}", 200, 8080, 1, 1, 0, 0, b"/users/4711?page=2 HTTP/1.1", 0
)

LIB.bpf_map__reuse_fd.argtypes = (ctypes.c_void_p, ctypes.c_int)


class Filler:
    """The program, loaded with an agent's ring buffer in the place of its own."""

    def __init__(self, obj: Object) -> None:
        self._object = obj
        self._options = ctypes.create_string_buffer(_OPTIONS_BYTES)
        struct.pack_into("=Q", self._options, 0, _OPTIONS_BYTES)
        obj.set("record", RECORD)

    @property
    def made(self) -> int:
        """How many are in the ring, or were."""
        return int.from_bytes(self._object.get("made"), "little")

    @property
    def full(self) -> int:
        """How many there was no room for: a kernel half counts them as lost."""
        return int.from_bytes(self._object.get("full"), "little")

    def fill(self, rate: float, seconds: float) -> None:
        """So many a second, every few milliseconds what is due by then."""
        began, asked = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            number = min(int(passed * rate) - asked, MOST)
            self._run(number)
            asked += number
            time.sleep(STEP_SECONDS)

    def _run(self, number: int) -> None:
        self._object.set("number", number)
        code = LIB.bpf_prog_test_run_opts(self._object.program("fill").fd, self._options)
        checked(code, "The program that makes spans cannot be run.")


@contextmanager
def filler(pid: int, folder: Path) -> Iterator[Filler]:
    """For the agent of this process; what is built is kept in the folder."""
    processes.run(
        ["make", "-s", "-C", str(ROOT / "bpf"), f"OUTPUT={folder}", f"VPATH={ROOT / 'ci'}",
         "SOURCES=span_filler.bpf.c"],
        timeout=120,
    )  # fmt: skip
    with closing(Object(folder / "span_filler.bpf.o")) as obj:
        ring = checked(LIB.bpf_map_get_fd_by_id(_ring_of(pid)), "The agent's ring is gone.")
        try:
            checked(LIB.bpf_map__reuse_fd(obj.map("events")._pointer, ring), "It is of no use.")
            obj.load()
        finally:
            os.close(ring)
        yield Filler(obj)


def _ring_of(pid: int) -> int:
    """The id of the only ring buffer of an agent of `http`."""
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        told = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
        if told.get("map_type") == _RINGBUF:
            found.add(int(told["map_id"]))
    (ring,) = found
    return ring
