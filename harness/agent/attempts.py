"""Steps that are tried again: what goes wrong is told and counted; used by runtime and hosted."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections import Counter
from collections.abc import Callable

from harness.agent.errors import AgentError

_log = logging.getLogger("harness.agent")


class Attempts:
    """An agent ends when it is told to: not for a full disk, a lack of memory or a mistake of ours.

    `failures` counts what nobody foresaw, by the name of an OSError's number (`ENOSPC`), else by
    the kind of exception.
    """

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self._last = ""

    def __call__(self, step: Callable[[], object]) -> bool:
        """Outlive whatever goes wrong in `step`; whether nothing did."""
        try:
            step()
        except Exception as error:
            foreseen = isinstance(error, AgentError)
            if not foreseen:
                self.failures[_kind(error)] += 1
            with contextlib.suppress(Exception):  # no memory, or a full disk
                said = f"{type(error).__name__}: {error}"
                if foreseen or said != self._last:
                    _log.warning("%s", error, exc_info=None if foreseen else error)
                self._last = said
            return False
        return True


def _kind(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__
