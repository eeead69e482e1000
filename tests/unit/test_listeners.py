"""Who holds a port is named, and what is advised helps."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import ports
from harness.stack.config import Stack


def test_a_port_that_is_taken_names_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NeedError) as raised:
            ports.require_free("127.0.0.1", port, "prometheus")
    assert raised.value.what.startswith(f"prometheus cannot listen on 127.0.0.1:{port}: ")
    assert f"process {os.getpid()} " in raised.value.why
    ports.require_free("127.0.0.1", port, "prometheus")


def test_bind_is_advised_for_no_more_than_it_moves() -> None:
    """Of the ports some stay on loopback, whatever --bind says: it frees none of those."""
    stack = Stack(Path(), "192.0.2.1")
    moved = {name for name, port in vars(stack.ports).items() if stack.address(port) == stack.bind}
    assert moved == {"otlp_grpc", "otlp_http", "prometheus", "tempo", "loki", "grafana"}
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NeedError) as raised:
        ports.require_free("127.0.0.1", taken.getsockname()[1], "otelcol")
    assert "--bind moves only OTLP, queries and Grafana" in raised.value.next_step
