"""Makes exactly so many events of a kind when it is told to; for bench_collectors and soak.

    python ci/event_maker.py --control SOCKET

It answers on a UNIX socket, in the cgroup that it was started in: `connect`, `execute`, `open`,
`burn`. Each answers when the last event is made, with how many there were, and what CPU time of it
and of the processes that it started that took: hooks run in who makes the events.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.wire.control import Server


def connect(asked: dict[str, Any]) -> dict[str, Any]:
    """Connections to a port here, each closed at once, from this side."""
    for _ in _paced(asked):
        with socket.create_connection(("127.0.0.1", asked["port"]), 10) as connection:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # the other side has closed, too
    return {"made": asked["number"]}


def execute(asked: dict[str, Any]) -> dict[str, Any]:
    """Processes that execute `argv` and end."""
    argv = asked["argv"]
    for _ in _paced(asked):
        os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)
    return {"made": asked["number"]}


def open_files(asked: dict[str, Any]) -> dict[str, Any]:
    """Files of a folder, opened one after the other."""
    for number in _paced(asked):
        os.close(os.open(f"{asked['folder']}/{number}", os.O_RDONLY))
    return {"made": asked["number"]}


def burn(asked: dict[str, Any]) -> dict[str, Any]:
    """CPU time; `made` are the seconds of it."""
    end = time.process_time() + asked["seconds"]
    while time.process_time() < end:
        sum(range(1000))
    return {"made": asked["seconds"]}


def counted(command: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The same, which also tells the `cpu_seconds` that it took."""

    def run(asked: dict[str, Any]) -> dict[str, Any]:
        before = _cpu_seconds()
        return {**command(asked), "cpu_seconds": _cpu_seconds() - before}

    return run


def _cpu_seconds() -> float:
    """Of all threads, and of children that have ended."""
    of = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in of)


def _paced(asked: dict[str, Any]) -> Iterator[int]:
    """So many numbers at this rate, or as fast as it goes if that is slower."""
    began = time.monotonic()
    for number in range(asked["number"]):
        time.sleep(max(0.0, began + number / asked["rate"] - time.monotonic()))
        yield number


def main() -> int:
    """Answer until this process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--control", type=Path, required=True)
    options = parser.parse_args()
    commands = {"connect": connect, "execute": execute, "open": open_files, "burn": burn}
    server = Server(options.control, {name: counted(each) for name, each in commands.items()})
    print(json.dumps({"ready": True}), flush=True)
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
