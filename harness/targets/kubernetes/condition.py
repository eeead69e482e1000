"""How a roll-out is: its nodes, pods, release, and the proof made again; for the command status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import HarnessError, SilentError
from harness.stack.config import Stack
from harness.targets.kubernetes import (
    chosen,
    dashboards,
    external,
    helm,
    keepers,
    pods,
    proof,
    storage,
    values,
    workloads,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster


def status(options: Options, *, prove: bool = True) -> dict[str, Any]:
    """The roll-out as it is now: nodes, components, the release, and the proof made again."""
    cluster = chosen.found(options)
    release = helm.state(cluster)
    amiss = workloads.amiss(cluster) if release is not None else []
    whole = release is not None and release["status"] == "deployed" and not amiss
    grafana = release is not None and dashboards.GRAFANA in release["components"]
    own = external.of(release)
    hours = storage.retention(None, release)
    keeps = {} if own else keepers.settled({}, release)
    described = (
        external.stack(own)
        if own
        else values.stack(cluster.context, hours, grafana=grafana, keeps=keeps)
    )
    shows = release is not None and dashboards.GRAFANA in release["asked"]
    asked = proof.ONE if prove else None
    return {
        "dashboards": dashboards.GRAFANA if grafana else dashboards.NONE,
        "keeps": keeps if release is not None else {},
        **told(options, cluster, pods.ours(cluster), whole, described, asked, shows=shows),
        "release": release,
        "amiss": amiss,
    }


def told(
    options: Options,
    cluster: Cluster,
    found: Sequence[dict[str, Any]],
    whole: bool,
    described: Stack,
    asked: proof.Asked | None,
    *,
    shows: bool = True,
) -> dict[str, Any]:
    """Of these pods and their nodes; ready if all is `whole`, which is then proved if so asked.

    What could not be proved is not ready: `unproved` says why. `shown` is what Grafana shows; what
    is amiss there counts only if it was asked for (`shows`), else `unshown` says it.
    """
    nodes = [_node(each, found) for each in cluster.get("nodes")]
    components = [_pod(each) for each in found]
    ready = whole and bool(components) and all(each["ready"] for each in components)
    answer: dict[str, Any] = {
        "target": options.target, "context": cluster.context, "namespace": cluster.namespace,
        "ready": ready, "nodes": nodes, "pods": components,
        "troubles": [vars(each) for each in pods.troubles(found)],
    }  # fmt: skip
    if asked is not None and ready:
        try:
            proved = proof.prove(cluster, described, asked, shows=shows)
        except HarnessError as error:  # pods may be ready that are not heard
            if isinstance(error, SilentError):
                _note_heard(nodes, error.ages)
            return {**answer, "ready": False, "unproved": str(error)}
        answer["proof"] = {each.signal: [each.backend, each.seconds] for each in proved.arrivals}
        answer["origin"] = dict(proved.origin)
        _note_heard(nodes, proved.heard)
        if proved.acknowledged:
            answer["acknowledged"] = proved.acknowledged
        if proved.shown is not None:
            answer["shown"] = vars(proved.shown)
        if proved.unshown:
            answer["unshown"] = proved.unshown
    return answer


def _note_heard(nodes: Sequence[dict[str, Any]], ages: Mapping[str, float]) -> None:
    for node in nodes:
        if node["name"] in ages:
            node["heard_seconds"] = max(0.0, ages[node["name"]])


def _node(node: dict[str, Any], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    name = node["metadata"]["name"]
    agents = [
        each
        for each in found
        if each["spec"].get("nodeName") == name
        and each["metadata"]["labels"].get("app.kubernetes.io/name") == "agents"
    ]
    conditions = node["status"]["conditions"]
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return {
        "name": name,
        "ready": ready,
        "kernel": node["status"]["nodeInfo"]["kernelVersion"],
        "agents_ready": bool(agents) and all(map(pods.is_ready, agents)),
    }


def _pod(pod: dict[str, Any]) -> dict[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return {
        "component": pod["metadata"]["labels"].get("app.kubernetes.io/name", ""),
        "name": pod["metadata"]["name"],
        "node": pod["spec"].get("nodeName", ""),
        "ready": pods.is_ready(pod),
        "restarts": sum(each.get("restartCount", 0) for each in statuses),
        "last_end": "; ".join(filter(None, map(pods.last_end, statuses))),
        "images": sorted({each["image"] for each in pod["spec"]["containers"]}),
    }
