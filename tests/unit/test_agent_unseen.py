"""Connections that were opened, and are neither open nor closed."""

from __future__ import annotations

from harness.agent.unseen import Unseen


def test_what_grows_beyond_what_it_may_have_been_is_counted() -> None:
    unseen = Unseen()
    unseen.begin()
    unseen.look(5, 5)  # closed while nothing was seen
    unseen.look(3, 9)  # others come and go
    assert unseen.count == 0
    assert unseen.grows(7)
    unseen.look(7, 12)
    assert unseen.count == 2
    assert not unseen.grows(7)


def test_a_beginning_that_was_uncertain_accuses_nobody() -> None:
    unseen = Unseen()
    unseen.begin()
    unseen.look(0, 4)
    unseen.look(4, 4)
    assert unseen.count == 0
    unseen.look(5, 5)
    assert unseen.count == 1


def test_what_closes_while_it_is_off_is_no_loss() -> None:
    unseen = Unseen()
    unseen.begin()
    unseen.look(0, 0)
    unseen.look(1, 1)
    unseen.begin()
    assert not unseen.grows(10)
    unseen.look(10, 10)
    assert unseen.count == 1
    unseen.look(12, 12)
    assert unseen.count == 3
