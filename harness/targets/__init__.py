"""Where a node side runs and how it is reached; the only package that knows ssh and Kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.errors import InputError
from harness.targets.base import Channel, Target
from harness.targets.local import Local
from harness.targets.ssh import Ssh

__all__ = ["TARGETS", "Channel", "Target", "target"]

TARGETS: Mapping[str, Callable[[str], Target]] = {"local": lambda _: Local(), "ssh": Ssh}
"""By what stands before the colon; each is called with what stands behind it."""


def target(given: str) -> Target:
    """The target of this name; InputError if there is none such."""
    kind, _, rest = given.partition(":")
    if kind not in TARGETS:
        raise InputError(
            f"There is no target {given!r}.", next_step=f"Known are: {', '.join(TARGETS)}."
        )
    return TARGETS[kind](rest)
