"""What the chart is given, made from the stack's own descriptions; `rollout` asks.

A component's pod is made of the same record and the same module as its process on one machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import NeedError
from harness.stack import catalog
from harness.stack.config import PROGRAMS, Stack
from harness.stack.config.description import KEEPS, Tree
from harness.targets.kubernetes import registry

FOLDER = Path("/harness")
"""Where a component's files are in its container."""


def stack(
    cluster: str,
    retention_hours: int = 24,
    *,
    grafana: bool = False,
    keeps: Mapping[str, str] = KEEPS,
) -> Stack:
    """The stack of a cluster of this name, each component known by its Service's name."""
    names = [*keeps.values(), "otelcol", *(["grafana"] if grafana else [])]
    return Stack(
        FOLDER,
        keeps=dict(keeps),
        hosts={name: name for name in names},
        resource={"k8s.cluster.name": cluster},
        names_pods=True,
        retention_hours=retention_hours,
        collector_memory_mb=catalog.known()["otelcol"].memory_mb * 3 // 4,
    )


def values(
    described: Stack,
    image: str,
    prefix: str = "",
    pull_secret: str = "",
    volumes: Mapping[str, str] | None = None,
    of_agents: Tree | None = None,
) -> Tree:
    """The values of the chart: every component, and the image of everything of ours.

    Images are called as they are below `prefix`, a registry of one's own, if there is one;
    `pull_secret` is the Secret that nodes pull them with. `volumes` have a `size` and a `class`.
    `of_agents` are values of `agents`: which pods they see, where they send to; collectors that
    write to a component of `described` are among them.
    """
    components = {name: component(described, name) for name in described.hosts}
    for one in components.values():
        one["image"] = registry.named(one["image"], prefix)
    secret = {"pullSecret": pull_secret} if pull_secret else {}
    kept = {"storage": dict(volumes)} if volumes else {}
    writers = {"collectors": found} if (found := collectors(described)) else {}
    agents = {"agents": {**(of_agents or {}), **writers}} if of_agents or writers else {}
    # of no template: a later `up` reads it, which would otherwise keep data for less
    hours = {"retentionHours": described.retention_hours} if components else {}
    own = {"image": registry.named(image, prefix), "components": components}
    return {**own, **hours, **secret, **kept, **agents}


def collectors(described: Stack) -> dict[str, list[str]]:
    """The agents' collectors that write to a component themselves, with their arguments."""
    return {
        collector: list(arguments)
        for name in described.hosts
        for collector, arguments in _collectors(described, name).items()
    }


def _collectors(described: Stack, name: str) -> Mapping[str, Sequence[str]]:
    store = PROGRAMS[name].store
    return store.collectors(described.url(name)) if store else {}


def _hears(described: Stack, name: str) -> list[str]:
    """Who writes to a component: the Collector to what keeps a signal, unless agents do so."""
    kept = name in described.keeps.values()
    writers = ["agents"] if _collectors(described, name) else ["otelcol"] if kept else []
    traces = described.keeps.get("traces", "")
    store = PROGRAMS[traces].store if traces else None
    makes = name == described.keeps.get("metrics") and store is not None and store.span_metrics
    return [*writers, *([described.hosts[traces]] if makes else [])]


def component(described: Stack, name: str) -> Tree:
    """A component as the chart's templates want it; NeedError if its catalog has no image of it."""
    known, program = catalog.known()[name], PROGRAMS[name]
    if not known.image:
        raise NeedError(
            f"{known.title} cannot run in a cluster: the catalog names no image of it.",
            next_step="Name one in harness/stack/catalog.toml.",
        )
    files = dict(program.files(described))
    if program.render is not None:
        files[described.file(name).name] = program.render(described)
    ready = urlsplit(program.ready(described))
    # Go's runtime does not read a cgroup's limit (package runtime, "GOMEMLIMIT"): it would let
    # garbage grow past it, and be killed
    limit = f"{known.memory_mb * 4 // 5}MiB"
    more = {
        "readsPods": name == "otelcol" and described.names_pods,
        "env": {"GOMEMLIMIT": limit, **program.environment(described)},
        "secrets": list(program.secrets),
        "user": known.user,
        "command": list(known.command),
        "inMemory": known.in_memory,
        "hears": _hears(described, name),
    }
    return {
        **{key: value for key, value in more.items() if value},
        "image": known.image,
        "args": program.arguments(described),
        "files": {file: json.dumps(tree, sort_keys=True) for file, tree in sorted(files.items())},
        "folder": str(described.folder),
        "data": described.data(name),
        "ports": {use: described.port(name, use) for use in known.ports},
        "ready": {"path": ready.path or "/", "port": ready.port},
        "memory": known.memory_mb,
    }


def images(given: Tree) -> list[str]:
    """All images that these values name."""
    return sorted({given["image"], *(one["image"] for one in given["components"].values())})
