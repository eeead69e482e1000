"""Options of DaemonSets, turned by commands in their pod on the measured node; `target` calls it.

The pod stays as it is. What puts an option back is kept in the pod's annotations, by which the next
evaluation turns back what one left that was killed; a pod that starts anew has none, and is what
its configuration says.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import CommandError, ComponentError, InputError, NeedError
from harness.targets.kubernetes import daemonsets, node_pod
from harness.targets.kubernetes.daemonsets import Meanwhile
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.node_pod import OWNER
from harness.wire.subject import Option

TURNED, UNDO = "harness/turned", "harness/undo"
COMMAND_SECONDS = 50.0  # less than the node's lease: nobody is told anything meanwhile
TURN_SECONDS = 60.0
_LOOK_SECONDS = 0.5

Tree = dict[str, Any]


@dataclass(frozen=True)
class _Pod:
    """The DaemonSet's pod on the node, in its namespace."""

    there: Cluster
    object: Tree

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def containers(self) -> list[str]:
        return daemonsets.containers(self.object)

    @property
    def is_turned(self) -> bool:
        return TURNED in self.object["metadata"].get("labels", {})

    def run(self, container: str, command: Sequence[str]) -> str:
        """What a command in it prints."""
        words = ("exec", self.name, f"--container={container}", "--", *command)
        return self.there.run(*words, seconds=COMMAND_SECONDS).stdout


def turn(
    cluster: Cluster, node: Tree, daemonset: str, option: Option, on: bool, meanwhile: Meanwhile
) -> tuple[list[str], bool]:
    """Have it on or off; the ids of the pod's containers, and whether it was on before.

    ComponentError if the commands say that it is not as it was told to be, NeedError if another
    evaluation turns it.
    """
    pod = _pod(cluster, node, daemonset, meanwhile)
    was = _is_on(pod, option)
    _note(pod, daemonset, option, was)
    if was != on:
        meanwhile()
        pod.run(option.container, option.on if on else option.off)
        meanwhile()
        _await(pod, daemonset, option, on, meanwhile)
    return pod.containers, was


def look(
    cluster: Cluster, node: Tree, daemonset: str, option: Option, meanwhile: Meanwhile
) -> tuple[list[str], str]:
    """The ids of the pod's containers, and what `seen` prints in it."""
    pod = _pod(cluster, node, daemonset, meanwhile)
    return pod.containers, pod.run(option.container, option.seen)


def restore(cluster: Cluster, node: Tree, daemonset: str, meanwhile: Meanwhile) -> None:
    """Put back what was turned in its pod on the node."""
    try:
        pod = _pod(cluster, node, daemonset, meanwhile)
    except InputError:  # there is no such DaemonSet, so that nothing was turned
        return
    if pod.is_turned and _is_mine(pod):
        _undo(pod)


def restore_orphans(cluster: Cluster) -> None:
    """Put back what evaluations turned that were killed on this host, where all may be listed."""
    found: list[Tree] = []
    with contextlib.suppress(CommandError):
        found = cluster.get("pods", "--all-namespaces", f"--selector={TURNED}")
    for each in filter(node_pod.is_orphan, found):
        with contextlib.suppress(CommandError):  # that of another team may not be ours to patch
            _undo(_Pod(replace(cluster, namespace=each["metadata"]["namespace"]), each))


def _pod(cluster: Cluster, node: Tree, daemonset: str, meanwhile: Meanwhile) -> _Pod:
    there = replace(cluster, namespace=daemonset.partition("/")[0])
    return _Pod(there, daemonsets.running(cluster, node, daemonset, meanwhile)[0])


def _is_on(pod: _Pod, option: Option) -> bool:
    said = pod.run(option.container, option.state)
    return re.search(option.is_on, said, re.MULTILINE) is not None


def _await(pod: _Pod, daemonset: str, option: Option, on: bool, meanwhile: Meanwhile) -> None:
    begun = time.monotonic()
    while _is_on(pod, option) != on:
        if time.monotonic() - begun > TURN_SECONDS:
            raise ComponentError(
                f"An option of {daemonset} is not {'on' if on else 'off'} though it was turned.",
                f"What `{' '.join(option.state)}` prints in {pod.name} "
                f"{'does not match' if on else 'still matches'} {option.is_on!r}.",
                f"{pod.there.shown} logs {pod.name} -c {option.container} may say why.",
            )
        meanwhile()
        time.sleep(_LOOK_SECONDS)


def _is_mine(pod: _Pod) -> bool:
    said = pod.object["metadata"].get("annotations", {})
    return bool(said.get(OWNER) == node_pod.owner())


def _note(pod: _Pod, daemonset: str, option: Option, was: bool) -> None:
    """Keep whose it is and what puts it back; what a killed evaluation kept stays."""
    said = pod.object["metadata"].get("annotations", {})
    if pod.is_turned and not _is_mine(pod) and not node_pod.is_orphan(pod.object):
        raise NeedError(
            f"An option of {daemonset} is being turned by another evaluation: "
            f"{said.get(OWNER, '?')}.",
            "That is host, process and its start. Two would undo what the other one does.",
            f"Wait until it has ended; if it was killed on another host, delete {pod.name}: "
            "a new pod is what its configuration says.",
        )
    kept = json.loads(said[UNDO]) if pod.is_turned else []
    if any(list(each) in [entry[1] for entry in kept] for each in (option.on, option.off)):
        if _is_mine(pod):
            return
    else:
        kept.append([option.container, list(option.on if was else option.off)])
    noted = {
        "metadata": {
            "labels": {TURNED: "true"},
            "annotations": {UNDO: json.dumps(kept), OWNER: node_pod.owner()},
        }
    }
    _patch(pod, noted)


def _undo(pod: _Pod) -> None:
    for container, command in json.loads(pod.object["metadata"]["annotations"][UNDO]):
        pod.run(container, command)
    gone = dict.fromkeys((UNDO, OWNER))
    _patch(pod, {"metadata": {"labels": {TURNED: None}, "annotations": gone}})


def _patch(pod: _Pod, changed: Tree) -> None:
    said = f"--patch={json.dumps(changed)}"
    pod.there.run("patch", "pod", pod.name, "--type=merge", said)
