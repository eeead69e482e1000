"""The errors that a user may see; `cli` prints them, everybody else raises them.

HarnessError                exit 2
├── InputError              a file, a flag or a name is wrong
├── NeedError               the machine lacks something (root, BTF, a tool, a free port)
├── CommandError            a program that was run to its end failed
├── ComponentError          something that was started does not do what it must
│   ├── WorkloadError       the workload died, or does not answer
│   ├── CollectorError      a collector does not load, attach or answer
│   │   └── UnavailableError it cannot be loaded or attached on this machine
│   ├── LoadError           the load driver failed
│   ├── SilentError         nothing comes from agents of some nodes of a cluster
│   └── NodeError           the node process was lost, or spoke nonsense
└── StoreError              the run directory cannot be written or read

Each class says what an error of it `ends` that is raised while a trial runs: that trial, the rest
of its block (there is no service to measure, or nobody to drive it), or the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

Ends = Literal["trial", "block", "run"]


DEFECT = "This is a defect of the harness: report it with this message."


class HarnessError(Exception):
    """What went wrong, why, and what to do next, each a plain sentence."""

    ends: ClassVar[Ends] = "run"

    def __init__(self, what: str, why: str = "", next_step: str = "") -> None:
        self.what, self.why, self.next_step = what, why, next_step
        super().__init__(" ".join(part for part in (what, why, next_step) if part))

    def to_dict(self) -> dict[str, str]:
        """The error as JSON can carry it to another process: `class` and the three sentences."""
        return {
            "class": type(self).__name__,
            "what": self.what,
            "why": self.why,
            "next_step": self.next_step,
        }

    @staticmethod
    def from_dict(found: Mapping[str, object]) -> HarnessError:
        """The error that `to_dict` told; of a class that is not known here, a HarnessError."""
        what, why, next_step = (str(found.get(key, "")) for key in ("what", "why", "next_step"))
        return CLASSES.get(str(found.get("class")), HarnessError)(what, why, next_step)


class InputError(HarnessError):
    """A file, a flag or a name given by the user is wrong."""


class NeedError(HarnessError):
    """The machine lacks something that is needed."""


class CommandError(HarnessError):
    """A program that was run to its end failed; the next trial may have better luck."""

    ends: ClassVar[Ends] = "trial"


class ComponentError(HarnessError):
    """Something that was started does not do what it must."""


class WorkloadError(ComponentError):
    """The workload died, or does not answer."""

    ends: ClassVar[Ends] = "block"


class CollectorError(ComponentError):
    """A collector does not load, attach or answer, or ended; `collector` is its name, if known."""

    ends: ClassVar[Ends] = "trial"

    def __init__(
        self, what: str, why: str = "", next_step: str = "", *, collector: str = ""
    ) -> None:
        super().__init__(what, why, next_step)
        self.collector = collector


class UnavailableError(CollectorError):
    """A collector cannot be loaded or attached here."""


class LoadError(ComponentError):
    """The load driver failed."""

    ends: ClassVar[Ends] = "block"


class SilentError(ComponentError):
    """Nothing comes from agents of some nodes; `ages` are the seconds since others were heard."""

    def __init__(
        self,
        what: str,
        why: str = "",
        next_step: str = "",
        *,
        ages: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(what, why, next_step)
        self.ages = ages or {}


class NodeError(ComponentError):
    """The node process was lost, or spoke nonsense."""

    ends: ClassVar[Ends] = "block"


class StoreError(HarnessError):
    """The run directory cannot be written or read."""


CLASSES = {
    each.__name__: each
    for each in (
        HarnessError,
        InputError,
        NeedError,
        CommandError,
        ComponentError,
        WorkloadError,
        CollectorError,
        UnavailableError,
        LoadError,
        SilentError,
        NodeError,
        StoreError,
    )
}
