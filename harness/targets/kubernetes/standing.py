"""A cluster that is there already, as a plan finds it; for `rollout` and `production`."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.targets.kubernetes import chosen, kind, namespaces, preflight
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind, Wanted
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.preflight import Check

ABSENT, OTHER, SAME = "absent", "other", "same"
"""What of a stack that is asked for is there: nothing, another one or not all of it, just it."""


def found(options: Options, purpose: str) -> tuple[Cluster | None, list[Check]]:
    """The one that `up` would take, and a check that failed where it cannot be asked.

    None: `up` would make one, or there is nothing to ask it with. `purpose` is what our namespace
    in it is for. NeedError or InputError where `up` would refuse what is there.
    """
    there: Cluster | None = None
    if not _can_look(options):
        return None, []
    if options.target == "existing":
        try:  # a plan is made without it, too: for who fetches images where it is not reached
            there = chosen.existing(options)
            there.get("namespace", there.namespace)
        except HarnessError as error:
            return None, [unasked(error)]
    elif options.target == "kind":
        there = _of_kind(options)
    if there is not None:
        namespaces.require(there, "--namespace", purpose)
    return there, []


def unasked(error: HarnessError) -> Check:
    """The check that a cluster which does not answer does not meet."""
    return Check("the cluster can be asked", False, error.what, error.next_step)


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


def _of_kind(options: Options) -> Cluster | None:
    own = _own(options)
    if own.is_whole:
        own.require_same(options.nodes, options.image)
        return kind.cluster(own, options.namespace)
    if own.exists():
        own.require_ours()
    return None


def _own(options: Options) -> Kind:
    return Kind(options.name, chosen.home(options.name))


def _can_look(options: Options) -> bool:
    return all(check.ok for check in preflight.tools(chosen.tools(options)))
