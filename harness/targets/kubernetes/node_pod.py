"""The pod in which a node side runs: made on a node of a cluster, asked, removed; for `target`,
`node_check` and `programs`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from harness.errors import CommandError, ComponentError, HarnessError
from harness.linux import processes
from harness.linux.procfs import HOST
from harness.targets.base import Tell, answer, arguments
from harness.targets.kubernetes import namespaces, pods
from harness.targets.kubernetes.kubectl import Cluster, labels

NAME = "app.kubernetes.io/name"
POD, SERVICE = "harness-node", "harness-service"
"""What is made for an evaluation, by the label `app.kubernetes.io/name`."""
OWNER = "harness/owner"
READY_SECONDS = 120.0
GONE_SECONDS = 120.0
ASKED_SECONDS = 120.0
MEANWHILE_SECONDS = 10.0
_LOOK_SECONDS = 0.5
_LONGEST_SECONDS = 24 * 3600  # a pod whose owner was killed ends then by itself
_QUESTION_SECONDS = 600  # one that is made for a single question, so much sooner
_PATIENCE_SECONDS = 20.0  # for what may still come, as an image that is pulled again
_FOLDERS = {
    # what a node side changes and reads of its host: cgroups, what collectors look for, the journal
    # of what has to be undone, what runtimes keep of containers
    "cgroups": "/sys/fs/cgroup",
    "kernel": "/sys/kernel",
    "bpf": "/sys/fs/bpf",
    "run": "/run",
}

Tree = dict[str, Any]


def new() -> str:
    """A name that no other pod has."""
    return f"{POD}-{secrets.token_hex(4)}"


def manifest(name: str, node: str, image: str) -> Tree:
    """A pod that does nothing but wait for what is executed in it.

    It is privileged, for the time of an evaluation: it makes cgroups, loads programs and reads
    what every process of its node does. `/run` is the node's own, so that runs on one node know of
    each other and can undo what one left that was killed.
    """
    mounts = [{"name": key, "mountPath": path} for key, path in _FOLDERS.items()]
    volumes: list[Tree] = [
        {"name": key, "hostPath": {"path": path}} for key, path in _FOLDERS.items()
    ]
    container = {
        "name": "node",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "securityContext": {"privileged": True, "runAsUser": 0},
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": labels({NAME: POD}),
            "annotations": {OWNER: owner()},
        },
        "spec": {
            "nodeName": node,
            "hostPID": True,
            "hostNetwork": True,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "activeDeadlineSeconds": _LONGEST_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [container],
            "volumes": volumes,
        },
    }


def execute(cluster: Cluster, pod: str, *words: str, container: str = "node") -> list[str]:
    """The command that runs a node in the pod, with its stdin and stdout."""
    argv = ["kubectl", *cluster.where, f"--namespace={cluster.namespace}", "exec", "--stdin", pod]
    return [*argv, f"--container={container}", "--", "python3", "-m", "harness.node", *words]


def asked(
    cluster: Cluster,
    node: str,
    image: str,
    question: str,
    about: Sequence[Any] = (),
    pull_secret: str = "",
) -> Any:
    """What a node answers in a pod that is made there for this one question."""
    pod = new()
    made = manifest(pod, node, image)
    made["spec"]["activeDeadlineSeconds"] = _QUESTION_SECONDS
    if pull_secret:
        made["spec"]["imagePullSecrets"] = [{"name": pull_secret}]
    cluster.apply(made)
    try:
        words = f"--field-selector=metadata.name={pod}"
        await_ready(cluster, words, f"The pod that asks {node}")
        argv = execute(cluster, pod, *arguments(question, about))
        return answer(question, processes.run(argv, check=False, timeout=ASKED_SECONDS))
    finally:
        remove(cluster, f"pod/{pod}")


def is_running(cluster: Cluster, pod: str) -> bool:
    """Whether it is there and ready."""
    return any(map(pods.is_ready, cluster.get("pod", pod)))


def await_ready(
    cluster: Cluster,
    selector: str,
    what: str,
    meanwhile: Callable[[], None] = lambda: None,
    *,
    seconds: float = READY_SECONDS,
    patience: float = _PATIENCE_SECONDS,
) -> Tree:
    """The one pod of this selector, once it is ready; ComponentError if it cannot become so.

    It is given so many `seconds`, and one that is stuck the `patience`.
    """
    until, told = time.monotonic() + seconds, time.monotonic()
    since: dict[str, float] = {}
    while True:
        found = cluster.get("pods", selector)
        if ready := [pod for pod in found if pods.is_ready(pod)]:
            return ready[0]
        now = time.monotonic()
        if now - told > MEANWHILE_SECONDS:
            meanwhile()
            told = now
        for trouble in pods.troubles(found):
            begun = since.setdefault(f"{trouble.pod}/{trouble.reason}", now)
            if trouble.kind == "crash" or now - begun > patience:
                raise pods.failure(cluster, trouble)
        if now > until:
            raise ComponentError(
                f"{what} is not ready after {seconds:.0f} s.",
                _state(found),
                f"{cluster.shown} describe pods says more.",
            )
        time.sleep(_LOOK_SECONDS)


def owner() -> str:
    """This process, on this host: who asks for a pod, and removes it."""
    return json.dumps([socket.gethostname(), os.getpid(), HOST.started(os.getpid())])


def is_orphan(item: Tree) -> bool:
    """Whether the process that made it was of this host, and has ended without removing it."""
    with contextlib.suppress(ValueError, TypeError):
        host, pid, started = json.loads(item["metadata"].get("annotations", {}).get(OWNER, ""))
        return bool(host == socket.gethostname() and HOST.started(pid) != started)
    return False


def remove_orphans(cluster: Cluster) -> None:
    """Remove what was made for evaluations and questions whose process was killed on this host."""
    found = cluster.get("pods,deployments.apps", f"--selector={NAME} in ({POD},{SERVICE})")
    for item in filter(is_orphan, found):
        remove(cluster, f"{item['kind'].lower()}/{item['metadata']['name']}")


def undo_orphans(
    cluster: Cluster, what: str, label: str, undo: Callable[[Cluster, Tree], None], tell: Tell
) -> None:
    """Undo what evaluations that were killed on this host did to what is not theirs, anywhere.

    What cannot be undone is told: that of another team may not be ours to change.
    """
    found: list[Tree] = []
    with contextlib.suppress(CommandError):
        found = cluster.get(what, "--all-namespaces", f"--selector={label}")
    for each in filter(is_orphan, found):
        name, namespace = each["metadata"]["name"], each["metadata"]["namespace"]
        try:
            undo(replace(cluster, namespace=namespace), each)
        except (HarnessError, LookupError, TypeError, ValueError) as error:
            tell(
                f"{namespace}/{name} is as an evaluation left it that was killed, and could not be "
                f"put back: {error}"
            )


def remove(cluster: Cluster, *what: str) -> None:
    """Remove these objects and what they own, and wait until it is gone; fine where it is."""
    if what:
        wait = ("--ignore-not-found", "--cascade=foreground", "--wait")
        words = ("delete", *what, *wait, f"--timeout={GONE_SECONDS:.0f}s")
        cluster.run(*words, seconds=GONE_SECONDS + 30)


def remove_namespace(cluster: Cluster) -> None:
    """Remove the namespace of evaluations, unless another one uses it or it is another's."""
    if not namespaces.is_ours(cluster, namespaces.EVALUATION):
        return
    if not pods.current(cluster.get("pods", f"--selector={NAME}={POD}")):
        with contextlib.suppress(CommandError):  # another evaluation may remove it at this moment
            remove(cluster, f"namespace/{cluster.namespace}")


def _state(found: Sequence[Tree]) -> str:
    if not found:
        return "It was never made."
    said = []
    for pod in found:
        status = pod.get("status", {})
        said.append(f"{pod['metadata']['name']} is {status.get('phase', 'unknown')}")
    return f"{'; '.join(said)}."
