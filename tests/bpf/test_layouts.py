"""Layouts written by hand are held beside the objects: what differs by a byte is refused."""

from __future__ import annotations

import ctypes
import importlib
import re
import struct
from collections.abc import Iterator
from ctypes import c_char, c_uint8, c_uint16, c_uint32, c_uint64
from pathlib import Path
from typing import Any

import pytest

from harness.agent import __main__, flow_series, layouts
from harness.agent.collector import Collector
from harness.agent.errors import AgentError
from harness.agent.libbpf import Object
from harness.agent.library import LIB

pytestmark = pytest.mark.bpf

STRUCT = 4  # BTF_KIND_STRUCT


class _FlowKey(ctypes.Structure):
    _fields_ = (
        ("protocol", c_uint8),
        ("role", c_uint8),
        ("port", c_uint16),
        ("overflow", c_uint8),
        ("unused", c_uint8 * 3),
        ("peer", c_char * 16),
        ("local", c_uint8 * 16),
    )


class _Series(ctypes.Structure):
    _fields_ = (("key", _FlowKey), ("cgroup", c_uint64))


class _Flow(ctypes.Structure):
    _fields_ = (
        ("counted", c_uint64 * 24),
        ("reading", c_uint64),
        ("open", c_uint32 * 13),
        ("unused", c_uint32),
    )


@pytest.fixture
def flows(bpf_objects: Path) -> Iterator[Object]:
    obj = Object(bpf_objects / "flows.bpf.o")
    yield obj
    obj.close()


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("flow_key", flow_series.KEY),
        ("flow_series", flow_series.SERIES),
        ("flow", flow_series.FLOW),
        ("flow_key", _FlowKey),
        ("flow_series", _Series),
        ("flow", _Flow),
    ],
)
def test_what_is_read_as_it_was_compiled_passes(flows: Object, name: str, layout: Any) -> None:
    layouts.check(flows, name, layout)


@pytest.mark.parametrize(
    ("name", "layout", "words"),
    [
        ("flow_key", "=BBHB2x16s16s", "flow_key.peer is 16 bytes at 8, and is read as .* at 7"),
        ("flow_key", "=BBBBH2x16s16s", "flow_key.port is 2 bytes at 2, and is read as 1 bytes"),
        ("flow_key", "=BBHB3x16s", "it has 6 members, and 5 are read"),
        ("flow_key", "=BBHB3x16s16s4x", "it has 40 bytes, and 44 are read"),
        ("flow_series", "=BBHB3x16s16sI", "flow_series.cgroup is 8 bytes at 40"),
        ("flow", "=24Q13I4x", "flow.pass is 8 bytes at 192, and is read as 4 bytes"),
        ("flow_that_is_none", "=I", "has no type struct flow_that_is_none"),
    ],
)
def test_what_differs_is_refused_in_words(
    flows: Object, name: str, layout: str, words: str
) -> None:
    with pytest.raises(AgentError) as refused:
        layouts.check(flows, name, struct.Struct(layout))
    assert re.search(words, f"{refused.value.what} {refused.value.why}")


# of each collector: a struct that it reads, and where a member of that is
STRUCTS = {
    "http": {"http_event": "first_byte_ns", "http_totals": "request_unknown"},
    "flows": {"flow_series": "cgroup", "flow": "retransmits"},
    "guard": {
        "event": "flags", "peer": "port", "connects": "rule", "ended": "parent_pid",
        "path_key": "kind", "address_key": "address", "rule": "index",
    },
    "profile": {
        "sampled": "image", "stack": "depth", "image": "start_stack", "interpreter": "gil",
    },
    "inject": {"burnt": "events"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "struct_name", "member"),
    [(name, *each) for name, structs in STRUCTS.items() for each in structs.items()],
)
def test_a_struct_that_was_compiled_otherwise_is_refused_by_its_collector(
    bpf_objects: Path, name: str, struct_name: str, member: str
) -> None:
    obj = Object(bpf_objects / f"{name}.bpf.o")
    try:
        move(obj, struct_name, member)
        with pytest.raises(AgentError, match=f"struct {struct_name} of the BPF object `{name}`"):
            made(name).configure(obj)
    finally:
        obj.close()


def move(obj: Object, struct_name: str, member: str) -> None:
    """Let the types of an object that is open say that a member is eight bytes farther."""
    number = LIB.btf__find_by_name_kind(obj.btf, struct_name.encode(), STRUCT)
    at = LIB.btf__type_by_id(obj.btf, number)  # struct btf_type, then struct btf_member[]
    for i in range(c_uint32.from_address(at + 4).value & 0xFFFF):
        of = at + 12 * (i + 1)
        name = LIB.btf__name_by_offset(obj.btf, c_uint32.from_address(of).value)
        if name.decode() == member:
            c_uint32.from_address(of + 8).value += 64
            return
    raise AssertionError(f"{struct_name} has no {member}")


def made(name: str) -> Collector:
    parser = __main__._parser()
    module = importlib.import_module(__main__.COLLECTORS[name])
    module.add_options(parser)
    words = ["--cgroup", "/sys/fs/cgroup", "--otlp", "http://127.0.0.1:1", "--control", "none"]
    collector: Collector = module.create(parser.parse_args([name, *words]))
    return collector


def test_a_variable_that_an_object_lacks_is_told_with_what_to_do(flows: Object) -> None:
    with pytest.raises(AgentError, match="`flows` has no variable targ_future") as told:
        flows.set("targ_future", 1)
    assert "make bpf" in told.value.next_step
