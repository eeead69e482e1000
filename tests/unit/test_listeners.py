"""Who holds a port is named, and what is advised helps."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import NeedError
from harness.linux import listeners, ports
from harness.node import service
from harness.stack import catalog
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
    every = {(name, use) for name, one in catalog.known().items() for use in one.ports}
    moved = {each for each in every if stack.address(*each) == stack.bind}
    queries = {name for name, one in catalog.known().items() if one.signal} | {"grafana"}
    assert moved == {
        ("otelcol", "grpc"),
        ("otelcol", "http"),
        *((name, "http") for name in queries),
    }
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NeedError) as raised:
        ports.require_free("127.0.0.1", taken.getsockname()[1], "otelcol")
    assert "--bind moves only OTLP, queries and Grafana" in raised.value.next_step


def test_a_port_for_a_program_is_below_those_that_connections_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "ip_local_port_range"
    monkeypatch.setattr(ports, "_EPHEMERAL", told)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        held = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_FIRST_PORT", held)
        told.write_text(f"{held + 2} 65535\n")  # of two the one that is free
        assert ports.unused() == held + 1
        for widened in (f"{held + 1} 65535\n", "1024 65535\n"):
            told.write_text(widened)
            with socket.create_server(("127.0.0.1", ports.unused())):
                pass


def closed_by_the_server(seconds: int) -> tuple[int, socket.socket]:
    """A port that the kernel keeps for so long (FIN_WAIT2) with nobody at it, and the other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
        served.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, seconds)
        served.close()
    return port, client


def reset(client: socket.socket) -> None:
    """End the connection without a word: the kernel keeps the port for it no more."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_port_that_only_closed_connections_have_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is kept until the test, which was asked to attend meanwhile, ends that."""
    monkeypatch.setattr(ports, "_MOST_SECONDS", 0.01)
    port, client = closed_by_the_server(60)
    attended: list[int] = []

    def attend() -> None:
        attended.append(1)
        if len(attended) == 2:
            reset(client)

    with client:
        assert ports.holder(port) is None
        assert ports.lingering(port) > 0
        with socket.socket() as plain, pytest.raises(OSError, match="in use"):
            plain.bind(("127.0.0.1", port))
        told: list[str] = []
        ports.await_released(port, told.append, attend)
        assert len(attended) >= 2
        assert ports.lingering(port) == 0
        assert [f"port {port}, which the kernel still keeps" in each for each in told] == [True]
        with socket.socket() as plain:
            plain.bind(("127.0.0.1", port))


def test_a_free_port_and_one_with_a_listener_are_not_waited_for() -> None:
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0]:
            assert ports.lingering(port) == 0
            ports.await_released(port, told.append)
    assert told == []


def test_a_port_that_stays_taken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "LINGER_SECONDS", 0.0)
    port, client = closed_by_the_server(20)
    with client, pytest.raises(NeedError, match=f"Port {port} is still kept by the kernel"):
        ports.await_released(port, lambda _: None)


@pytest.mark.parametrize(
    ("url", "held", "port"),
    [
        ("http://127.0.0.1:8080/", {8080, 9090}, 8080),
        ("http://127.0.0.1:8080/", {80}, 80),  # a container's, which a proxy publishes
        ("https://there/", set(), 443),  # not seen from here
        ("http://127.0.0.1:8080/", {80, 81}, 0),
    ],
)
def test_a_service_has_its_own_port_behind_one_that_is_published(
    url: str, held: set[int], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [SimpleNamespace(port=each) for each in held]
    monkeypatch.setattr(listeners, "held", lambda pids: found if pids == [7] else [])
    asked: Any = SimpleNamespace(url=url, pids=lambda: [7])
    assert service.served_port(asked) == port
