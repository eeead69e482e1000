"""Received packets that the kernel dropped, if they are asked for: whose they were, and why."""

from __future__ import annotations

import os
import re
import socket
import sys
from typing import Any

import pytest

from harness.agent.drops import reasons
from tests.bpf.connecting import flush_until

RELEASE = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(RELEASE < (6, 11), reason="the tracepoint does not tell whose they were"),
]

# A socket that takes nothing: its filter drops all, or nobody reads, and its buffer is small.
SERVER = """
import ctypes, json, socket, struct, sys, time
kind, way = sys.argv[1:]
with socket.socket(socket.AF_INET, getattr(socket, kind)) as server:
    server.bind(("127.0.0.1", 0))
    if kind == "SOCK_STREAM":
        server.listen()
    if way == "filter":
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
        program = struct.pack("HL", 1, ctypes.addressof(nothing))
        server.setsockopt(socket.SOL_SOCKET, 26, program)
    else:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    print(json.dumps({"ready": True, "port": server.getsockname()[1]}), flush=True)
    time.sleep(60)
"""


def dropped(receiver: Any) -> dict[tuple[str, str], int]:
    """Packets by transport and reason."""
    return {
        (told["network.transport"], told["error.type"]): point.as_int
        for transport in ("tcp", "udp")
        for point in receiver.points(f"{transport}.packets.dropped")
        for told in [receiver.attributes(point)]
    }


def serve(service: Any, kind: str, way: str) -> int:
    return int(service.serve(sys.executable, "-c", SERVER, kind, way))


def send(port: int, number: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(number):
            client.sendto(b"x" * 1000, ("127.0.0.1", port))


def test_23_datagrams_that_a_filter_drops(service: Any, start_agent: Any, receiver: Any) -> None:
    port = serve(service, "SOCK_DGRAM", "filter")
    agent = start_agent("flows", "--drops=on")
    assert "tp_btf/kfree_skb" in agent.ready["hooks"]
    send(port, 23)
    flush_until(agent, lambda: dropped(receiver) == {("udp", "socket_filter"): 23})
    assert dropped(receiver) == {("udp", "socket_filter"): 23}
    assert agent.call("stats")["lost"] == 0


def test_a_buffer_that_is_full(service: Any, start_agent: Any, receiver: Any) -> None:
    port = serve(service, "SOCK_DGRAM", "full")
    agent = start_agent("flows", "--drops=on")
    send(port, 200)
    flush_until(agent, lambda: dropped(receiver).get(("udp", "socket_rcvbuff"), 0) > 100)
    assert 100 < dropped(receiver)["udp", "socket_rcvbuff"] < 200


def test_a_connection_that_is_not_let_in(service: Any, start_agent: Any, receiver: Any) -> None:
    port = serve(service, "SOCK_STREAM", "filter")
    agent = start_agent("flows", "--drops=on")
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", port), timeout=0.2)
    flush_until(agent, lambda: ("tcp", "socket_filter") in dropped(receiver))
    assert set(dropped(receiver)) == {("tcp", "socket_filter")}


def test_others_are_not_counted_nor_what_is_dropped_while_off(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    ports = [serve(each, "SOCK_DGRAM", "filter") for each in (service, make_service("other"))]
    agent = start_agent("flows", "--drops=on")
    send(ports[1], 5)
    agent.call("off")
    send(ports[0], 6)
    agent.call("on")
    send(ports[0], 7)
    flush_until(agent, lambda: dropped(receiver) == {("udp", "socket_filter"): 7})
    assert dropped(receiver) == {("udp", "socket_filter"): 7}


def test_nothing_runs_where_it_was_not_asked_for(service: Any, start_agent: Any) -> None:
    agent = start_agent("flows")
    assert "on_drop" not in {each["name"] for each in agent.ready["programs"]}
    assert "tp_btf/kfree_skb" not in agent.ready["hooks"]


def test_reasons_have_the_kernels_names() -> None:
    names = set(reasons().values())
    assert {"no_socket", "tcp_csum", "socket_rcvbuff", "socket_filter"} <= names
