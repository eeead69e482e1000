"""DaemonSets of a cluster, moved to the measured node and away from it and nowhere else.

Their pods on other nodes are not touched: the update strategy is OnDelete meanwhile, so that a
changed template restarts none, and when the template is what it was, they are what it asks for.
What it was before is kept in an annotation, by which the next evaluation puts back what one left
that was killed. `target` and `options` call it.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from harness.errors import ComponentError, InputError, NeedError
from harness.targets.base import Tell
from harness.targets.kubernetes import node_pod, pods
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.node_pod import OWNER

MOVED, BEFORE = "harness/moved", "harness/before"
SECONDS = 180.0
_HOSTNAME = "kubernetes.io/hostname"
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 20.0

Tree = dict[str, Any]
Meanwhile = Callable[[], None]


def away(cluster: Cluster, node: Tree, daemonset: str, meanwhile: Meanwhile) -> list[str]:
    """Have none of its pods on the node; the ids of the containers that were there.

    InputError if there is no such DaemonSet, NeedError if another evaluation moves it.
    """
    there, name = _place(cluster, daemonset)
    found = _get(there, name)
    _require_free(daemonset, found)
    if MOVED not in found["metadata"].get("labels", {}) or node_pod.is_orphan(found):
        found = _note(there, found)
    before = _on(there, found, node)
    hostname = node["metadata"]["labels"].get(_HOSTNAME, node["metadata"]["name"])
    _patch(there, name, _affinity(found, without(_original(found)["affinity"], hostname)))
    _await(there, found, node, meanwhile, lambda on_it: not on_it)
    return [each for pod in before for each in containers(pod)]


def here(cluster: Cluster, node: Tree, daemonset: str, meanwhile: Meanwhile) -> list[str]:
    """Have it run on the node as it did; the ids of its containers there, which are ready."""
    there, name = _place(cluster, daemonset)
    found = _get(there, name)
    if MOVED in found["metadata"].get("labels", {}):
        _patch(there, name, _affinity(found, _original(found)["affinity"]))
    on_it = _await(there, found, node, meanwhile, _are_ready)
    return [each for pod in on_it for each in containers(pod)]


def running(cluster: Cluster, node: Tree, daemonset: str, meanwhile: Meanwhile) -> list[Tree]:
    """Its pods on the node, one or more and all ready; it is left as it is."""
    there, name = _place(cluster, daemonset)
    return _await(there, _get(there, name), node, meanwhile, _are_ready)


def restore(cluster: Cluster, daemonset: str) -> None:
    """Put it back to what it was before it was moved."""
    there, name = _place(cluster, daemonset)
    found = _get(there, name)
    if MOVED in found["metadata"].get("labels", {}) and _is_mine(found):
        _restore(there, found)


def restore_orphans(cluster: Cluster, tell: Tell) -> None:
    """Put back what evaluations moved that were killed on this host, where all may be listed."""
    node_pod.undo_orphans(cluster, "daemonsets.apps", MOVED, _restore, tell)


def without(affinity: Tree | None, hostname: str) -> Tree:
    """The same affinity on every node but this one."""
    changed: Tree = copy.deepcopy(affinity or {})
    required = changed.setdefault("nodeAffinity", {}).setdefault(
        "requiredDuringSchedulingIgnoredDuringExecution", {"nodeSelectorTerms": []}
    )
    # any of the terms will do for a pod: each has to exclude the node
    required["nodeSelectorTerms"] = terms = required["nodeSelectorTerms"] or [{}]
    for term in terms:
        expression = {"key": _HOSTNAME, "operator": "NotIn", "values": [hostname]}
        term["matchExpressions"] = [*term.get("matchExpressions", ()), expression]
    return changed


def _place(cluster: Cluster, daemonset: str) -> tuple[Cluster, str]:
    namespace, _, name = daemonset.partition("/")
    return replace(cluster, namespace=namespace), name


def _get(there: Cluster, name: str) -> Tree:
    if found := there.get("daemonsets.apps", name):
        return found[0]
    raise InputError(
        f"There is no DaemonSet {name!r} in the namespace {there.namespace!r}.",
        next_step=f"{there.shown} get daemonsets lists them.",
    )


def _is_mine(found: Tree) -> bool:
    return bool(found["metadata"].get("annotations", {}).get(OWNER) == node_pod.owner())


def _require_free(daemonset: str, found: Tree) -> None:
    is_moved = MOVED in found["metadata"].get("labels", {})
    if is_moved and not _is_mine(found) and not node_pod.is_orphan(found):
        who = found["metadata"].get("annotations", {}).get(OWNER, "?")
        raise NeedError(
            f"The DaemonSet {daemonset} is being moved by another evaluation: {who}.",
            "That is host, process and its start. Two would undo what the other one does.",
            f"Wait until it has ended; if it was killed on another host, put back by hand what "
            f"the annotation {BEFORE} says, and take the label {MOVED} off.",
        )


def containers(pod: Tree) -> list[str]:
    """The ids of those that run: sidecars may be init containers that go on."""
    status = pod.get("status", {})
    begun = status.get("initContainerStatuses", [])
    going_on = [each for each in begun if "running" in each.get("state", {})]
    return [each["containerID"] for each in (*going_on, *status.get("containerStatuses", ()))
            if each.get("containerID")]  # fmt: skip


def _are_ready(on_it: list[Tree]) -> bool:
    return bool(on_it) and all(map(pods.is_ready, on_it))


def _on(there: Cluster, found: Tree, node: Tree) -> list[Tree]:
    """Its pods on the node."""
    where, name = node["metadata"]["name"], found["metadata"]["name"]
    words = (*pods.selector(found), f"--field-selector=spec.nodeName={where}")
    return [pod for pod in there.get("pods", *words) if pods.owner(pod) == name]


def _original(found: Tree) -> Tree:
    kept: Tree = json.loads(found["metadata"]["annotations"][BEFORE])
    return kept


def _note(there: Cluster, found: Tree) -> Tree:
    """Keep what it was, and let a changed template restart no pod.

    What a killed evaluation kept stays: that is what it was.
    """
    kept = {
        "strategy": found["spec"].get("updateStrategy"),
        "affinity": found["spec"]["template"]["spec"].get("affinity"),
    }
    if MOVED in found["metadata"].get("labels", {}):
        kept = _original(found)
    noted = {
        "metadata": {
            "labels": {MOVED: "true"},
            "annotations": {BEFORE: json.dumps(kept), OWNER: node_pod.owner()},
        },
        "spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}},
    }
    name = found["metadata"]["name"]
    there.run("patch", "daemonset.apps", name, "--type=merge", f"--patch={json.dumps(noted)}")
    return _get(there, name)


def _restore(there: Cluster, found: Tree) -> None:
    """First the template, which is then what every pod was made from; then the strategy."""
    kept, name = _original(found), found["metadata"]["name"]
    _patch(there, name, _affinity(found, kept["affinity"]))
    gone = {
        "metadata": {"labels": {MOVED: None}, "annotations": {BEFORE: None, OWNER: None}},
        "spec": {"updateStrategy": kept["strategy"]},
    }
    there.run("patch", "daemonset.apps", name, "--type=merge", f"--patch={json.dumps(gone)}")


def _affinity(found: Tree, wanted: Tree | None) -> list[Tree]:
    """The patch that gives its template this affinity; a merge would keep what it has more."""
    path = "/spec/template/spec/affinity"
    if wanted is not None:
        return [{"op": "add", "path": path, "value": wanted}]
    has = found["spec"]["template"]["spec"].get("affinity") is not None
    return [{"op": "remove", "path": path}] if has else []


def _patch(there: Cluster, name: str, operations: Sequence[Tree]) -> None:
    if operations:
        said = f"--patch={json.dumps(list(operations))}"
        there.run("patch", "daemonset.apps", name, "--type=json", said)


def _await(
    there: Cluster,
    found: Tree,
    node: Tree,
    meanwhile: Meanwhile,
    holds: Callable[[list[Tree]], bool],
) -> list[Tree]:
    """Its pods on the node, once they are as they should be; ComponentError if they never are."""
    name, where = found["metadata"]["name"], node["metadata"]["name"]
    begun = told = time.monotonic()
    while True:
        on_it = _on(there, found, node)
        if holds(on_it):
            return on_it
        now = time.monotonic()
        for trouble in pods.troubles(on_it):
            if now - begun > _PATIENCE_SECONDS:
                raise pods.failure(there, trouble)
        if now - begun > SECONDS:
            raise ComponentError(
                f"The DaemonSet {there.namespace}/{name} is not where it should be on {where}.",
                f"Its pods there after {SECONDS:.0f} s: "
                f"{', '.join(pod['metadata']['name'] for pod in on_it) or 'none'}.",
                f"{there.shown} describe daemonset {name} says more; see that nothing else, such "
                "as a GitOps controller, puts its template back.",
            )
        if now - told > node_pod.MEANWHILE_SECONDS:
            meanwhile()
            told = now
        time.sleep(_LOOK_SECONDS)
