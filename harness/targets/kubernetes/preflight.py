"""What is checked before anything is touched, each with a hint; `rollout` asks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import CommandError, InputError, NeedError
from harness.linux import processes
from harness.targets.kubernetes.kubectl import Cluster

OLDEST = (1, 27)
_PERMISSIONS = (
    ("create", "namespaces"), ("patch", "namespaces"),
    ("create", "pods"), ("patch", "pods"), ("delete", "pods"),  # in one a kernel is tried
    ("create", "deployments.apps"), ("create", "daemonsets.apps"),
    ("create", "services"), ("create", "configmaps"), ("create", "secrets"),
    ("create", "networkpolicies.networking.k8s.io"), ("create", "pods/portforward"),
    ("create", "pods/exec"), ("list", "events"), ("list", "nodes"),
    ("list", "deployments.apps"), ("list", "daemonsets.apps"), ("list", "services"),
    ("create", "serviceaccounts"),
)  # fmt: skip
_WIDELY = (
    *((verb, "clusterroles.rbac.authorization.k8s.io") for verb in ("create", "list", "delete")),
    *(
        (verb, "clusterrolebindings.rbac.authorization.k8s.io")
        for verb in ("create", "list", "delete")
    ),
    # nobody may give a right away that he has not
    ("get", "pods"), ("list", "pods"), ("watch", "pods"),
)  # fmt: skip
_MEASURING = (
    ("create", "namespaces"), ("patch", "namespaces"), ("delete", "namespaces"),
    ("create", "pods"), ("patch", "pods"), ("get", "pods"), ("list", "pods"),
    ("delete", "pods"), ("create", "pods/exec"), ("create", "deployments.apps"),
    ("patch", "deployments.apps"), ("delete", "deployments.apps"), ("list", "nodes"),
)  # fmt: skip
_PULLING = (("create", "secrets"), ("patch", "serviceaccounts"))
_HINTS = {
    "kind": "Install kind: https://kind.sigs.k8s.io/docs/user/quick-start/#installation.",
    "helm": "Install Helm 3.14 or later: https://helm.sh/docs/intro/install/.",
    "kubectl": "Install kubectl: https://kubernetes.io/docs/tasks/tools/.",
    "docker": "Install Docker, and let this user reach its daemon.",
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `hint` is what to do where it is not `ok`."""

    what: str
    ok: bool
    found: str = ""
    hint: str = ""


def tools(names: Sequence[str]) -> Iterator[Check]:
    """Whether these programs are on PATH, and docker's daemon answers."""
    for name in names:
        place = shutil.which(name)
        yield Check(f"{name} is installed", place is not None, place or "", _HINTS[name])
    if "docker" in names and shutil.which("docker"):
        done = processes.run(["docker", "version", "--format", "{{.Server.Version}}"], check=False)
        said = (done.stdout or done.stderr).strip()
        yield Check("docker's daemon answers", not done.returncode, said, _HINTS["docker"])


def cluster(where: Cluster, machine: str) -> Iterator[Check]:
    """What a cluster must offer: version, permissions, nodes that can load collectors."""
    version, answers = _version(where)
    yield version
    if answers:
        yield from (may(where, *each) for each in _PERMISSIONS)
        yield from (may(where, *each, everywhere=True) for each in _WIDELY)
        for node in where.get("nodes"):
            yield from _node(node, _ARCHITECTURES.get(machine, machine))


def evaluation(where: Cluster, node: str, machine: str, *, secret: bool = False) -> Iterator[Check]:
    """What an evaluation on this node needs: version, permissions, the node itself.

    With a `secret` to pull images by, it is brought along.
    """
    version, answers = _version(where)
    yield version
    if answers:
        yield from (may(where, *each) for each in _MEASURING + (_PULLING if secret else ()))
        for each in where.get("nodes", node):
            yield from _node(each, _ARCHITECTURES.get(machine, machine))


def require(checks: Iterator[Check]) -> list[Check]:
    """All of them; NeedError with every hint if one is not met."""
    made = list(checks)
    if bad := [check for check in made if not check.ok]:
        said = " ".join(f"Not met: {c.what}{f' ({c.found})' if c.found else ''}." for c in bad)
        hints = " ".join(dict.fromkeys(check.hint for check in bad if check.hint))
        raise NeedError("The cluster lacks what is needed.", said, hints)
    return made


def context(kubeconfig: str, given: str) -> str:
    """The context to use: the one that is given, or the only one that there is.

    InputError if there are several and none is given, or the one given is not there.
    """
    argv = ["kubectl", *([f"--kubeconfig={kubeconfig}"] if kubeconfig else [])]
    done = processes.run([*argv, "config", "get-contexts", "--output=name"], check=False)
    if done.returncode:
        raise CommandError(
            "The kubeconfig cannot be read.",
            " ".join(done.stderr.split())[-300:],
            "Name another with --kubeconfig.",
        )
    known = done.stdout.split()
    if given in known:
        return given
    if given:
        raise InputError(
            f"There is no context {given!r}.",
            f"There are: {', '.join(known) or 'none'}.",
            "Name one of them with --context.",
        )
    if len(known) != 1:
        raise InputError(
            f"Which cluster is meant? The kubeconfig has {len(known)} contexts.",
            f"They are: {', '.join(known)}." if known else "",
            "Name one: --context." if known else "Name a kubeconfig: --kubeconfig.",
        )
    return str(known[0])


def may(where: Cluster, verb: str, resource: str, *, everywhere: bool = False) -> Check:
    """Whether this user may do that in our namespace, or `everywhere`."""
    more = ["--all-namespaces"] if everywhere else []
    done = where.run("auth", "can-i", verb, resource, *more, check=False)
    allowed = done.stdout.strip().startswith("yes")
    place = "the whole cluster" if everywhere else f"the namespace {where.namespace}"
    hint = f"Ask for a role that may {verb} {resource} in {place}."
    what = f"may {verb} {resource}" + (" in all namespaces" if everywhere else "")
    return Check(what, allowed, "" if allowed else "no", hint)


def _version(where: Cluster) -> tuple[Check, bool]:
    """Whether it is new enough, and whether the API server answers at all."""
    done = where.run("version", "--output=json", check=False, seconds=30.0)
    try:
        server = json.loads(done.stdout)["serverVersion"]
    except (ValueError, KeyError):
        said = " ".join(done.stderr.split())[-300:]
        hint = f"See that `kubectl {' '.join(where.where)} version` answers."
        return Check("the API server answers", False, said, hint), False
    version = tuple(int("".join(filter(str.isdigit, server[key]))) for key in ("major", "minor"))
    oldest = ".".join(map(str, OLDEST))
    return Check(
        f"the API server is {oldest} or later", version >= OLDEST, server["gitVersion"],
        "Take a newer cluster.",
    ), True  # fmt: skip


def _node(node: dict[str, Any], architecture: str) -> Iterator[Check]:
    name, info = node["metadata"]["name"], node["status"]["nodeInfo"]
    system = f"{info['operatingSystem']}/{info['architecture']}, kernel {info['kernelVersion']}"
    ready = any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in node["status"]["conditions"]
    )
    same = (info["operatingSystem"], info["architecture"]) == ("linux", architecture)
    yield Check(f"node {name} is ready", ready, system, f"kubectl describe node {name}.")
    yield Check(
        f"node {name} is Linux on {architecture}", same, system,
        "Agents are built for this machine's architecture; run it from such a machine.",
    )  # fmt: skip
