"""What is written against the protocol of `model` must be what it says, to the last argument."""

from __future__ import annotations

import inspect

import pytest

from harness.meters.coverage import Sink
from harness.model import Receiver
from harness.stack.full import Full


def receivers(sink: Sink, full: Full) -> tuple[Receiver, ...]:
    return sink, full


@pytest.mark.parametrize("kind", [Sink, Full])
def test_every_method_is_called_as_the_protocol_says(kind: type) -> None:
    methods = inspect.getmembers(Receiver, inspect.isfunction)
    stated = {name: inspect.signature(each) for name, each in methods if name[0] != "_"}
    assert stated
    assert {name: inspect.signature(getattr(kind, name)) for name in stated} == stated
