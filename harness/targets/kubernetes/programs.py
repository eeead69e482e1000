"""Which BPF programs a cluster's agents hold, and whether nodes keep them; `cli` has it verified.

What is pinned or attached outlives who loaded it, and nobody sees it through the API.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.errors import HarnessError
from harness.linux import processes
from harness.targets.base import Tell, answer, arguments
from harness.targets.kubernetes import chosen, namespaces, node_pod, pods
from harness.targets.kubernetes.acknowledged import AGENTS
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster

_SECONDS = 60.0


@dataclass(frozen=True)
class Held:
    """The ids of the programs that agents hold on a node, or why that is not known."""

    node: str
    image: str
    ids: tuple[int, ...] = ()
    unknown: str = ""


def held(options: Options) -> list[Held]:
    """What agents hold on each node of an existing cluster; machines of ours go as a whole."""
    if options.target != "existing":
        return []
    cluster = chosen.existing(options)
    return [_held(cluster, pod) for pod in cluster.get("pods", AGENTS)]


def left(options: Options, before: Sequence[Held], tell: Tell) -> Iterator[str]:
    """Of those, what nodes still have after the agents are gone; what could not be asked, too."""
    if not before:
        return
    cluster = replace(chosen.existing(options), namespace=namespaces.FOR_EVALUATION)
    namespaces.await_gone(cluster, "--namespace", tell)
    namespaces.make(cluster, "--namespace", namespaces.EVALUATION)
    try:
        node_pod.remove_orphans(cluster)  # of one that was killed
        for each in before:
            yield from _left(cluster, each, tell)
    finally:
        node_pod.remove_namespace(cluster)


def _held(cluster: Cluster, pod: node_pod.Tree) -> Held:
    node, containers = pod["spec"].get("nodeName", "no node"), pod["spec"]["containers"]
    image = str(containers[0]["image"])
    if not pods.is_ready(pod):
        return Held(node, image, unknown="its agents were not ready")
    found: set[int] = set()
    for each in containers:
        words = arguments("programs", ())
        argv = node_pod.execute(cluster, pod["metadata"]["name"], *words, container=each["name"])
        try:
            found |= set(answer("programs", processes.run(argv, check=False, timeout=_SECONDS)))
        except HarnessError as error:
            return Held(node, image, unknown=str(error))
    return Held(node, image, tuple(sorted(found)))


def _left(cluster: Cluster, before: Held, tell: Tell) -> Iterator[str]:
    if before.unknown:
        yield f"Which BPF programs {before.node} had is not known: {before.unknown}"
        return
    tell(f"asking {before.node} whether {len(before.ids)} BPF programs are gone")
    asked = ("programs_left", (list(before.ids),))
    try:
        found = node_pod.asked(cluster, before.node, before.image, *asked)
    except HarnessError as error:
        yield f"{before.node} could not be asked for BPF programs: {error}"
        return
    for program in found:
        yield f"On {before.node} the BPF program {program} is loaded."
