"""What is written against a protocol must be what that says, to the last argument."""

from __future__ import annotations

import inspect

import pytest

from harness.meters.coverage import Sink
from harness.model import Receiver
from harness.node.load_driver import Driver, LoadDriver
from harness.node.remote_driver import RemoteDriver
from harness.stack.full import Full


def receivers(sink: Sink, full: Full) -> tuple[Receiver, ...]:
    return sink, full


def drivers(near: Driver, far: RemoteDriver) -> tuple[LoadDriver, ...]:
    return near, far


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [(Sink, Receiver), (Full, Receiver), (Driver, LoadDriver), (RemoteDriver, LoadDriver)],
)
def test_every_method_is_called_as_the_protocol_says(kind: type, protocol: type) -> None:
    methods = inspect.getmembers(protocol, inspect.isfunction)
    stated = {name: inspect.signature(each) for name, each in methods if name[0] != "_"}
    assert stated
    assert {name: inspect.signature(getattr(kind, name)) for name in stated} == stated
