"""Whether a roll-out has Grafana, which must be had from somewhere; for `rollout` and `packing`.

Nobody has to have its image. Where nothing else is said it is tried: a pod of it on a node, as
confined as in the chart. What is proved of it is `proof`'s.
"""

from __future__ import annotations

import base64
import contextlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import CommandError, HarnessError, InputError, NeedError
from harness.stack import catalog
from harness.targets.kubernetes import node_pod, registry
from harness.targets.kubernetes.kubectl import MANAGER, Cluster

GRAFANA, NONE = "grafana", "none"
KINDS = (GRAFANA, NONE)
TRIAL = "grafana-trial"
"""The pod in which it is tried."""
_SECONDS, _PATIENCE_SECONDS = 300.0, 5.0  # its image may be pulled; that it cannot is soon told
_ENDS_SECONDS = 900  # a pod whose `up` was killed ends by itself
_SAID = 240  # characters of what a cluster says where nobody asked
_NEXT = "--dashboards grafana asks for it and takes nothing less."

Tell = Callable[[str], None]
Tree = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """Whether Grafana is taken, and why; `asked` if a person asked for it, now or when it came."""

    taken: bool
    why: str
    asked: bool = False

    @property
    def kind(self) -> str:
        """As a person says it."""
        return GRAFANA if self.taken else NONE

    @property
    def told(self) -> str:
        """Both, as a sentence."""
        return f"Dashboards: {self.kind}. {self.why}"


def check(asked: str) -> None:
    """InputError unless this may be asked for, or nothing is."""
    if asked not in ("", *KINDS):
        raise InputError(
            f"There are no dashboards {asked!r}.",
            next_step=f"Take --dashboards {' or '.join(KINDS)}, or leave it out.",
        )


def image() -> str:
    """The image of Grafana's project."""
    return catalog.known()[GRAFANA].image


def settled(
    asked: str, release: Mapping[str, Any] | None, carried: Sequence[str] | None
) -> Choice | None:
    """What is known before it is tried; None if it has to be.

    What was `asked` for holds, else what a `release` has that is there; `carried` are the images of
    a bundle, if one is taken. NeedError if that lacks what was asked for.
    """
    carries = carried is not None and image() in carried
    if asked == NONE:
        return Choice(False, "It was asked for.")
    if asked == GRAFANA:
        if carried is not None and not carries:
            raise NeedError(
                f"The bundle has no image of Grafana ({image()}).",
                "Who wrote it had none, or wanted none.",
                "Write it anew: harness bundle FILE --dashboards grafana; or leave that out here.",
            )
        return Choice(True, "It was asked for.", asked=True)
    if release is not None and release["status"] == "deployed":
        taken = GRAFANA in release["components"]
        more = "" if taken else f" {_NEXT}"
        has = f"The stack that is there has {'it' if taken else 'none'}.{more}"
        return Choice(taken, has, asked=taken and GRAFANA in release["asked"])
    if carried is not None and not carries:
        return Choice(False, "The bundle lacks its image.")
    return None


def tried(cluster: Cluster, component: Tree, pull_secret: str = "") -> Choice:
    """Start this component in a pod of its own, and take Grafana if that becomes ready.

    It is as confined as in the chart, has none of the stack's files and no user who may log in.
    """
    try:
        node_pod.remove(cluster, f"pod/{TRIAL}")  # of an `up` that was killed
        cluster.apply(manifest(component, pull_secret))
        node_pod.await_ready(
            cluster, f"--field-selector=metadata.name={TRIAL}", "The pod in which Grafana is tried",
            seconds=_SECONDS, patience=_PATIENCE_SECONDS,
        )  # fmt: skip
    except HarnessError as error:
        # runtimes tell a failed pull three times over; who asks for Grafana is told all of it
        why = textwrap.shorten(error.why, _SAID, placeholder=" ...")
        return Choice(False, f"It cannot be had: {error.what} {why} {_NEXT}")
    finally:
        with contextlib.suppress(CommandError):  # it ends by itself
            node_pod.remove(cluster, f"pod/{TRIAL}")
    return Choice(True, f"{component['image']} could be had, and started.")


def manifest(component: Tree, pull_secret: str = "") -> Tree:
    """The pod in which it is tried; it is not labelled as a part of the stack."""
    told = {k: v for k, v in component["env"].items() if "PASSWORD" not in k}
    told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] = "true"
    container = {
        "name": GRAFANA,
        "image": component["image"],
        "imagePullPolicy": "IfNotPresent",
        "args": component["args"],
        "env": [{"name": key, "value": value} for key, value in sorted(told.items())],
        "readinessProbe": {"httpGet": component["ready"], "periodSeconds": 1, "timeoutSeconds": 5},
        "resources": {"limits": {"memory": f"{component['memory']}Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": component["data"]},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    user = component["user"]
    labels = {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/name": TRIAL}
    spec: Tree = {
        "terminationGracePeriodSeconds": 1,
        "activeDeadlineSeconds": _ENDS_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": name, "emptyDir": {}} for name in ("data", "tmp")],
    }  # fmt: skip
    if pull_secret:
        spec["imagePullSecrets"] = [{"name": pull_secret}]
    metadata = {"name": TRIAL, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def gathered(asked: str, prefix: str, tell: Tell) -> bool:
    """Whether the local docker has Grafana's image, which is pulled if it has not.

    NeedError if it was `asked` for and cannot be had; else that is told.
    """
    check(asked)
    if asked == NONE:
        return False
    try:
        registry.gather([image()], tell, prefix)
    except NeedError as error:
        if asked == GRAFANA:
            raise
        tell(f"Grafana is left out: {error.what} {error.why} {_NEXT}")
        return False
    return True


def password(cluster: Cluster) -> str:
    """Its administrator's, out of the Secret that the chart makes; NeedError if there is none."""
    known = catalog.known()[GRAFANA]
    for secret in cluster.get("secret", GRAFANA):
        for value in (secret.get("data") or {}).values():
            return base64.b64decode(value).decode()
    raise NeedError(
        f"{known.title}'s password cannot be read: there is no Secret {GRAFANA}.",
        next_step="Roll out again: harness up makes one.",
    )
