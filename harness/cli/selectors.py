"""Which pods agents see, on the command line: its options, and as it is said; for `rollout`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from harness.targets.kubernetes.selectors import Selectors

Namespaces = Annotated[
    str,
    typer.Option(
        "--agent-namespaces",
        metavar="NAME,...",
        help="In a cluster: agents see pods of these namespaces only.",
    ),
]
Excluded = Annotated[
    str,
    typer.Option(
        "--agent-excluded-namespaces",
        metavar="NAME,...",
        help="In a cluster: agents see no pods of these namespaces.",
    ),
]
PodSelector = Annotated[
    str,
    typer.Option(
        "--agent-pod-selector",
        metavar="SELECTOR",
        help="In a cluster: agents see pods with these labels only, as app=shop,tier!=test.",
    ),
]


def given(asked: Selectors) -> dict[str, str]:
    """What was said, by the names of the options that say it."""
    return {
        "agent-namespaces": asked.namespaces,
        "agent-excluded-namespaces": asked.excluded,
        "agent-pod-selector": asked.pods,
    }


def said(agents: Mapping[str, Any]) -> str:
    """What agents with these values of the chart would see; empty: everything."""
    parts = []
    if names := agents.get("namespaces"):
        parts.append(f"of {', '.join(names)}")
    if names := agents.get("excludedNamespaces"):
        parts.append(f"not of {', '.join(names)}")
    if selector := agents.get("podSelector"):
        parts.append(f"with {selector}")
    seen = "; ".join(parts)
    return f"Agents would see pods {seen}. Besides these only the stack's own go." if seen else ""
