"""OTLP profiles, and a reader by their schema, for tests of who makes, takes and passes them."""

from __future__ import annotations

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)

from harness.agent.container import Container
from harness.agent.origin import Origin
from harness.agent.otlp_profiles import Profiles
from harness.agent.pprof import Frame, Mapping

Attributes = dict[str, str | int]
Place = tuple[int, str, str]  # address, file, function
Sample = tuple[list[Place], list[int], Attributes]  # leaf first, values, what is said of it

ONE, OTHER = Container("0af1" * 16, "2a6f"), Container("b2c3" * 16)
ORIGIN = Origin("profile", "shop", lambda: None, "profile@node")
BINARY = Mapping(0x400000, 0x500000, 0x1000, "/usr/bin/server", "abcd")
KERNEL = Mapping(1 << 63, (1 << 64) - 1, 0, "[kernel.kallsyms]")
COMPILED = Mapping(0x7000, 0x8000, 0, "//anon")
HOT = Frame(name="hot", file="app.py", line=6)
NATIVE, READ, JIT = Frame(0x401000, BINARY), Frame((1 << 63) + 5, KERNEL), Frame(0x7001, COMPILED)
WHO = {"process.pid": 42, "thread.id": 43}


def made() -> Profiles:
    found = Profiles(began_ns=10**18, duration_ns=5 * 10**9, period_ns=10**7)
    found.add(ONE, [READ, NATIVE, HOT], 3, WHO)
    found.add(ONE, [READ, NATIVE, HOT], 4, WHO)  # of another program that the process ran
    found.add(ONE, [NATIVE], 1, {**WHO, "process.executable.name": "server"})
    found.add(OTHER, [NATIVE], 5, WHO)
    found.add(None, [JIT], 2, {})
    found.add(None, [], 6, {})
    return found


def sent(found: Profiles) -> ExportProfilesServiceRequest:
    return ExportProfilesServiceRequest.FromString(found.encoded(ORIGIN))


class Reader:
    """Reads a request as its schema says, by nothing of how it was made."""

    def __init__(self, request: ExportProfilesServiceRequest) -> None:
        self.request, self.tables = request, request.dictionary

    def attributes(self, places: list[int]) -> Attributes:
        found: Attributes = {}
        for each in (self.tables.attribute_table[place] for place in places):
            value = getattr(each.value, str(each.value.WhichOneof("value")))
            found[self.tables.string_table[each.key_strindex]] = value
        return found

    def frame(self, place: int) -> tuple[int, str, str, Attributes]:
        """Its address, file, function, and what is said of it and of its file."""
        location = self.tables.location_table[place]
        mapping = self.tables.mapping_table[location.mapping_index]
        names = [
            self.tables.string_table[self.tables.function_table[line.function_index].name_strindex]
            for line in location.lines
        ]
        about = [*location.attribute_indices, *mapping.attribute_indices]
        path = self.tables.string_table[mapping.filename_strindex]
        return location.address, path, "".join(names), self.attributes(about)

    def stacks(self) -> dict[str, list[Sample]]:
        """By container: frames, values and what is said of each sample."""
        found = {}
        for group in self.request.resource_profiles:
            of = {each.key: each.value.string_value for each in group.resource.attributes}
            (scope,) = group.scope_profiles
            assert scope.scope.name == "harness.profile"
            (profile,) = scope.profiles
            found[of.get("container.id", "")] = [
                (
                    [
                        self.frame(place)[:3]
                        for place in self.tables.stack_table[sample.stack_index].location_indices
                    ],
                    list(sample.values),
                    self.attributes(list(sample.attribute_indices)),
                )
                for sample in profile.samples
            ]
        return found
