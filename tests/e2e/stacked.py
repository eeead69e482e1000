"""What tests of the stack need: its programs in the cache, and no other stack on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from harness.stack import ledger, lifecycle, supply
from harness.stack.selection import Role


def roles(*names: str) -> list[Role]:
    """All roles of the stack, or those of these names."""
    return [role for role in lifecycle.select([]) if not names or role.name in names]


def require(wanted: Iterable[Role]) -> None:
    """Skip where one that is not optional cannot be had, or one is to be built and may not be."""
    for choice in lifecycle.plan(wanted, supply.cache()):
        title = choice.component.title
        if choice.offer is None and not choice.role.optional:
            pytest.skip(f"{title} cannot be had here")
        if choice.offer and not choice.offer.ready and not os.environ.get("HARNESS_STACK"):
            pytest.skip(f"{title} is not in the cache: `make test-stack` builds it")
    if ledger.state() is not None:
        pytest.skip("a stack is up on this machine")
