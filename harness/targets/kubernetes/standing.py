"""A cluster of kind that is there already, as a plan finds it; for `rollout` and `production`."""

from __future__ import annotations

from harness.targets.kubernetes import chosen, kind, preflight
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind, Wanted
from harness.targets.kubernetes.kubectl import Cluster

ABSENT, OTHER, SAME = "absent", "other", "same"
"""What of a stack that is asked for is there: nothing, another one or not all of it, just it."""


def found(options: Options) -> Cluster | None:
    """The one that `up` would take; None: it would make one, or a program to look with is missing.

    NeedError or InputError where `up` would refuse the one that is there.
    """
    if options.target != "kind" or not _can_look(options):
        return None
    own = _own(options)
    if own.is_whole:
        own.require_same(options.nodes, options.image)
        return kind.cluster(own, options.namespace)
    if own.exists():
        own.require_ours()
    return None


def configuration(options: Options, there: Cluster | None) -> dict[str, object]:
    """kind's configuration of it, or of a new one."""
    own = _own(options)
    wanted = Wanted(options.name, options.nodes or Wanted.nodes, options.image)
    return own.configuration(own.noted if there else wanted)


def stack(*, is_new: bool, is_there: bool) -> str:
    """What of it is there, in a word."""
    if is_new:
        return ABSENT
    return SAME if is_there else OTHER


def _own(options: Options) -> Kind:
    return Kind(options.name, chosen.home(options.name))


def _can_look(options: Options) -> bool:
    return all(check.ok for check in preflight.tools(chosen.tools(options)))
