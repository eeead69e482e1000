"""pprof profiles (profile.proto, gzipped); written by the profile agent, rewritten by the report.

builder = Builder(started_ns, duration_ns, period_ns)
builder.add([Frame(name="hot", file="app.py", line=3)], count=5, pid=42, tid=42)
write(builder.profile, Path("profile.pb.gz"))
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.agent.text import text
from harness.wire.files import write_whole
from harness.wire.pprof import Profile

Labels = tuple[tuple[str, str], ...]
"""Names and values, beside the numbers of process and thread."""


class Mapping(NamedTuple):
    """An executable file as one process has mapped it."""

    start: int
    limit: int
    offset: int
    path: str
    build_id: str = ""


class Frame(NamedTuple):
    """One frame: an address in a mapping, a named place in a source file, or both."""

    address: int = 0
    mapping: Mapping | None = None
    name: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Stack:
    """How often one thread was seen with these frames, leaf first."""

    frames: tuple[Frame, ...]
    count: int
    pid: int
    tid: int
    labels: Labels = ()


class Builder:
    """Collects stacks into one profile of CPU samples taken every `period_ns` of CPU time."""

    def __init__(self, started_ns: int, duration_ns: int, period_ns: int) -> None:
        self.profile: Any = Profile(
            time_nanos=started_ns, duration_nanos=duration_ns, period=period_ns
        )
        self._ids: dict[Any, int] = {}
        self._period_ns = period_ns
        self._string("")
        for kind, unit in (("samples", "count"), ("cpu", "nanoseconds")):
            self.profile.sample_type.add(type=self._string(kind), unit=self._string(unit))
        self.profile.period_type.type = self._string("cpu")
        self.profile.period_type.unit = self._string("nanoseconds")
        self.profile.default_sample_type = self._string("cpu")

    def add(
        self, frames: Sequence[Frame], count: int, pid: int, tid: int, labels: Labels = ()
    ) -> None:
        """Count one stack, leaf first."""
        sample = self.profile.sample.add(
            location_id=[self._location(frame, pid) for frame in frames],
            value=[count, count * self._period_ns],
        )
        sample.label.add(key=self._string("pid"), num=pid)
        sample.label.add(key=self._string("tid"), num=tid)
        for name, value in labels:
            sample.label.add(key=self._string(name), str=self._string(value))

    def _string(self, name: str) -> int:
        if name not in self._ids:
            self._ids[name] = len(self.profile.string_table)
            self.profile.string_table.append(text(name))
        return self._ids[name]

    def _location(self, frame: Frame, pid: int) -> int:
        # the same address is another place in another process; a named one is the same place
        key = (frame, 0 if frame.name else pid)
        if key not in self._ids:
            mapping = self._mapping(frame.mapping, pid) if frame.mapping else 0
            self._ids[key] = len(self.profile.location) + 1
            location = self.profile.location.add(
                id=self._ids[key], mapping_id=mapping, address=frame.address
            )
            if frame.name:
                location.line.add(function_id=self._function(frame), line=frame.line)
                self._mark_symbolised(mapping)
        return self._ids[key]

    def _mapping(self, mapping: Mapping, pid: int) -> int:
        key = (mapping, pid)
        if key not in self._ids:
            self._ids[key] = len(self.profile.mapping) + 1
            self.profile.mapping.add(
                id=self._ids[key],
                memory_start=mapping.start,
                memory_limit=mapping.limit,
                file_offset=mapping.offset,
                filename=self._string(mapping.path),
                build_id=self._string(mapping.build_id),
            )
        return self._ids[key]

    def _mark_symbolised(self, mapping: int) -> None:
        if mapping:  # otherwise `go tool pprof` looks for the binary itself
            self.profile.mapping[mapping - 1].has_functions = True

    def _function(self, frame: Frame) -> int:
        key = ("function", frame.name, frame.file, frame.line)
        if key not in self._ids:
            self._ids[key] = len(self.profile.function) + 1
            name = self._string(frame.name)
            self.profile.function.add(
                id=self._ids[key],
                name=name,
                system_name=name,
                filename=self._string(frame.file),
                start_line=frame.line,
            )
        return self._ids[key]


def write(profile: Any, path: Path) -> None:
    """Write a profile so that a reader sees all of it or nothing."""
    write_whole(path, gzip.compress(profile.SerializeToString(), compresslevel=6))


def read(path: Path) -> Any:
    """Read a gzipped profile message."""
    profile = Profile()
    profile.ParseFromString(gzip.decompress(path.read_bytes()))
    return profile


def stacks(profile: Any) -> Iterator[Stack]:
    """The samples of a profile."""
    frames = {location.id: _frame(profile, location) for location in profile.location}
    for sample in profile.sample:
        names = profile.string_table
        numbers = {names[label.key]: label.num for label in sample.label if not label.str}
        yield Stack(
            tuple(frames[each] for each in sample.location_id),
            sample.value[0],
            numbers.get("pid", 0),
            numbers.get("tid", 0),
            tuple((names[label.key], names[label.str]) for label in sample.label if label.str),
        )


def _frame(profile: Any, location: Any) -> Frame:
    strings = profile.string_table
    mapping = None
    if location.mapping_id:
        raw = profile.mapping[location.mapping_id - 1]
        mapping = Mapping(
            raw.memory_start,
            raw.memory_limit,
            raw.file_offset,
            strings[raw.filename],
            strings[raw.build_id],
        )
    if not location.line:
        return Frame(location.address, mapping)
    function = profile.function[location.line[0].function_id - 1]
    return Frame(
        location.address,
        mapping,
        strings[function.name],
        strings[function.filename],
        function.start_line,
    )
