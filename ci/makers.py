"""What makes events in a cgroup, and what that needs; for the benches of collectors."""

from __future__ import annotations

import os
import signal
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


def end_in_order() -> None:
    """Leave nothing behind when this process is told to end, or loses its terminal."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))


@contextmanager
def place(name: str) -> Iterator[Path]:
    """A cgroup below ours, which goes with the block."""
    mounted = mount.find("cgroup2")
    assert mounted is not None, "cgroup v2 is needed"
    made = mounted / cgroup.PARENT / f"{name}-{os.getpid()}"
    cgroup.create(made)
    try:
        yield made
    finally:
        cgroup.kill(made)
        cgroup.remove(made)


@contextmanager
def service(within: Path, folder: Path) -> Iterator[tuple[processes.Process, int]]:
    """The Go service that ships, in a cgroup, and its port."""
    argv = [str(ROOT / "workloads/go/.output/server"), "--host", "127.0.0.1", "--port", "0"]
    log = folder / "service.log"
    process = processes.spawn(argv, log=log, cgroup=within)
    try:
        told = processes.announced(process, 30)
        assert told is not None, log.read_text()
        yield process, int(told["port"])
    finally:
        processes.stop(process)


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
