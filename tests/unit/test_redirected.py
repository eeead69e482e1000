"""A block warns where a redirect is measured instead of the page that it leads to."""

from __future__ import annotations

import pytest

from harness.node.block import _redirected
from harness.node.load_driver import Capacity


@pytest.mark.parametrize(
    ("capacity", "warned"),
    [(None, False), (Capacity(9.0, 0.1), False), (Capacity(9.0, 0.1, redirects=1.0), True)],
)
def test_most_answers_lead_elsewhere(capacity: Capacity | None, warned: bool) -> None:
    told = _redirected("http://x/", capacity)
    assert bool(told) == warned
    assert not warned or told.startswith("100% of the requests to http://x/ were answered by a red")
