"""What a roll-out may be: a proof of concept, or one to stay; `cli` asks which is meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.errors import InputError
from harness.targets.kubernetes import condition, keepers, production, removal, rollout
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.pages import Pages
from harness.targets.kubernetes.rollout import RolledOut, Tell


@dataclass(frozen=True)
class Profile:
    """What the commands do with it."""

    up: Callable[[Options, Tell], RolledOut]
    plan: Callable[[Options], dict[str, Any]]
    status: Callable[[Options], dict[str, Any]]
    down: Callable[[Options, Tell], list[str]]
    left: Callable[[Options], list[str]]
    pages: Callable[[Options], Pages]


PROFILES = {
    "poc": Profile(
        rollout.up, rollout.plan, condition.status, rollout.down, rollout.left, rollout.pages_of
    ),
    "production": Profile(
        production.up,
        production.plan,
        production.status,
        removal.down,
        removal.left,
        lambda _: production.PAGES,
    ),
}

_OTHERS = {
    "production": ("charts", "values", "crds", "volumes"),
    "poc": (
        "registry", "pull_secret", "storage", "storage_class", "dashboards",
        "otlp", "otlp_secret", "query_traces", "query_metrics", "query_logs",
    ),
}  # fmt: skip
"""What only one of them knows."""


def of(options: Options) -> Profile:
    """The one that is meant; InputError if there is none, or an option does not go with it."""
    found = PROFILES.get(options.profile)
    if found is None:
        raise InputError(
            f"There is no profile {options.profile!r}.",
            f"There are: {', '.join(PROFILES)}.",
            "Name one of them with --profile.",
        )
    for profile, others in _OTHERS.items():
        given = [f"--{name.replace('_', '-')}" for name in others if getattr(options, name)]
        if profile == "poc":
            given += [f"--{said}" for said in keepers.said(options.keepers)]
        if options.profile != profile and given:
            raise InputError(
                f"{' and '.join(given)} does not go with --profile {options.profile}.",
                next_step=f"Leave it out, or say --profile {profile}.",
            )
    if options.profile == "production" and options.retention_hours is not None:
        raise InputError(
            "--retention does not go with --profile production.",
            "There each backend's values say how long it keeps data.",
            "Give values of your own: --values tempo=FILE, with tempo.retention in it.",
        )
    return found
