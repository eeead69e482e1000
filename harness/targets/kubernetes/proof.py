"""Proves a roll-out: one request in the cluster, and what it left in each backend; for `rollout`.

The request is made from a pod to a service by its name, with a mark in its query. Its span is found
by that mark, its metric by the counter that grew, its log line by the program that it had executed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from harness.errors import CommandError, ComponentError
from harness.stack import backends, readback
from harness.stack.config import PROGRAMS, Stack
from harness.stack.config.prometheus import metric
from harness.stack.questions import Logs, Metrics, Traces
from harness.stack.readback import Arrival, NotArrivedError
from harness.targets.kubernetes.kubectl import OURS, Cluster

SECONDS = 60.0
PROGRAM = "program/.output/nothing"
_POLL_SECONDS = 0.25
_LINES, _CHARACTERS = 3, 500  # of what a backend says that kept nothing
_REQUEST = """import urllib.request
for _ in range({times}):
    answer = urllib.request.urlopen('http://{service}:{port}/exec?proof={mark}', timeout=10)
print(answer.status)
"""


@dataclass(frozen=True)
class Asked:
    """Whom the request is made to, and how often where agents make a span of some only."""

    service: str = "go"
    port: int = 8080
    times: int = 1


ONE = Asked()


@contextlib.contextmanager
def reached(cluster: Cluster, stack: Stack) -> Iterator[Stack]:
    """The same stack as it is reached from here, through the cluster's API, while it lasts."""
    services = {host: stack.port(name, "http") for name, host in stack.hosts.items()}
    with cluster.forwarded(services) as ports:
        yield dataclasses.replace(
            stack,
            bind="127.0.0.1",
            hosts={},
            ports={
                **stack.ports,
                **{f"{name}.http": ports[host] for name, host in stack.hosts.items()},
            },
        )


def prove(cluster: Cluster, stack: Stack, asked: Asked = ONE) -> list[Arrival]:
    """Make the request and find its span, metric and log line; ComponentError names what is not.

    One record of each signal is sent to the Collector before, so that what does not arrive from an
    agent is told from what no backend keeps.
    """
    with reached(cluster, stack) as here:
        _prove_backends(cluster, stack, here)
        node = _node(cluster, asked.service)
        mark, since = secrets.token_hex(8), time.time_ns()
        before = _requests(here, node)
        began = time.monotonic()
        _make_request(cluster, asked, mark)
        wanted: dict[str, Callable[[], bool]] = {
            "traces": lambda: _has_span(here, mark),
            "metrics": lambda: _requests(here, node) > before,
            "logs": lambda: _has_line(here, node, since),
        }
        return _found(here, wanted, began)


def _prove_backends(cluster: Cluster, stack: Stack, here: Stack) -> None:
    """What is sent to the Collector is kept; else what those say that did not keep it."""
    try:
        readback.prove(here, SECONDS)
    except NotArrivedError as error:
        names = [stack.hosts[name] for name in ("otelcol", *error.missing)]
        said = [f"{name} says: {lines}" for name in names if (lines := _last_words(cluster, name))]
        raise ComponentError(
            error.what, " ".join(said), f"{cluster.shown} logs service/{names[-1]} says more."
        ) from error


def _last_words(cluster: Cluster, service: str) -> str:
    """The last lines of a service's pod."""
    done = cluster.run("logs", f"service/{service}", f"--tail={_LINES}", check=False)
    return "" if done.returncode else " ".join(done.stdout.split())[-_CHARACTERS:]


def _found(here: Stack, wanted: dict[str, Callable[[], bool]], began: float) -> list[Arrival]:
    arrived: dict[str, Arrival] = {}
    while len(arrived) < len(wanted) and time.monotonic() - began < SECONDS:
        for signal, is_there in wanted.items():
            if signal not in arrived and is_there():
                arrived[signal] = Arrival(signal, here.keeps[signal], time.monotonic() - began)
        time.sleep(_POLL_SECONDS)
    if missing := [signal for signal in wanted if signal not in arrived]:
        raise ComponentError(
            f"A request was answered in the cluster, and of its {' and '.join(missing)} nothing "
            f"was found within {SECONDS:.0f} s.",
            "The Collector and the backends keep what is sent to them: the agents sent nothing.",
            "See what they say: kubectl logs daemonset/agents --all-containers.",
        )
    return [arrived[signal] for signal in wanted]


def _make_request(cluster: Cluster, asked: Asked, mark: str) -> None:
    script = _REQUEST.format(**vars(asked), mark=mark)
    words = ("exec", "daemonset/agents", "--container=http", "--", "python3", "-c", script)
    done = cluster.run(*words, check=False)
    if done.returncode or "200" not in done.stdout:
        raise CommandError(
            f"A pod's request to http://{asked.service}:{asked.port}/exec was not answered.",
            " ".join((done.stderr or done.stdout).split())[-400:],
            f"See that the cluster's DNS answers, and {cluster.shown} get pods.",
        )


def _node(cluster: Cluster, service: str) -> str:
    """The node that the service's pod is on."""
    pods = cluster.get("pods", f"--selector={OURS},app.kubernetes.io/name={service}")
    return str(pods[0]["spec"]["nodeName"])


def _has_span(here: Stack, mark: str) -> bool:
    keeper = cast(Traces, backends.keeper(here, "traces"))
    return keeper.tells("url.query", f"proof={mark}")


def _requests(here: Stack, node: str) -> float:
    """Requests for /exec that the agent of a node counted."""
    keeper = cast(Metrics, backends.keeper(here, "metrics"))
    since = time.time_ns() - 3600 * 10**9
    counted = metric("http.server.request.duration")
    found = keeper.counters(f"http@{node}", counted, since)
    return sum(
        one.points[-1][1] for one in found if one.points and ("http_route", "/exec") in one.labels
    )


def _has_line(here: Stack, node: str, since: int) -> bool:
    """An execution of the program that the request asks for."""
    keeper = cast(Logs, backends.keeper(here, "logs"))
    store = PROGRAMS[here.keeps["logs"]].store
    assert store is not None
    path = store.called("process.executable.path")
    lines = keeper.lines(f"guard@{node}", since)
    return any(
        name.endswith(path) and str(value).endswith(PROGRAM)
        for line in lines
        for name, value in line.labels
    )
