"""`flows` where no program ran when a connection closed: the end of its socket tells it."""

from __future__ import annotations

import socket
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.agent.drops import Drops
from harness.agent.flows import Flows
from harness.agent.libbpf import KERNEL_BTF
from harness.agent.loaded import Loaded
from harness.agent.peers import Peers
from harness.agent.together import Together
from tests.bpf.connecting import exchange, start_server
from tests.waiting import until

pytestmark = pytest.mark.bpf


@pytest.fixture
def flows() -> Flows:
    return Flows(Together(), Peers(16, 300.0), Drops(Together(), wanted=False))


@pytest.fixture
def loaded(service: Any, flows: Flows, bpf_objects: Path) -> Iterator[Loaded]:
    options = Namespace(cgroup=service.path, bpf=bpf_objects, btf=KERNEL_BTF, ring_kib=None)
    with closing(Loaded(flows, options)) as loaded:
        yield loaded
        flows.close()


def number(loaded: Loaded, name: str) -> int:
    return int.from_bytes(loaded.object.get(name), "little")


def test_a_close_that_no_program_saw_is_told_when_its_socket_goes(
    service: Any, flows: Flows, loaded: Loaded
) -> None:
    port = start_server(service)
    hooks = {each.hook: each for each in flows.attach(loaded.object)}
    with socket.create_connection(("127.0.0.1", port)) as told:
        exchange(told, 100)
    assert until(lambda: number(loaded, "closed") == 1)
    with socket.create_connection(("127.0.0.1", port)) as untold:
        exchange(untold, 100)
        assert (number(loaded, "opened"), number(loaded, "late")) == (2, 0)
        hooks.pop("tp_btf/inet_sock_set_state").destroy()
    assert until(lambda: number(loaded, "late") == 1)
    assert number(loaded, "closed") == 2
    assert not number(loaded, "lost")
    for each in hooks.values():
        each.destroy()
