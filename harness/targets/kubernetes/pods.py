"""Why pods are not ready, in sentences; `helm` asks while it waits, `condition` for the status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import ComponentError
from harness.targets.kubernetes.kubectl import OURS, Cluster

_HOPELESS = {
    "ErrImagePull": "image", "ImagePullBackOff": "image", "InvalidImageName": "image",
    "ErrImageNeverPull": "image", "CreateContainerConfigError": "configuration",
    "CreateContainerError": "container", "RunContainerError": "container",
    "CrashLoopBackOff": "crash",
}  # fmt: skip
_NEXT = {
    "image": "Put the image where the nodes reach it, or into this machine's docker, and run "
    "the command again.",
    "configuration": "Its Secret or ConfigMap is missing: make it; ours are made by `harness up`.",
    "container": "The node's container runtime refuses it; its kubelet's log says more.",
    "crash": "What it said last is above; the whole: {logs}",
    "place": "Give the cluster room (CPU, memory, a node without taints), then run it again.",
    "volume": "Somebody has to make its volume: kubectl get persistentvolumes,storageclasses; "
    "another class is named with --storage-class.",
}
_CRASHES = 3
"""Restarts after which a container is given up: an agent may wait for the first pods' cgroup."""


@dataclass(frozen=True)
class Trouble:
    """A pod that will not become ready by itself."""

    component: str
    pod: str
    container: str
    kind: str
    reason: str
    message: str


def troubles(pods: Sequence[dict[str, Any]]) -> Iterator[Trouble]:
    """Of these pods, as the API has them, those that are stuck."""
    for pod in pods:
        name = pod["metadata"]["name"]
        component = pod["metadata"].get("labels", {}).get("app.kubernetes.io/name", name)
        status = pod.get("status", {})
        for condition in status.get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
                said = condition.get("message", "")
                kind = "volume" if "persistent" in said.lower() else "place"
                yield Trouble(component, name, "", kind, "Unschedulable", said)
        statuses = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
        for one in statuses:
            waiting = one.get("state", {}).get("waiting", {})
            hopeless = _HOPELESS.get(waiting.get("reason", ""))
            restarts = one.get("restartCount", 0)
            if hopeless is None or (hopeless == "crash" and restarts < _CRASHES):
                continue
            how = last_end(one)
            said = [waiting.get("message", ""), how and f"it ended last with {how}"]
            trouble = "; ".join(filter(None, said))
            yield Trouble(component, name, one["name"], hopeless, waiting["reason"], trouble)


def last_end(status: dict[str, Any]) -> str:
    """How a container ended the last time, such as `137, OOMKilled`, or nothing."""
    last = status.get("lastState", {}).get("terminated", {})
    return f"{last.get('exitCode')}, {last.get('reason', 'Error')}" if last else ""


def failure(cluster: Cluster, trouble: Trouble) -> ComponentError:
    """The error that names the component, the pod, its last events and lines, and what to do."""
    said = [trouble.message or trouble.reason]
    if trouble.container:
        told = events(cluster, trouble.pod)
        said += [f"Events: {'; '.join(told)}."] if told else []
    if lines := _lines(cluster, trouble):
        said += [f"It said last: {lines}"]
    logs = f"{cluster.shown} logs {trouble.pod} -c {trouble.container} --previous"
    where = f" (container {trouble.container})" if trouble.container else ""
    return ComponentError(
        f"{trouble.component} does not start: its pod {trouble.pod}{where} is in {trouble.reason}.",
        " ".join(said),
        _NEXT[trouble.kind].format(logs=logs),
    )


def events(cluster: Cluster, pod: str, most: int = 3) -> list[str]:
    """The last warnings about a pod."""
    words = (f"--field-selector=involvedObject.name={pod},type=Warning", "--sort-by=.lastTimestamp")
    found = cluster.get("events", *words)
    said = [" ".join(str(each.get("message", "")).split())[:300] for each in found]
    return list(dict.fromkeys(said))[-most:]


def ours(cluster: Cluster) -> list[dict[str, Any]]:
    """The pods of the roll-out that count, see `current`."""
    return current(cluster.get("pods", f"--selector={OURS}"))


def current(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of these pods all but those that have ended and are kept for who wants to look at them.

    Nobody starts one again that was evicted, or whose node was shut down: a Deployment has another
    in its place. A DaemonSet and a StatefulSet remove theirs first: until then they lack one.
    """
    return [each for each in found if not _is_over(each)]


def selector(workload: dict[str, Any]) -> list[str]:
    """kubectl's words for the pods that a workload may own; `owner` tells which it does."""
    labels = workload["spec"]["selector"].get("matchLabels", {})
    chosen = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return [f"--selector={chosen}"] if chosen else []


def owner(item: dict[str, Any]) -> str:
    """The name of what made it; empty if nobody did."""
    owners = item["metadata"].get("ownerReferences", ())
    return next((str(each["name"]) for each in owners if each.get("controller")), "")


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether all its containers are ready, and it is not on its way out."""
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _is_over(pod: dict[str, Any]) -> bool:
    if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
        return False
    owners = pod["metadata"].get("ownerReferences", ())
    return not any(
        each.get("controller") and each.get("kind") in ("DaemonSet", "StatefulSet")
        for each in owners
    )


def _lines(cluster: Cluster, trouble: Trouble) -> str:
    if trouble.kind != "crash":
        return ""
    words = ("logs", trouble.pod, f"--container={trouble.container}", "--tail=5", "--previous")
    done = cluster.run(*words, check=False)
    return " ".join(done.stdout.split())[-500:]
