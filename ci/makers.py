"""Processes that make events in a cgroup, and what they need; for bench_collectors and soak."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from harness.linux import cgroup, mount, processes
from harness.wire.control import Client

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 600.0


@contextmanager
def place(name: str) -> Iterator[Path]:
    """A cgroup, which goes with the block."""
    mounted = mount.find("cgroup2")
    assert mounted is not None, "cgroup v2 is needed"
    made = mounted / name
    cgroup.create(made)
    try:
        yield made
    finally:
        cgroup.kill(made)
        cgroup.remove(made)


@contextmanager
def maker(within: Path, folder: Path) -> Iterator[tuple[int, Client]]:
    """A process of event_maker.py in a cgroup: its number, and its commands."""
    control, log = folder / "maker.sock", folder / "maker.log"
    argv = [sys.executable, str(ROOT / "ci/event_maker.py"), "--control", str(control)]
    with ExitStack() as stack:
        process = processes.spawn(argv, log=log, cwd=ROOT, cgroup=within)
        stack.callback(processes.stop, process)
        assert processes.announced(process, 30) is not None, log.read_text()
        yield process.pid, stack.enter_context(Client(control, PATIENCE_SECONDS))


@contextmanager
def server() -> Iterator[int]:
    """Takes connections one after the other, and closes each when the other side does; its port."""

    def serve() -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1)

    with closing(socket.create_server(("127.0.0.1", 0), backlog=128)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
