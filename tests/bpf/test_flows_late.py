"""`flows` where no program saw a connection close: the end of its socket tells, or the sum."""

from __future__ import annotations

import socket
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.agent.collector import Attachment
from harness.agent.drops import Drops
from harness.agent.flows import Flows
from harness.agent.libbpf import KERNEL_BTF
from harness.agent.loaded import Loaded
from harness.agent.peers import Peers
from harness.agent.together import Together
from tests.bpf.connecting import exchange, start_server
from tests.bpf.loopback import await_gone
from tests.waiting import until

pytestmark = pytest.mark.bpf

STATE, END = "tp_btf/inet_sock_set_state", "tp_btf/tcp_destroy_sock"


@pytest.fixture
def flows() -> Flows:
    return Flows(Together(), Peers(16, 300.0), Drops(Together(), wanted=False))


@pytest.fixture
def loaded(service: Any, flows: Flows, bpf_objects: Path) -> Iterator[Loaded]:
    options = Namespace(cgroup=service.path, bpf=bpf_objects, btf=KERNEL_BTF, ring_kib=None)
    with closing(Loaded(flows, options)) as loaded:
        yield loaded
        flows.close()


@contextmanager
def attached(flows: Flows, loaded: Loaded) -> Iterator[dict[str, Attachment]]:
    """On meanwhile; by hook what a test may detach before."""
    hooks = {each.hook: each for each in flows.attach(loaded.object)}
    try:
        yield hooks
    finally:
        for each in hooks.values():
            each.destroy()


def number(loaded: Loaded, name: str) -> int:
    return int.from_bytes(loaded.object.get(name), "little")


def test_a_close_that_no_program_saw_is_told_when_its_socket_goes(
    service: Any, flows: Flows, loaded: Loaded
) -> None:
    port = start_server(service)
    with attached(flows, loaded) as hooks:
        connected(port)
        assert until(lambda: number(loaded, "closed") == 1)
        with socket.create_connection(("127.0.0.1", port)) as untold:
            exchange(untold, 100)
            assert (number(loaded, "opened"), number(loaded, "late")) == (2, 0)
            hooks.pop(STATE).destroy()
        assert until(lambda: (number(loaded, "late"), number(loaded, "closed")) == (1, 2))
        assert lost(flows) == 0


def test_a_connection_that_goes_and_is_told_by_nobody_is_lost_and_said(
    service: Any, flows: Flows, loaded: Loaded
) -> None:
    port = start_server(service)
    with socket.create_connection(("127.0.0.1", port)) as stays:
        with attached(flows, loaded) as hooks:
            exchange(stays, 100)
            flows.collect(metrics=True)
            with socket.create_connection(("127.0.0.1", port)) as untold:
                exchange(untold, 100)
                flows.collect(metrics=True)
                for name in (STATE, END):
                    hooks.pop(name).destroy()
            assert until(lambda: lost(flows) == 1)
            assert flows.counts().more["closed_unseen"] == 1
            assert number(loaded, "closed") == 0
        with attached(flows, loaded):  # on again
            stays.close()
            assert until(lambda: number(loaded, "closed") == 1)
            assert lost(flows) == 1


def test_none_is_lost_that_closes_while_it_is_off_or_while_others_come_and_go(
    service: Any, flows: Flows, loaded: Loaded
) -> None:
    port = start_server(service)
    while_off = socket.create_connection(("127.0.0.1", port))
    with attached(flows, loaded), ThreadPoolExecutor(4) as several:
        exchange(while_off, 100)
        calls = [several.submit(connected, port) for _ in range(400)]
        while not all(each.done() for each in calls):
            assert lost(flows) == 0
        assert until(lambda: number(loaded, "closed") == 400)
        assert lost(flows) == 0
    own_port = while_off.getsockname()[1]
    while_off.close()
    await_gone(port, own_port)
    assert lost(flows) == 0
    with attached(flows, loaded):
        connected(port)
        assert until(lambda: number(loaded, "closed") == 401)
        assert lost(flows) == 0


def connected(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        exchange(connection, 10)


def lost(flows: Flows) -> int:
    flows.collect(metrics=True)
    return flows.counts().lost
