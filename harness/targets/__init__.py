"""Where a node side runs and how it is reached; the only package that knows ssh and Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from harness.errors import InputError
from harness.targets.base import Channel, Target
from harness.targets.kubernetes.target import in_cluster
from harness.targets.local import Local
from harness.targets.ssh import Ssh
from harness.targets.vm.target import on_machines

__all__ = ["TARGETS", "Channel", "Target", "target"]

TARGETS: Mapping[str, Callable[[str], Target]] = {
    "local": lambda _: Local(),
    "ssh": Ssh,
    "kind": in_cluster("kind"),
    "existing": in_cluster("existing"),
    "vm": on_machines,
}
"""By what stands before the first colon or comma; each is called with what stands behind it."""


def target(given: str) -> Target:
    """The target of this name; InputError if there is none such."""
    kind, rest = [*re.split("[:,]", given, maxsplit=1), ""][:2]
    if kind not in TARGETS:
        raise InputError(
            f"There is no target {given!r}.", next_step=f"Known are: {', '.join(TARGETS)}."
        )
    return TARGETS[kind](rest)
