"""How `profile` walks native stacks: by frame pointers, or by tables made of .eh_frame.

What is walked by tables ends where they do not lead on: how often, and why, is counted.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence

from harness.agent import layouts
from harness.agent.call_frames import ROW
from harness.agent.errors import AgentError
from harness.agent.images import Image
from harness.agent.libbpf import Object
from harness.agent.telemetry import Metric, Point, counter
from harness.agent.unwind_tables import MAPPING, Tables, told

CHOICES = ("frame_pointers", "eh_frame", "auto")
_MAPS = ("mapped", "rows", "walks", "ends")
_SETTLE_SECONDS = 8.0
# enum end of profile_tables.bpf.h, from 1 on
_WHOLE = "whole"
_ENDS = (
    _WHOLE, "no_table", "expression", "register", "saved_elsewhere", "far_offset",
    "unknown_process", "unreadable", "too_deep",
)  # fmt: skip


class Unwinding:
    """The program that is loaded, and the tables that it goes by, if it does."""

    def __init__(self, by: str) -> None:
        machine = os.uname().machine
        if by != "frame_pointers" and machine != "x86_64":
            raise AgentError(
                f"--unwind {by} is not to be had on {machine}.",
                "The rules of .eh_frame are read for x86_64 only.",
                "Use --unwind frame_pointers.",
            )
        self._by = by
        self._tables: Tables | None = None

    @property
    def program(self) -> str:
        """The one that is loaded."""
        return "profile" if self._by == "frame_pointers" else "profile_tables"

    def prepare(self, obj: Object) -> None:
        """Leave out the other program, and the maps of this one that it does not need."""
        for each in ("profile", "profile_tables"):
            if each != self.program:
                obj.program(each).skip()
        if self._by == "frame_pointers":
            for name in _MAPS:
                obj.map(name).skip()
        else:
            layouts.check(obj, "mapping", MAPPING)
            layouts.check(obj, "row", ROW)
            obj.set("targ_mixed", self._by == "auto")

    def start(self, obj: Object, pids: Sequence[int]) -> None:
        """Make the tables of these processes; what takes long goes on by itself."""
        if self._by == "frame_pointers":
            return
        self._object = obj
        self._tables = Tables(obj.map("mapped"), obj.map("rows"))
        for pid in pids:
            self._tables.look(pid)
        self._tables.settle(_SETTLE_SECONDS)

    def look(self, image: Image) -> None:
        """A process that is new, or may have mapped something since."""
        if self._tables is not None:
            self._tables.look(image.pid, image.parent)

    def forget(self) -> None:
        """Give back what ended processes had."""
        if self._tables is not None:
            self._tables.forget()

    def hooks(self) -> list[str]:
        """What the ready line says."""
        return [f"{self._by} ({told(self._tables.counts())})"] if self._tables else []

    def counts(self) -> dict[str, int]:
        """How many walks ended why, and what the tables hold."""
        if self._tables is None:
            return {}
        found = {f"unwind_{why}": n for why, n in self._ended().items()}
        return found | {f"unwind_{name}": n for name, n in self._tables.counts().items()}

    def metrics(self) -> list[Metric]:
        """Stacks that ended early, by reason."""
        if self._tables is None:
            return []
        cut = {why: n for why, n in self._ended().items() if n and why != _WHOLE}
        points = [Point({"error.type": why}, n) for why, n in cut.items()]
        said = "Native stacks that end before their outermost function."
        return [counter("profile.stacks.cut", "{sample}", points, said)] if points else []

    def close(self) -> bool:
        """End its thread; False if that is held up and still uses the maps."""
        return self._tables is None or self._tables.close()

    def _ended(self) -> dict[str, int]:
        ends, found = self._object.map("ends"), {}
        for i, why in enumerate(_ENDS, 1):
            value = ends.lookup(struct.pack("=I", i))
            assert value is not None  # an array
            found[why] = sum(int.from_bytes(n, sys.byteorder) for n in ends.cpu_values(value))
        return found
