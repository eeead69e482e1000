"""Whether the agents of each node are heard, which being ready does not say; for `proof`.

They tell of themselves all the time. One question to who keeps the metrics is for all nodes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import cast

from harness.errors import SilentError
from harness.stack import backends
from harness.stack.config import Stack
from harness.stack.questions import Metrics
from harness.targets.kubernetes.acknowledged import AGENTS
from harness.targets.kubernetes.kubectl import Cluster

NODE = "k8s.node.name"
AGE_SECONDS = 60.0  # several times what agents wait between two exports
_SECONDS, _POLL_SECONDS = 60.0, 1.0
_NAMED = 5  # of nodes, in an error


def by_node(cluster: Cluster, here: Stack) -> dict[str, float]:
    """Seconds since each node was heard that has agents; SilentError if one is not."""
    nodes = {str(pod["spec"].get("nodeName", "")) for pod in cluster.get("pods", AGENTS)} - {""}
    keeper = cast(Metrics, backends.keeper(here, "metrics"))
    until = time.monotonic() + _SECONDS
    while True:
        ages = keeper.heard(NODE)
        silent = sorted(node for node in nodes if ages.get(node, math.inf) > AGE_SECONDS)
        if not silent:
            return {node: max(0.0, ages[node]) for node in sorted(nodes)}
        if time.monotonic() > until:
            told = {each: ages[each] for each in nodes & ages.keys()}
            raise _unheard(cluster, silent, len(nodes), told)
        time.sleep(_POLL_SECONDS)


def _unheard(
    cluster: Cluster, silent: list[str], of: int, ages: Mapping[str, float]
) -> SilentError:
    named = ", ".join(silent[:_NAMED]) + (" and others" if silent[_NAMED:] else "")
    return SilentError(
        f"Of the agents of {named} nothing came within {AGE_SECONDS:.0f} s.",
        f"That is {len(silent)} of {of} nodes: they do not send, do not reach the Collector, or "
        "their clocks are late.",
        f"See what they say: {cluster.shown} get pods -o wide, then the logs of the pod agents-... "
        "of such a node.",
        ages=ages,
    )
