"""Being told to stop: once it interrupts, while things are being ended it does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from harness.linux.stop_signals import interruptible


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does, the signals mean afterwards what they did."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    assert {number: signal.getsignal(number) for number in numbers} == before


def tell(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_interrupts_and_what_is_ended_then_is_not_interrupted(
    number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[str] = []

    def measure() -> None:
        with interruptible():
            try:
                tell(number)
                ended.append("never reached")
            finally:
                tell(signal.SIGINT)
                ended.append("in order")

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert ended == ["in order"]
    assert capfd.readouterr().err == (
        "still ending what was started; Ctrl-\\ kills, then `harness clean` undoes the rest\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_that_comes_while_things_are_ended_does_not_abort_that_and_is_not_lost(
    number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[str] = []

    def measure() -> None:
        with interruptible() as stopping:
            stopping.shield()
            assert not stopping.asked
            tell(number)
            assert (stopping.asked, capfd.readouterr().err) == (True, "")
            tell(number)
            assert "still ending" in capfd.readouterr().err
            ended.append("in order")

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert ended == ["in order"]


def test_an_interruption_that_was_dealt_with_is_not_raised_again() -> None:
    with interruptible() as stopping:
        with pytest.raises(KeyboardInterrupt):
            tell(signal.SIGTERM)
        assert stopping.asked


def test_an_error_on_the_way_is_not_replaced_by_it() -> None:
    def measure() -> None:
        with interruptible() as stopping:
            stopping.shield()
            tell(signal.SIGTERM)
            raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        measure()


def test_nobody_who_was_not_told_is_interrupted() -> None:
    with interruptible() as stopping:
        stopping.shield()


def test_what_nohup_asked_for_stays() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as stopping:
            tell(signal.SIGHUP)
            assert not stopping.asked
    finally:
        signal.signal(signal.SIGHUP, before)
