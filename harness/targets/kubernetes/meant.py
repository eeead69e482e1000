"""What a roll-out is to bring into a cluster, and what of it is there already; for `rollout`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.stack.config import Stack
from harness.targets.kubernetes import (
    dashboards,
    external,
    helm,
    keepers,
    pods,
    selectors,
    storage,
    values,
    workloads,
)
from harness.targets.kubernetes.archive import Archive
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.dashboards import Choice
from harness.targets.kubernetes.kubectl import Cluster


@dataclass(frozen=True)
class Meant:
    """What is meant in one cluster, and the release that is there `now`.

    `options` have what it keeps unless another is said. Nothing is chosen yet where `choice` is
    None: it has to be tried. `secret` is as `described` has it.
    """

    options: Options
    now: Mapping[str, Any] | None
    choice: Choice | None
    volumes: Mapping[str, str]
    secret: str
    stack: Stack
    given: dict[str, Any]

    def is_there(self, cluster: Cluster) -> bool:
        """Whether all of it is there and ready."""
        if self.choice is None or self.now is None or self.now["status"] != "deployed":
            return False
        same = self.now["fingerprint"] == helm.fingerprint(self.given)
        return same and all(map(pods.is_ready, pods.ours(cluster))) and not workloads.amiss(cluster)


def of(options: Options, cluster: Cluster, image: str, bundle: Archive | None) -> Meant:
    """What is meant in a cluster that is there; it is asked, and not changed."""
    now = helm.lasting(cluster)
    external.require_no_data(options.external, now)
    options = settled(options, now, bundle)
    secret = external.require_secret(cluster, options.external)
    chosen = choice(options, now, bundle)
    volumes = storage.wanted(options.storage, options.storage_class, now)
    if not options.external:
        keepers.require_no_data(options.keepers, now)
    options = replace(options, retention_hours=storage.retention(options.retention_hours, now))
    stack, given = described(options, cluster.context, image, volumes, chosen, secret)
    return Meant(options, now, chosen, volumes, secret, stack, given)


def described(
    options: Options,
    cluster: str,
    image: str,
    volumes: Mapping[str, str],
    chosen: Choice | None,
    secret: str = "",
) -> tuple[Stack, dict[str, Any]]:
    """The stack and the chart's values for it, with Grafana while nothing is chosen yet.

    `secret` is the version of the Secret with which agents send to somebody's own receiver.
    """
    grafana, own = chosen is None or chosen.taken, options.external
    if own:
        stack = external.stack(own)
    else:
        hours = storage.retention(options.retention_hours, None)
        keeps = keepers.settled(options.keepers)
        stack = values.stack(cluster, hours, grafana=grafana, keeps=keeps)
    of_agents = {**selectors.values(options.selectors), **external.agents(own, secret)}
    names = image, options.registry, options.pull_secret
    given = values.values(stack, *names, volumes, of_agents)
    if own:
        given["external"] = external.kept(own)
    if chosen is not None and chosen.asked:
        given["asked"] = [dashboards.GRAFANA]  # `status` has to know it, too
    return stack, given


def settled(options: Options, now: Mapping[str, Any] | None, bundle: Archive | None) -> Options:
    """With who keeps each signal, or that nobody does, where these are components of ours.

    Settled again it is the same, whatever is there by then.
    """
    if options.external:
        return options
    names = bundle.names if bundle else None
    kept = keepers.settled(options.keepers, now, names)
    return replace(options, keepers=keepers.whole(kept))


def choice(
    options: Options, now: Mapping[str, Any] | None, bundle: Archive | None
) -> Choice | None:
    """Whether Grafana is taken; None if it has to be tried."""
    if options.external:
        return external.DASHBOARDS
    return dashboards.settled(options.dashboards, now, bundle.names if bundle else None)
