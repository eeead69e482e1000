"""A real Parca by itself, where its program is to be had; for tests of what is sent to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from harness.linux import processes
from harness.stack import catalog, client, config, supply
from harness.stack.config import PROGRAMS, Stack
from tests.waiting import until


def require() -> Path:
    """Its program; skip where it would have to be built."""
    offer = supply.choose(catalog.known()["parca"], supply.cache())
    if offer is None or not offer.ready or offer.program is None:
        pytest.skip("Parca is not there: `make stack STACK=parca` builds it")
    return offer.program


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """A stack in which only Parca runs."""
    program = require()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    stack = Stack(folder, ports={"parca.http": port})
    log = folder / "parca.log"
    process = processes.spawn([str(program), *config.write(stack, "parca")], log=log)
    try:
        assert until(lambda: process.poll() is not None or _answers(stack), 60)
        assert process.poll() is None, log.read_text()
        yield stack
    finally:
        processes.stop(process)


def _answers(stack: Stack) -> bool:
    try:
        client.get(PROGRAMS["parca"].ready(stack))
    except client.FAILURES:
        return False
    return True
