"""Options of DaemonSets, turned by commands in their pod on the measured node; `target` calls it.

The pod stays as it is. What puts an option back is kept in the pod's annotations, by which the next
evaluation turns back what one left that was killed; a pod that starts anew has none, and is what
its configuration says.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import ComponentError, InputError, NeedError
from harness.targets.base import Tell
from harness.targets.kubernetes import daemonsets, node_pod
from harness.targets.kubernetes.daemonsets import Meanwhile
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.node_pod import OWNER
from harness.wire.subject import Option

TURNED, UNDO = "harness/turned", "harness/undo"
COMMAND_SECONDS = 50.0  # less than the node's lease: nobody is told anything meanwhile
SETTLED_SECONDS = 60.0  # that somebody else's change may take
TURN_SECONDS = 300.0  # a node's endpoints may all be compiled and loaded anew
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
    was = _await(pod, daemonset, option, (True, False), SETTLED_SECONDS, meanwhile)
    _note(pod, daemonset, option, was)
    if was != on:
        meanwhile()
        pod.run(option.container, option.on if on else option.off)
        meanwhile()
        _await(pod, daemonset, option, (on,), TURN_SECONDS, meanwhile)
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


def restore_orphans(cluster: Cluster, tell: Tell) -> None:
    """Put back what evaluations turned that were killed on this host, where all may be listed."""

    def undo(there: Cluster, pod: Tree) -> None:
        _undo(_Pod(there, pod))

    node_pod.undo_orphans(cluster, "pods", TURNED, undo, tell)


def _pod(cluster: Cluster, node: Tree, daemonset: str, meanwhile: Meanwhile) -> _Pod:
    there = replace(cluster, namespace=daemonset.partition("/")[0])
    return _Pod(there, daemonsets.running(cluster, node, daemonset, meanwhile)[0])


def _is_on(said: str, option: Option) -> bool | None:
    """None if it is neither on nor off: in parts, or on its way."""
    found = (re.search(each, said, re.MULTILINE) for each in (option.is_on, option.is_off))
    on, off = map(bool, found)
    return on if on != off else None


def _await(
    pod: _Pod, daemonset: str, option: Option, wanted: tuple[bool, ...], seconds: float,
    meanwhile: Meanwhile,
) -> bool:  # fmt: skip
    """Which of them it is, once it is one."""
    begun = time.monotonic()
    while (found := _is_on(said := pod.run(option.container, option.state), option)) not in wanted:
        if time.monotonic() - begun > seconds:
            word = " or ".join("on" if each else "off" for each in wanted)
            raise ComponentError(
                f"An option of {daemonset} is not {word} within {seconds:.0f} s.",
                f"In {pod.name} it says of itself: {' '.join(said.split())[-300:] or 'nothing'}.",
                "One of which a part is on could not be put back: have all of it on or off. Else "
                f"{pod.there.shown} logs {pod.name} -c {option.container} may say why.",
            )
        meanwhile()
        time.sleep(_LOOK_SECONDS)
    assert found is not None
    return found


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
    if any([option.container, list(each)] in kept for each in (option.on, option.off)):
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
