"""What is written against a protocol of `model` must be what it says, to the last argument."""

from __future__ import annotations

import inspect

import pytest

from harness.meters.cgroup import CgroupCpu
from harness.meters.coverage import Sink
from harness.meters.host import NodeCpu
from harness.model import Collector, Meter, Receiver, Target
from harness.node.agent_process import AgentProcess
from harness.node.machine import Local
from harness.stack.full import Full


def target(local: Local) -> Target:
    return local


def collector(agent: AgentProcess) -> Collector:
    return agent


def meters(cgroup: CgroupCpu, node: NodeCpu) -> tuple[Meter, ...]:
    return cgroup, node


def receivers(sink: Sink, full: Full) -> tuple[Receiver, ...]:
    return sink, full


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        (Target, Local), (Collector, AgentProcess), (Meter, CgroupCpu), (Meter, NodeCpu),
        (Receiver, Sink), (Receiver, Full),
    ],
)  # fmt: skip
def test_every_method_is_called_as_the_protocol_says(protocol: type, kind: type) -> None:
    methods = inspect.getmembers(protocol, inspect.isfunction)
    stated = {name: inspect.signature(each) for name, each in methods if name[0] != "_"}
    assert stated
    assert {name: inspect.signature(getattr(kind, name)) for name in stated} == stated
