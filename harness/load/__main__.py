"""The load driver's process: `python -m harness.load`, told what to do over its control socket."""

from __future__ import annotations

import locust  # isort: skip  # first, because it makes sockets and threads cooperative
import argparse
import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, get_args

import gevent

from harness.errors import HarnessError
from harness.load import LOGIN
from harness.load.driver import Driver
from harness.load.schedule import Share
from harness.load.standard_output import StandardOutput
from harness.model import Arrivals
from harness.wire.control import Server

DEFAULT_LOCUSTFILE = Path(__file__).with_name("default_locustfile.py")
MAX_LOG_LINES = 200
NICE = -10


def main() -> int:
    """Serve until `stop` or SIGTERM; 2 if the locustfile cannot be run."""
    output = StandardOutput()
    arguments, login = _arguments(), os.environ.pop(LOGIN, "")
    _go_first()
    logging.basicConfig(
        level=logging.WARNING, format=f"%(asctime)s locust {locust.__version__}: %(message)s"
    )
    logging.getLogger().handlers[0].addFilter(_at_most(MAX_LOG_LINES))
    try:
        driver = Driver(
            arguments.locustfile,
            arguments.url,
            arguments.connections,
            arguments.seed,
            arguments.twin_url,
            login,
            arguments.arrivals,
            Share(arguments.worker, arguments.workers),
        )
    except HarnessError as error:
        told = {"what": error.what, "why": error.why, "next_step": error.next_step}
        output.line(json.dumps({"ready": False, **told}))
        return 2
    handlers = _handlers(driver)
    server = Server(arguments.control, handlers)

    def stop(_request: dict[str, Any]) -> dict[str, Any]:
        server.stop()
        return {}

    handlers["stop"] = stop
    for end in (server.stop, driver.stop):
        gevent.signal_handler(signal.SIGTERM, end)
    output.line(json.dumps({"ready": True}))
    server.serve()
    driver.stop()
    return 0


def _go_first() -> None:
    """Ahead of collectors and the orchestration on a shared CPU: what is due must not wait.

    Where the kernel groups tasks by session, a nice value counts only inside the group, and the
    group has one of its own (sched(7), autogroup).
    """
    with contextlib.suppress(OSError):
        os.nice(NICE)
        if os.getsid(0) == os.getpid():
            Path("/proc/self/autogroup").write_text(str(NICE))


def _handlers(driver: Driver) -> dict[str, Any]:
    return {
        "capacity": lambda request: driver.capacity(float(request["seconds"]), _at(request)),
        "start": lambda request: driver.start(
            _rate(request), request.get("requests"), _at(request)
        ),
        "aim": lambda request: driver.aim(bool(request["twin"])),
        "finish": lambda request: driver.finish(Path(request["path"]), _at(request)),
        "wait": lambda request: driver.wait(Path(request["path"])),
    }


def _rate(request: dict[str, Any]) -> float | None:
    """None for a closed loop."""
    rate = request["rate"]
    return None if rate is None else float(rate)


def _at(request: dict[str, Any]) -> int:
    """When, of CLOCK_MONOTONIC; 0 if that was not told."""
    return int(request.get("at_ns", 0))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m harness.load", description=__doc__)
    parser.add_argument("--url", required=True, help="the service, http://HOST:PORT")
    parser.add_argument(
        "--twin-url", default="", help="another such service, see the command `aim`"
    )
    parser.add_argument("--locustfile", type=Path, default=DEFAULT_LOCUSTFILE)
    parser.add_argument("--control", type=Path, required=True, help="UNIX socket to serve")
    parser.add_argument("--connections", type=int, default=16, help="users, each on its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--arrivals", choices=get_args(Arrivals), default="periodic", help="how they are spaced"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that are one load")
    parser.add_argument("--worker", type=int, default=0, help="which of them this is, from 0")
    return parser.parse_args()


def _at_most(lines: int) -> Any:
    left = iter(range(lines))
    return lambda record: next(left, None) is not None


if __name__ == "__main__":
    sys.exit(main())
