"""Runs a stock locustfile's users, who ask a gate before each task instead of waiting on their own.

The driver uses it. Locust's own loop paces users by sleeping, which hides a stalled server: a
user who waits for an answer makes no request meanwhile. Here the schedule sets the pace.
"""

from __future__ import annotations

import base64
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import gevent
import locust
from gevent.pool import Group
from locust.argument_parser import get_parser
from locust.clients import HttpSession
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_STOPPING, DefaultTaskSet, TaskSet
from locust.util.load_locustfile import load_locustfile

from harness.errors import InputError
from harness.load import fasthttp
from harness.load.schedule import interleave

User = Any


class Gate(Protocol):
    """What users tell the driver; all but `enter` return at once."""

    def enter(self, user: User, nested: bool) -> None:
        """Called by a user before a task: returns when a slot is theirs.

        A nested TaskSet counts as a task; the slot goes to the first thing that it does.
        """

    def answered(self, user: User, end_ns: int, meta: dict[str, Any]) -> None:
        """Called after each request, with Locust's `request` event."""

    def task_failed(self, user: User, error: str) -> None:
        """Called when a task raised; the `error`'s class, which says more than that it did."""

    def left(self, user: User) -> None:
        """Called when a user stopped for good."""


class Crowd:
    """The users of a locustfile, running; Locust is patched once a process.

    `login`, user:password as in a URL, is sent by what Locust gives a user as its `client`.
    """

    def __init__(self, locustfile: Path, url: str, gate: Gate, seed: int, login: str = "") -> None:
        random.seed(seed)
        self._gate, self._seed, self._login = gate, seed, login
        self._users: dict[object, User] = {}
        self._orders: dict[tuple[str, int, int], tuple[list[Any], Iterator[Any]]] = {}
        self._group = Group()
        fasthttp.poll_without_yielding()
        fasthttp.send_once()
        self.environment = _environment(locustfile, url)
        self.classes: list[type[User]] = self.environment.user_classes
        self._patch()

    def spawn(self, user_class: type[User], url: str) -> User:
        """Start one user of the service at `url`; it runs `on_start` and then asks the gate."""
        user_class.host = url  # the constructor makes a client of it
        user = user_class(self.environment)
        user.host = url
        if client := getattr(user, "client", None):
            _log_in(client, self._login)
            client.request = _stamped(client.request)
            if isinstance(client, FastHttpSession):
                fasthttp.spare(client)
        greenlet = user.start(self._group)
        self._users[greenlet] = user
        greenlet.link(self._ended)
        return user

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """End all users, who run `on_stop`."""
        self._group.kill(timeout=timeout_seconds)
        self.environment.events.test_stop.fire(environment=self.environment)
        self.environment.events.quitting.fire(environment=self.environment, reverse=True)

    def _ended(self, greenlet: object) -> None:
        self._gate.left(self._users.pop(greenlet))

    def _patch(self) -> None:
        crowd, execute = self, TaskSet.execute_next_task

        def execute_next_task(tasks: Any) -> None:
            crowd._gate.enter(tasks.user, nested=isinstance(tasks._task_queue[0], type))
            execute(tasks)

        def wait(tasks: Any) -> None:
            if tasks.user._state == LOCUST_STATE_STOPPING:
                raise StopUser()

        TaskSet.execute_next_task = execute_next_task
        TaskSet.wait = wait
        TaskSet.get_next_task = lambda tasks: crowd._pick(tasks.tasks, tasks.user.host)
        DefaultTaskSet.get_next_task = lambda tasks: crowd._pick(tasks.user.tasks, tasks.user.host)
        self.environment.events.request.add_listener(self._on_request)
        self.environment.events.user_error.add_listener(self._on_error)

    def _pick(self, tasks: list[Any], host: str) -> Any:
        """Each service gets the exact mix, whatever share of the load it has."""
        key = (host, id(tasks), len(tasks))
        if key not in self._orders:
            if not tasks:
                raise StopUser()
            self._orders[key] = (tasks, _in_proportion(tasks, self._seed))
        return next(self._orders[key][1])

    def _on_error(self, user_instance: Any, exception: Exception, **_: Any) -> None:
        user = getattr(user_instance, "user", user_instance)  # Locust passes a TaskSet at times
        if user in self._users.values():
            self._gate.task_failed(user, type(exception).__name__)

    def _on_request(self, **meta: Any) -> None:
        end_ns = getattr(meta.get("response"), "received_ns", 0) or time.monotonic_ns()
        greenlet = gevent.getcurrent()
        while greenlet is not None and greenlet not in self._users:
            spawner = getattr(greenlet, "spawning_greenlet", None)
            greenlet = spawner() if spawner else None
        if greenlet is not None:
            self._gate.answered(self._users[greenlet], end_ns, meta)


def _environment(locustfile: Path, url: str) -> Any:
    sys.argv = ["locust"]  # a locustfile may parse it
    try:
        classes, _ = load_locustfile(str(locustfile))
    except (Exception, SystemExit) as error:
        raise InputError(
            f"Cannot load the locustfile {locustfile}.",
            f"{type(error).__name__}: {error}.",
            "Check that `locust -f` accepts it.",
        ) from error
    usable = [user_class for user_class in classes.values() if user_class.tasks]
    if not usable:
        raise InputError(
            f"{locustfile} defines no user class with tasks.",
            next_step="Check what `locust -f` says to it.",
        )
    if not any(user_class.weight > 0 or user_class.fixed_count > 0 for user_class in usable):
        raise InputError(
            f"Every user class of {locustfile} has weight 0.",
            "Locust starts no user of such a class, so there is nobody to drive the load.",
            "Give one of them a weight above 0, or a fixed_count.",
        )
    options = ["--headless", "--host", url, "-f", str(locustfile)]
    environment = Environment(
        user_classes=usable,
        events=locust.events,
        host=url,
        parsed_options=get_parser(default_config_files=[]).parse_args(options),
    )
    environment.events.init.fire(environment=environment, runner=None, web_ui=None)
    environment.events.test_start.fire(environment=environment)
    return environment


def _log_in(client: Any, login: str) -> None:
    """Basic authentication (RFC 7617), as Locust does it for a host with a login in it.

    The host that locustfiles see has none, so that no name, error or print of theirs can tell it.
    """
    user, _, password = (unquote(part).encode() for part in login.partition(":"))
    if not login:
        return
    if isinstance(client, FastHttpSession):
        client.auth_header = "Basic " + base64.b64encode(user + b":" + password).decode()
    elif isinstance(client, HttpSession):
        client.auth = (user, password)


def _in_proportion(tasks: list[Any], seed: int) -> Iterator[Any]:
    kinds = list(dict.fromkeys(tasks))
    weights = [tasks.count(kind) for kind in kinds]
    return (kinds[index] for index in interleave(weights, seed))


def _stamped(request: Callable[..., Any]) -> Callable[..., Any]:
    """With catch_response, Locust tells of a request only after the user has looked at it."""

    def stamp(*args: Any, **options: Any) -> Any:
        response = request(*args, **options)
        if meta := getattr(response, "request_meta", None):
            meta["response"].received_ns = time.monotonic_ns()
        return response

    return stamp
