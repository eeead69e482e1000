"""What tests of the stack need: its programs in the cache, and no other stack on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from harness.stack import ledger, supply
from harness.stack.catalog import Component


def require(components: Iterable[Component]) -> None:
    """Skip where one that is not optional cannot be had, or one is to be built and may not be."""
    for component in components:
        offer = supply.choose(component, supply.cache())
        if offer is None and not component.optional:
            pytest.skip(f"{component.title} cannot be had here")
        if offer is not None and not offer.ready and not os.environ.get("HARNESS_STACK"):
            pytest.skip(f"{component.title} is not in the cache: `make test-stack` builds it")
    if ledger.state() is not None:
        pytest.skip("a stack is up on this machine")
