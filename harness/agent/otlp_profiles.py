"""The profiles of one drain as OTLP's messages, one of each container; made by `profile`.

    profiles = Profiles(began_ns, duration_ns, period_ns)
    profiles.add(container, frames, 5, {"process.pid": 42, "thread.id": 42})
    Telemetry(profiles=[profiles])

They share a dictionary: tables that begin with an empty entry, in which equal ones are once. The
format is OTLP's v1development, whose next one may be another.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.profiles.v1development import profiles_pb2 as pb

from harness.agent import pprof
from harness.agent.container import Container
from harness.agent.origin import Origin
from harness.agent.pprof import Frame
from harness.agent.text import text

_KERNEL_SPACE = 1 << 63
_COMPILED_AT_RUN_TIME = "//anon"


class Profiles:
    """CPU samples, taken every `period_ns` of CPU time; a ProfileBatch."""

    def __init__(self, began_ns: int, duration_ns: int, period_ns: int) -> None:
        self._began_ns, self._duration_ns, self._period_ns = began_ns, duration_ns, period_ns
        self._dictionary = pb.ProfilesDictionary()
        self._places: dict[Hashable, int] = {}
        for table in (
            self._dictionary.mapping_table,
            self._dictionary.location_table,
            self._dictionary.function_table,
            self._dictionary.link_table,
            self._dictionary.attribute_table,
            self._dictionary.stack_table,
        ):
            table.add()
        self._string("")
        self._profiles: dict[Container | None, Any] = {}
        self._samples: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        """How many profiles: as many as containers."""
        return len(self._profiles)

    def add(
        self,
        container: Container | None,
        frames: Sequence[Frame],
        count: int,
        attributes: Mapping[str, str | int],
    ) -> None:
        """Count one stack, leaf first."""
        stack = self._stack(tuple(map(self._location, frames)))
        about = [self._attribute(name, value) for name, value in attributes.items()]
        key = container, stack, *about
        if key in self._samples:
            self._samples[key].values[0] += count
            return
        if container not in self._profiles:
            self._profiles[container] = self._begun()
        self._samples[key] = self._profiles[container].samples.add(
            stack_index=stack, attribute_indices=about, values=[count]
        )

    def encoded(self, origin: Origin) -> bytes:
        """An ExportProfilesServiceRequest."""
        request = ExportProfilesServiceRequest(dictionary=self._dictionary)
        for container, profile in self._profiles.items():
            group = request.resource_profiles.add(resource=origin.resource(container))
            group.scope_profiles.add(scope=origin.scope, profiles=[profile])
        return request.SerializeToString()

    def _begun(self) -> Any:
        return pb.Profile(
            sample_type=self._type("samples", "count"),
            period_type=self._type("cpu", "nanoseconds"),
            period=self._period_ns,
            time_unix_nano=self._began_ns,
            duration_nano=self._duration_ns,
            profile_id=(random.getrandbits(128) or 1).to_bytes(16, "big"),
        )

    def _type(self, kind: str, unit: str) -> pb.ValueType:
        return pb.ValueType(type_strindex=self._string(kind), unit_strindex=self._string(unit))

    def _stack(self, locations: tuple[int, ...]) -> int:
        if not locations:
            return 0  # the empty one
        return self._placed(
            ("stack", locations),
            self._dictionary.stack_table,
            lambda: pb.Stack(location_indices=locations),
        )

    def _location(self, frame: Frame) -> int:
        return self._placed(
            ("location", frame), self._dictionary.location_table, lambda: self._located(frame)
        )

    def _located(self, frame: Frame) -> pb.Location:
        kind = _kind(frame)
        made = pb.Location(
            mapping_index=self._mapping(frame.mapping) if frame.mapping else 0,
            address=frame.address,
            attribute_indices=[self._attribute("profile.frame.type", kind)] if kind else [],
        )
        if frame.name:
            made.lines.add(function_index=self._function(frame), line=frame.line)
        return made

    def _mapping(self, mapping: pprof.Mapping) -> int:
        name, own = "process.executable.build_id.gnu", mapping.build_id
        return self._placed(
            ("mapping", mapping),
            self._dictionary.mapping_table,
            lambda: pb.Mapping(
                memory_start=mapping.start,
                memory_limit=mapping.limit,
                file_offset=mapping.offset,
                filename_strindex=self._string(mapping.path),
                attribute_indices=[self._attribute(name, own)] if own else [],
            ),
        )

    def _function(self, frame: Frame) -> int:
        return self._placed(
            ("function", frame.name, frame.file, frame.line),
            self._dictionary.function_table,
            lambda: pb.Function(
                name_strindex=self._string(frame.name),
                system_name_strindex=self._string(frame.name),
                filename_strindex=self._string(frame.file),
                start_line=frame.line,
            ),
        )

    def _attribute(self, name: str, value: str | int) -> int:
        told = (
            AnyValue(int_value=value)
            if isinstance(value, int)
            else AnyValue(string_value=text(value))
        )
        return self._placed(
            ("attribute", name, value),
            self._dictionary.attribute_table,
            lambda: pb.KeyValueAndUnit(key_strindex=self._string(name), value=told),
        )

    def _string(self, name: str) -> int:
        return self._placed(("string", name), self._dictionary.string_table, lambda: text(name))

    def _placed(self, key: Hashable, table: Any, make: Any) -> int:
        """Where an entry is in its table, made if it is not there."""
        if key not in self._places:
            made = make()  # entries that it names come before it
            self._places[key] = len(table)
            table.append(made)
        return self._places[key]


def _kind(frame: Frame) -> str:
    """What a frame is of, as `profile.frame.type` calls it; empty if that is not known."""
    if frame.address >= _KERNEL_SPACE:
        return "kernel"
    if frame.name:  # names that live in the process: no others are known yet
        return "cpython"
    return "" if frame.mapping is None or frame.mapping.path == _COMPILED_AT_RUN_TIME else "native"
