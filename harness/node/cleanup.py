"""What has been changed and is to be undone, the last first, whatever fails; for `session`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.errors import HarnessError


class Cleanup:
    """Steps to be taken at the end; each is tried, and one that fails is told of, not raised."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def later(self, step: Callable[..., object], *arguments: Any, **options: Any) -> None:
        """Take this step at the end, before those that were asked for earlier."""
        self._steps.append(lambda: step(*arguments, **options))

    def run(self) -> list[str]:
        """Take all steps; a sentence for each that failed. Afterwards there is nothing to do."""
        told: list[str] = []
        while self._steps:
            try:
                self._steps.pop()()
            except Exception as error:  # whatever it is, the next step is taken
                told += sentences(error)
        return told


def sentences(error: BaseException) -> list[str]:
    """An error of an ExitStack and those that it stands before, the first one first."""
    before = sentences(error.__context__) if error.__context__ is not None else []
    told = str(error) if isinstance(error, HarnessError | OSError) else repr(error)
    return [*before, told]
