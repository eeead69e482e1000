"""Whether agents' receiver takes what they send, as they say it themselves; for `proof`.

Where the receiver is somebody else's, there is nobody else who has to know.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import ComponentError, HarnessError
from harness.linux import processes
from harness.targets.base import answer, arguments
from harness.targets.kubernetes import node_pod
from harness.targets.kubernetes.kubectl import OURS, Cluster

AGENTS = f"--selector={OURS},app.kubernetes.io/name=agents"
_SECONDS, _PATIENCE_SECONDS, _POLL_SECONDS = 60.0, 20.0, 1.0

Pod = dict[str, Any]
Told = Mapping[str, Mapping[str, Any]]


def spans(cluster: Cluster, pods: Sequence[Pod]) -> int:
    """Spans that the receiver took so far of the agents of these pods' nodes, which flush first.

    HarnessError, with their words, if it does not take what they have.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return sum(int(one["spans"]) for one in _told(cluster, pods))
        except HarnessError:  # a pod may end between being found and being asked
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_SECONDS)


def more(cluster: Cluster, pods: Sequence[Pod], before: int) -> int:
    """How many more it took by now, one at least; ComponentError if none comes."""
    until = time.monotonic() + _SECONDS
    while (found := spans(cluster, pods) - before) <= 0:
        if time.monotonic() > until:
            names = " ".join(each["metadata"]["name"] for each in _agents(cluster, pods)[:1])
            gone = _dropped(_told(cluster, pods))
            raise ComponentError(
                "A request was answered in the cluster, and the receiver took no span of it.",
                f"Agents say of what was dropped: {gone}." if gone else "Agents dropped nothing.",
                f"See what they say: {cluster.shown} logs {names}.",
            )
        time.sleep(_POLL_SECONDS)
    return found


def _told(cluster: Cluster, pods: Sequence[Pod]) -> list[Mapping[str, Any]]:
    """What each collector of these pods' nodes says after it sent all that it had."""
    agents = _agents(cluster, pods)
    return [one for agent in agents for one in _flushed(cluster, agent).values()]


def _agents(cluster: Cluster, pods: Sequence[Pod]) -> list[Pod]:
    """Those of these pods' nodes, without what is on its way out."""
    nodes = {pod["spec"].get("nodeName") for pod in pods}
    found = cluster.get("pods", AGENTS)
    return [
        each
        for each in found
        if each["spec"].get("nodeName") in nodes and "deletionTimestamp" not in each["metadata"]
    ]


def _flushed(cluster: Cluster, agent: Pod) -> Told:
    name, node = agent["metadata"]["name"], agent["spec"]["nodeName"]
    words = node_pod.execute(cluster, name, *arguments("flushed", ()), container="agent")
    told: Told = answer("flushed", processes.run(words, check=False, timeout=_SECONDS))
    if said := [str(each["error"]) for each in told.values() if "error" in each]:
        raise ComponentError(
            f"The agents of {node} cannot send what they have.",
            " ".join(dict.fromkeys(said)),
            "See that pods reach that URL, that it takes OTLP over HTTP, and whether it asks for a "
            "login (--otlp-secret NAME); then run harness up again.",
        )
    return told


def _dropped(told: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How much was dropped, by signal and reason."""
    found = Counter[str]()
    for one in told:
        for signal, reasons in one["dropped"].items():
            found.update({f"{signal} {reason}": number for reason, number in reasons.items()})
    return dict(found)
