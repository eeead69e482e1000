"""Which collectors cannot run on this machine: their hooks are tried; for `answers`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from harness.errors import UnavailableError
from harness.linux import bpf_features
from harness.node import subject_source
from harness.wire.spec import Needs

NEXT = "Leave it out, or measure where root may use them; `harness doctor` lists all hooks."


def unmet(needs: Mapping[str, Needs]) -> dict[str, UnavailableError]:
    """Why a collector cannot run, by the key of its needs; absent where it can. Needs root."""
    refusal = cache(bpf_features.refusal)  # several need the same, and trying takes its time
    found = {}
    for key, each in needs.items():
        if each.subject is not None and (
            lacking := subject_source.refusal(each.name, each.subject)
        ):
            found[key] = lacking
            continue
        refused = {hook: words for hook in each.hooks if (words := refusal(hook))}
        if refused:
            told = "; ".join(f"{hook}: {words}" for hook, words in refused.items())
            names = ", ".join(refused)
            found[key] = UnavailableError(
                f"Collector {each.name!r} cannot run here: the kernel refuses {names}.",
                f"Tried, it says {told}.",
                NEXT,
            )
    return found
