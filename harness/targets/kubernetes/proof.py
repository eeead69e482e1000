"""Proves a roll-out: one request in the cluster, and what it left in each backend; for `rollout`.

The request is made from a pod to a service by its name, with a mark in its query. Its span is found
by that mark, its metric by the counter that grew, its log line by the program that it had executed;
where profiles are kept the service is kept busy, too, and its CPU time there must grow; the span
must say in which pod it was made. Grafana, if it is there, must show all of it. Where
agents send to somebody else's receiver they say whether it took it, and who can be asked is asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from harness.errors import CommandError, ComponentError, HarnessError
from harness.stack import backends, readback
from harness.stack.config import PROGRAMS, Stack
from harness.stack.config.prometheus import metric
from harness.stack.grafana import shown
from harness.stack.grafana.shown import Shown
from harness.stack.questions import UNPROMOTED, Logs, Metrics, Profiles, Traces
from harness.stack.readback import Arrival
from harness.targets.kubernetes import acknowledged, dashboards, heard
from harness.targets.kubernetes.dashboards import GRAFANA
from harness.targets.kubernetes.kubectl import OURS, Cluster

Pod = dict[str, Any]

SECONDS = 60.0
PROGRAM = "program/.output/nothing"
_POLL_SECONDS = 0.25
_AGAIN_SECONDS = 10.0  # until a request that nobody counted is made again
_LINES, _CHARACTERS = 3, 500  # of what a backend says that kept nothing
_REQUEST = """import urllib.request
for _ in range({times}):
    answer = urllib.request.urlopen('http://{service}:{port}/exec?proof={mark}', timeout=10)
print(answer.status)
"""
_BUSY = """import time, urllib.request
until = time.monotonic() + {seconds}
while time.monotonic() < until:
    urllib.request.urlopen('http://{service}:{port}/cpu?blocks=10000', timeout=10).read()
"""
_BUSY_SECONDS = 1.0  # a profiler looks 19 times in one
_AGO_NS = 60 * 10**9  # a profile is of when its drain began


@dataclass(frozen=True)
class Asked:
    """Whom the request is made to, and how often where agents make a span of some only."""

    service: str = "go"
    port: int = 8080
    times: int = 1


ONE = Asked()


@dataclass(frozen=True)
class Proved:
    """What was found of the request, and what its span says of where it was made.

    `shown` is what Grafana shows, if it is there; `unshown` why it does not show what it should,
    where nobody asked for it. `acknowledged` are the spans of the service's node that somebody
    else's receiver took meanwhile; `heard` are the seconds since the agents of each node told of
    themselves, of backends of ours.
    """

    arrivals: Sequence[Arrival] = ()
    origin: Mapping[str, str] = field(default_factory=dict)
    shown: Shown | None = None
    unshown: str = ""
    acknowledged: int = 0
    heard: Mapping[str, float] = field(default_factory=dict)


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


def prove(cluster: Cluster, stack: Stack, asked: Asked = ONE, *, shows: bool = True) -> Proved:
    """Make a request and find its span, metric and log line; ComponentError names what is not.

    One record of each signal is sent to the Collector before, and again if something is missing, so
    that what does not arrive from an agent is told from what no backend keeps. Grafana, where it is
    there, is asked for its data sources and dashboards; what is amiss is an error if it `shows`.
    Agents of each node must be heard. Of a stack without a Collector of ours agents say whether
    their receiver took what they sent, and of the signals that somebody is known to keep the
    records are found.
    """
    with reached(cluster, stack) as here:
        ours = "otelcol" in stack.hosts
        if ours:
            _prove_backends(cluster, stack, here)
        pods = _pods(cluster, asked.service)
        taken = 0 if ours else acknowledged.spans(cluster, pods)
        origin: dict[str, str] = {}
        mark, since = secrets.token_hex(8), time.time_ns()
        before = _requests(here, pods) if "metrics" in here.keeps else 0.0
        spent = [_profiled(here, pods, since)]

        def again() -> None:
            _keep_busy(cluster, here, asked)
            _make_request(cluster, asked, mark)

        _keep_busy(cluster, here, asked)
        began = time.monotonic()
        _make_request(cluster, asked, mark)
        sent = 0 if ours else acknowledged.more(cluster, pods, taken)
        looks: dict[str, Callable[[], bool]] = {
            "traces": lambda: _has_span(here, mark, origin),
            "metrics": lambda: _requests(here, pods) not in (before, 0),
            "logs": lambda: _has_line(here, pods, since),
            "profiles": lambda: _grew(here, pods, since, spent),
        }
        wanted = {signal: look for signal, look in looks.items() if signal in here.keeps}
        arrived = _found(here, wanted, began, again)
        if ours and len(arrived) < len(wanted):
            _prove_backends(cluster, stack, here)  # one may have become full meanwhile
        if "traces" in arrived:
            _require_named(cluster, stack, pods, origin)
        _require_all(cluster, stack, list(wanted), arrived)
        ages = heard.by_node(cluster, here) if ours else {}
        found = [arrived[signal] for signal in wanted]
        proved = Proved(found, origin, acknowledged=sent, heard=ages)
        return _seen(cluster, here, proved, shows) if GRAFANA in stack.hosts else proved


def _seen(cluster: Cluster, here: Stack, proved: Proved, shows: bool) -> Proved:
    """With what Grafana shows."""
    try:
        found = shown.prove(here, dashboards.password(cluster))
    except HarnessError as error:
        if shows:
            raise
        return dataclasses.replace(proved, unshown=str(error))
    return dataclasses.replace(proved, shown=found)


def _prove_backends(cluster: Cluster, stack: Stack, here: Stack) -> None:
    """What is sent to the Collector is kept; else what those say that did not keep it."""
    _, missing = readback.look(here, SECONDS)
    if missing:
        names = [stack.hosts[name] for name in ("otelcol", *missing)]
        said = [f"{name} says: {lines}" for name in names if (lines := _last_words(cluster, name))]
        raise ComponentError(
            readback.unkept(missing, SECONDS), " ".join(said),
            f"{cluster.shown} logs service/{names[-1]} says more.",
        )  # fmt: skip


def _last_words(cluster: Cluster, service: str) -> str:
    """The last lines of a service's pod."""
    done = cluster.run("logs", f"service/{service}", f"--tail={_LINES}", check=False)
    return "" if done.returncode else " ".join(done.stdout.split())[-_CHARACTERS:]


def _found(
    here: Stack, wanted: dict[str, Callable[[], bool]], began: float, again: Callable[[], None]
) -> dict[str, Arrival]:
    """What arrived when; `again` makes the request once more.

    Agents that were replaced count from nothing: that may be as many as those before had counted,
    and only another request tells the two apart.
    """
    arrived: dict[str, Arrival] = {}
    asked = began
    while len(arrived) < len(wanted) and time.monotonic() - began < SECONDS:
        if time.monotonic() - asked > _AGAIN_SECONDS:
            asked = time.monotonic()
            with contextlib.suppress(CommandError):  # the pod that asks may be replaced just now
                again()
        for signal, is_there in wanted.items():
            if signal not in arrived and is_there():
                arrived[signal] = Arrival(signal, here.keeps[signal], time.monotonic() - began)
        time.sleep(_POLL_SECONDS)
    return arrived


def _require_all(
    cluster: Cluster, stack: Stack, wanted: Sequence[str], arrived: Mapping[str, Arrival]
) -> None:
    missing = [signal for signal in wanted if signal not in arrived]
    if not missing:
        return
    what = (
        f"A request was answered in the cluster, and of its {' and '.join(missing)} nothing "
        f"was found within {SECONDS:.0f} s."
    )
    if stack.urls:
        where = " and ".join(stack.url(stack.keeps[signal]) for signal in missing)
        raise ComponentError(
            what,
            f"The receiver took what the agents sent, and {where} found nothing by the span's "
            "url.query or the container's service.instance.id.",
            "See where the receiver sends it, whether it takes attributes off, and whether that is "
            "the URL of the backend that it sends to.",
        )
    raise ComponentError(
        what,
        "The Collector and the backends keep what is sent to them: the agents sent nothing.",
        f"See what they say: {cluster.shown} logs daemonset/agents --all-containers.",
    )


def _make_request(cluster: Cluster, asked: Asked, mark: str) -> None:
    script = _REQUEST.format(**vars(asked), mark=mark)
    words = ("exec", "daemonset/agents", "--container=agent", "--", "python3", "-c", script)
    done = cluster.run(*words, check=False)
    if done.returncode or "200" not in done.stdout:
        raise CommandError(
            f"A pod's request to http://{asked.service}:{asked.port}/exec was not answered.",
            " ".join((done.stderr or done.stdout).split())[-400:],
            f"See that the cluster's DNS answers, and {cluster.shown} get pods.",
        )


def _keep_busy(cluster: Cluster, here: Stack, asked: Asked) -> None:
    """Where profiles are kept let the service use a CPU for a moment, so that they have something.

    Who is not reached is told by the request after it.
    """
    if "profiles" not in here.keeps:
        return
    script = _BUSY.format(service=asked.service, port=asked.port, seconds=_BUSY_SECONDS)
    words = ("exec", "daemonset/agents", "--container=agent", "--", "python3", "-c", script)
    cluster.run(*words, check=False)


def _require_named(
    cluster: Cluster, stack: Stack, pods: Sequence[Pod], origin: Mapping[str, str]
) -> None:
    """That the span says which of these pods it is from; ComponentError says who did not."""
    if origin.get("k8s.pod.name") in {pod["metadata"]["name"] for pod in pods}:
        return
    collector = stack.hosts.get("otelcol")
    if collector is None and origin.get("k8s.pod.uid") in _uids(pods):
        return  # somebody else's Collector need not ask the cluster for names
    what = "A request's span was found, and it does not say in which pod it was made."
    if not origin.get("k8s.pod.uid"):
        raise ComponentError(
            what,
            "It has no k8s.pod.uid: the agent found no container for the request's cgroup.",
            f"See what it says: {cluster.shown} logs daemonset/agents --container=agent.",
        )
    if collector is None:
        raise ComponentError(
            what,
            f"Its k8s.pod.uid is {origin['k8s.pod.uid']}, which is no pod's of the service.",
            "See what your receiver makes of that attribute.",
        )
    raise ComponentError(
        what,
        f"Its k8s.pod.uid is {origin['k8s.pod.uid']}, of which the Collector knew no name (it says "
        f"{origin.get('k8s.pod.name', 'none')}).",
        f"See whether it may list pods: {cluster.shown} logs deployment/{collector}.",
    )


def _pods(cluster: Cluster, service: str) -> list[Pod]:
    return cluster.get("pods", f"--selector={OURS},app.kubernetes.io/name={service}")


def _uids(pods: Sequence[Pod]) -> set[str]:
    return {str(pod["metadata"]["uid"]) for pod in pods}


def _instances(pods: Sequence[Pod]) -> list[str]:
    """What agents call the containers of these pods: by their ids."""
    statuses = [each for pod in pods for each in pod["status"].get("containerStatuses", ())]
    known = [str(each["containerID"]) for each in statuses if each.get("containerID")]
    return [each.rpartition("://")[2] for each in known]


def _has_span(here: Stack, mark: str, origin: dict[str, str]) -> bool:
    """Whether it is there; what it says of where it was made is added to `origin`."""
    keeper = cast(Traces, backends.keeper(here, "traces"))
    found = keeper.origin("url.query", f"proof={mark}")
    origin.update(found or {})
    return found is not None


def _requests(here: Stack, pods: Sequence[Pod]) -> float:
    """Requests for /exec that agents counted in these pods."""
    keeper = cast(Metrics, backends.keeper(here, "metrics"))
    since = time.time_ns() - 3600 * 10**9
    counted = metric("http.server.request.duration")
    found = [
        keeper.counters(instance, counted, since)
        # somebody else's may make no labels of what is said of the resource
        or (keeper.counters(instance, counted, since, UNPROMOTED) if here.urls else ())
        for instance in _instances(pods)
    ]
    return sum(
        one.points[-1][1]
        for each in found
        for one in each
        if one.points and ("http_route", "/exec") in one.labels
    )


def _has_line(here: Stack, pods: Sequence[Pod], since: int) -> bool:
    """An execution in these pods of the program that the request asks for."""
    keeper = cast(Logs, backends.keeper(here, "logs"))
    store = PROGRAMS[here.keeps["logs"]].store
    assert store is not None
    path = store.called("process.executable.path")
    return any(
        name.endswith(path) and str(value).endswith(PROGRAM)
        for instance in _instances(pods)
        for line in keeper.lines(instance, since)
        for name, value in line.labels
    )


def _grew(here: Stack, pods: Sequence[Pod], since: int, spent: list[int]) -> bool:
    """Whether there is more than there was, which is added; who was full has less than at first."""
    spent.append(_profiled(here, pods, since))
    return spent[-1] > min(spent)


def _profiled(here: Stack, pods: Sequence[Pod], since: int) -> int:
    """The CPU time (ns) of these pods in profiles, for each function on a stack; 0: none kept."""
    if "profiles" not in here.keeps:
        return 0
    keeper = cast(Profiles, backends.keeper(here, "profiles"))
    return sum(
        sum(keeper.samples("service.instance.id", instance, since - _AGO_NS).values())
        for instance in _instances(pods)
    )
