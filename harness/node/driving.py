"""The load driver of a node whose load is for a service on another one; for `session`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import DEFECT, InputError, NodeError
from harness.node import silence
from harness.node.load_driver import Driver, LoadDriver
from harness.node.load_workers import drivers
from harness.node.locustfile import placed
from harness.node.machine import Machine
from harness.node.testbed import LOAD
from harness.wire.driving import Begin, Call, End, FindCapacity, Finish, Start
from harness.wire.spec import Placement

REACH_SECONDS = 5.0
POLL_SECONDS = 0.1


class Driving:
    """At most one driver at a time, which does what the measured node asks for."""

    def __init__(self, machine: Machine, placement: Placement) -> None:
        self._machine, self._placement = machine, placement
        self._driver: LoadDriver | None = None

    def do(self, call: Call) -> tuple[Mapping[str, Any], Path | None]:
        """What was found, and where the requests of a phase are that ended; LoadError if it fails.

        InputError if the service cannot be reached from here.
        """
        does = call.does
        if isinstance(does, Begin):
            self._begin(does)
        elif isinstance(does, FindCapacity):
            return asdict(self._running().capacity(does.seconds)), None
        elif isinstance(does, Start):
            return {"at_ns": self._running().start(does.rate, does.requests)}, None
        elif isinstance(does, Finish):
            driver, path = self._running(), self._machine.scratch / "requests.npz"
            summary = driver.wait(path) if does.is_counted else driver.finish(path)
            return {"summary": asdict(summary)}, path
        elif isinstance(does, End):
            self.stop()
        return {}, None

    def stop(self) -> None:
        """End the driver; safe to call again."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.stop()

    def _begin(self, asked: Begin) -> None:
        self.stop()
        _require_answer(asked.url)
        scratch, load = self._machine.scratch, self._placement.load
        made = partial(
            Driver,
            asked.url,
            login=asked.login,
            locustfile=placed(asked.locustfile, scratch / "locustfile.py"),
            connections=asked.connections,
            seed=asked.seed,
            arrivals=asked.arrivals,
            cgroup=self._machine.make(LOAD),
            cpus=load,
        )
        log = self._machine.work / "logs" / f"{asked.name}.log"
        self._driver = drivers(asked.workers, made, load, log=log, control=scratch / "load.sock")

    def _running(self) -> LoadDriver:
        if self._driver is None:
            raise NodeError(
                "There is no load driver on this node.", "Its beginning comes first.", DEFECT
            )
        return self._driver


def _require_answer(url: str) -> None:
    asked = silence.Asked(url, REACH_SECONDS)
    while why := asked.why():
        if asked.over:
            raise InputError(
                f"Nothing answers at {url}, asked from the node of the load.",
                f"{why} It does answer on the machine that is measured.",
                "Say in --load-url how the service is reached from there, or open its port to it.",
            )
        time.sleep(POLL_SECONDS)
