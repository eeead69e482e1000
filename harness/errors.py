"""The errors that a user may see; `cli` prints them, everybody else raises them.

HarnessError                exit 2
├── InputError              a file, a flag or a name is wrong
├── NeedError               the machine lacks something (root, BTF, a tool, a free port)
├── CommandError            a program we ran failed
├── ComponentError          something we started does not do what it must
│   ├── WorkloadError       the workload died or does not answer
│   ├── CollectorError      a collector does not load, attach or answer
│   └── LoadError           the load driver failed
└── StoreError              the run directory cannot be written or read
"""

from __future__ import annotations


class HarnessError(Exception):
    """What went wrong, why, and what to do next, each a plain sentence."""

    def __init__(self, what: str, why: str = "", next_step: str = "") -> None:
        self.what, self.why, self.next_step = what, why, next_step
        super().__init__(" ".join(part for part in (what, why, next_step) if part))


class InputError(HarnessError):
    """A file, a flag or a name given by the user is wrong."""


class NeedError(HarnessError):
    """The machine lacks something that is needed."""


class CommandError(HarnessError):
    """A program that was run to its end failed."""


class ComponentError(HarnessError):
    """Something that was started does not do what it must."""


class WorkloadError(ComponentError):
    """The workload died, or does not answer."""


class CollectorError(ComponentError):
    """A collector does not answer, or ended."""


class UnavailableError(CollectorError):
    """A collector cannot be loaded or attached here."""


class LoadError(ComponentError):
    """The load driver failed."""


class StoreError(HarnessError):
    """The run directory cannot be written or read."""
