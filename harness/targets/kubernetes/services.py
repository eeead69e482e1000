"""The services that are measured in a cluster: ours as Deployments, others' where they run.

Both end in a container on the measured node, by its id, and the address of its pod; for `target`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from harness.errors import InputError, WorkloadError
from harness.targets.kubernetes import node_pod, pods
from harness.targets.kubernetes.kubectl import Cluster, labels
from harness.targets.kubernetes.node_pod import NAME, OWNER, SERVICE
from harness.wire.spec import Found, Spawn

HOST, PORT = "0.0.0.0", 8080
HOME = "/opt/harness"
SHIPPED = {"go", "flask", "plain"}
"""What our image can run: it has neither Java nor Node.js."""
POD_HOST = "pod"
"""In a URL it stands for the address of the pod, which is known once there is one."""
_KINDS = ("deployment", "statefulset", "daemonset")

Tree = dict[str, Any]


def check(asked: Spawn | Found) -> None:
    """InputError if such a service cannot be measured in a cluster."""
    if isinstance(asked, Found):
        if asked.workload:
            _split(asked.workload)
        return
    if asked.url:
        raise InputError(
            "--command starts a program on a machine; in a cluster programs run in pods.",
            next_step="Deploy it, and name it: --workload NAMESPACE/DEPLOYMENT.",
        )
    if asked.name not in SHIPPED:
        raise InputError(
            f"The workload {asked.name!r} cannot be measured in a cluster.",
            "Our image has no Java and no Node.js.",
            f"Take one of {', '.join(sorted(SHIPPED))}, or name a Deployment of yours: "
            "--workload NAMESPACE/DEPLOYMENT.",
        )


@contextlib.contextmanager
def ours(
    cluster: Cluster,
    node: str,
    image: str,
    asked: Spawn,
    name: str,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Found]:
    """A Deployment of one of the services that ship, pinned to the node: a new pod, gone after."""
    cluster.apply(deployment(name, node, image, asked))
    try:
        selector = f"--selector=app.kubernetes.io/instance={name}"
        pod = node_pod.await_ready(cluster, selector, f"The service {asked.name!r}", meanwhile)
        yield found(asked.name, f"http://{POD_HOST}:{PORT}", pod)
    finally:
        node_pod.remove(cluster, f"deployment/{name}")


def theirs(cluster: Cluster, node: str, asked: Found) -> Found:
    """The container of a workload that runs, on this node; it is left as it is.

    InputError if there is no such workload, or none of its pods is ready on the node.
    """
    namespace, kind, name = _split(asked.workload)
    there = replace(cluster, namespace=namespace)
    for each in (kind,) if kind else _KINDS:
        if items := there.get(each, name):
            break
    else:
        raise InputError(
            f"There is no workload {name!r} in the namespace {namespace!r}.",
            f"Looked for: {', '.join((kind,) if kind else _KINDS)}.",
            f"{there.shown} get deployments lists them.",
        )
    all_of_it = [
        pod
        for pod in there.get("pods", *pods.selector(items[0]))
        if pods.owner(pod) in (name, *_made_by(there, name))
    ]
    here = [pod for pod in all_of_it if pod["spec"].get("nodeName") == node]
    ready = [pod for pod in here if pods.is_ready(pod)]
    if not ready:
        raise InputError(
            f"No pod of {asked.workload} is ready on the node {node}.",
            f"Its pods are on {_places(all_of_it)}.",
            "Name the node of one of them in --target: node=NODE.",
        )
    if len(ready) > 1:
        raise InputError(
            f"{len(ready)} pods of {asked.workload} are on the node {node}.",
            "Each is a service of its own, and load would go to one of them only.",
            "Scale it down to one a node for the time of the measurement.",
        )
    return found(asked.name, asked.url or _first_url(asked.workload, ready[0]), ready[0])


def found(name: str, url: str, pod: Tree) -> Found:
    """How a node finds the container of a pod that serves a URL."""
    parts = urlsplit(url)
    address = str(pod["status"]["podIP"])
    host = f"[{address}]" if ":" in address else address
    if parts.hostname == POD_HOST:
        url = parts._replace(netloc=f"{host}:{parts.port or 80}").geturl()
    container = _serving(pod, parts.port or (443 if parts.scheme == "https" else 80))
    statuses = pod["status"].get("containerStatuses", ())
    for each in statuses:
        if each["name"] == container:
            return Found(name, url, container=each["containerID"])
    raise WorkloadError(
        f"The pod {pod['metadata']['name']} has no container {container!r} any more.",
        next_step="See whether it was replaced at this moment, then resume the run.",
    )


def deployment(name: str, node: str, image: str, asked: Spawn) -> Tree:
    """One of the services that ship as a Deployment of one pod, as confined as any other."""
    own = {NAME: SERVICE, "app.kubernetes.io/instance": name}
    annotations = {OWNER: node_pod.owner()}
    container = {
        "name": "service",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [_filled(word) for word in asked.argv],
        "workingDir": _filled(asked.cwd),
        "env": [{"name": key, "value": _filled(text)} for key, text in asked.environment.items()],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": PORT},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    template = {
        "metadata": {"labels": labels(own)},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "runAsGroup": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels(own), "annotations": annotations},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": own},
            "template": template,
        },
    }


def slug(text: str) -> str:
    """As names in a cluster may be."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


def _split(given: str) -> tuple[str, str, str]:
    """Namespace, kind or nothing, and name."""
    parts = given.split("/")
    if len(parts) == 3 and parts[1] in _KINDS and all(parts):
        return parts[0], parts[1], parts[2]
    if len(parts) == 2 and all(parts):
        return parts[0], "", parts[1]
    raise InputError(
        f"The workload {given!r} cannot be read.",
        next_step="Write NAMESPACE/NAME, or NAMESPACE/deployment/NAME.",
    )


def _first_url(workload: str, pod: Tree) -> str:
    told = [
        port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
        if port.get("protocol", "TCP") == "TCP"
    ]
    if len(told) == 1:
        return f"http://{POD_HOST}:{told[0]}/"
    several = f"They name {', '.join(map(str, told))}." if told else ""
    raise InputError(
        f"The pods of {workload} do not say on which port they answer.",
        several,
        f"Say it: --url http://{POD_HOST}:PORT/.",
    )


def _serving(pod: Tree, port: int) -> str:
    """The container that declares the port, else the first."""
    containers = pod["spec"]["containers"]
    for each in containers:
        if any(one.get("containerPort") == port for one in each.get("ports", ())):
            return str(each["name"])
    return str(containers[0]["name"])


def _made_by(there: Cluster, name: str) -> list[str]:
    """The ReplicaSets of a Deployment, which own its pods."""
    return [
        each["metadata"]["name"]
        for each in there.get("replicasets.apps")
        if pods.owner(each) == name
    ]


def _places(found: list[Tree]) -> str:
    return ", ".join(sorted({pod["spec"].get("nodeName", "no node") for pod in found})) or "no node"


def _filled(word: str) -> str:
    """With what only the image knows, as `node.service` fills it on a machine."""
    said = {"{python}": "python3", "{workloads}": f"{HOME}/workloads", "{host}": HOST,
            "{port}": str(PORT)}  # fmt: skip
    for name, text in said.items():
        word = word.replace(name, text)
    return word
