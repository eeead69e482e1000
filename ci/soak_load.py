"""Mixed load on one service and its cgroup, which knows what it made; for soak.

Storms of connections, a steady client, a scanner that asks for ever new routes, processes that are
born and die, files that these open, and a receiver of telemetry that goes away now and then.
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing

from receiver import Receiver

from harness.wire.control import Client

STORM = 200  # connections at once
BIRTHS = 300  # processes in a row, at most
BIRTH_RATE = 400.0  # a second
TIMEOUT_SECONDS = 20.0
PROGRAM = "/bin/true"
READER = "/bin/cat"


class Load:
    """`made` are `requests`, `connections`, `executions` and `opens`.

    Of requests without an answer, and connections that failed, nobody knows whether they came to
    the service: they are `uncertain`.
    """

    def __init__(self, port: int, maker: Client, watched: str, receiver: Receiver) -> None:
        self.made, self.uncertain = Counter[str](), Counter[str]()
        self._port, self._maker, self._watched = port, maker, watched
        self._receiver = receiver
        self._counting, self._ended = threading.Lock(), threading.Event()
        self._failed: list[BaseException] = []
        parts = (self._storms, self._steady, self._scan, self._births, self._restarts)
        self._threads = [threading.Thread(target=self._kept, args=(each,)) for each in parts]

    def start(self) -> None:
        """Begin with all of it."""
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """End, with a receiver that is there; what failed in making events is raised."""
        self._ended.set()
        for each in self._threads:
            each.join()
        if self._failed:
            raise self._failed[0]

    def _kept(self, part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as error:
            self._failed.append(error)

    def _count(self, what: str, number: int = 1, *, certain: bool = True) -> None:
        with self._counting:
            (self.made if certain else self.uncertain)[what] += number

    def _storms(self) -> None:
        draw = random.Random(1)
        while not self._ended.wait(draw.uniform(1, 4)):
            self._storm()

    def _storm(self) -> None:
        """Many connections before the first is used; each for a request."""
        with ExitStack() as stack:
            opened = []
            for _ in range(STORM):
                if (connection := self._connected()) is not None:
                    opened.append(stack.enter_context(closing(connection)))
            asked = [each for each in opened if self._asked(each, "/healthz", Connection="close")]
            for each in asked:
                self._answered(each)

    def _steady(self) -> None:
        self._ask(100.0, lambda: "/")

    def _scan(self) -> None:
        draw = random.Random(2)
        self._ask(200.0, lambda: f"/{draw.getrandbits(40):x}/{draw.choice('abc')}.php")

    def _ask(self, rate: float, route: Callable[[], str]) -> None:
        """So many requests a second over one connection, or another one if it breaks."""
        while not self._ended.is_set():
            if (connection := self._connected()) is None:
                continue
            with closing(connection):
                while not self._ended.wait(1 / rate):
                    if not (self._asked(connection, route()) and self._answered(connection)):
                        break

    def _connected(self) -> http.client.HTTPConnection | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.connect()
        except OSError:
            self._count("connections", certain=False)
            return None
        assert isinstance(connection.sock, socket.socket)
        self._count("connections")
        return connection

    def _asked(self, connection: http.client.HTTPConnection, route: str, **headers: str) -> bool:
        try:
            connection.request("GET", route, headers=headers)
        except (OSError, http.client.HTTPException):
            self._count("requests", certain=False)
            return False
        return True

    def _answered(self, connection: http.client.HTTPConnection) -> bool:
        try:
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            self._count("requests", certain=False)
            return False
        self._count("requests")
        return True

    def _births(self) -> None:
        draw = random.Random(3)
        while not self._ended.wait(draw.uniform(0.2, 3)):
            number, reads = draw.randint(1, BIRTHS), draw.random() < 0.5
            argv = [READER, self._watched] if reads else [PROGRAM]
            said = self._maker.call("execute", argv=argv, number=number, rate=BIRTH_RATE)
            self._count("executions", int(said["made"]))
            self._count("opens", int(said["made"]) if reads else 0)

    def _restarts(self) -> None:
        draw = random.Random(4)
        while not self._ended.wait(draw.uniform(4, 20)):
            self._receiver.away()
            self._ended.wait(draw.uniform(1, 6))
            self._receiver.back()
