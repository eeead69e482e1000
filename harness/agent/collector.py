"""What a collector is to the runtime: a module with these, named in the registry of `__main__`.

add_options(parser)                what it takes on the command line besides what every agent does
create(options) -> Collector       AgentError if the options are wrong
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from harness.agent.libbpf import Object
from harness.agent.telemetry import Counts, Telemetry


class Attachment(Protocol):
    """Something switched on; usually a libbpf.Link."""

    @property
    def hook(self) -> str:
        """The hook it took, such as `cgroup_skb/ingress`."""
        ...

    def destroy(self) -> None:
        """Switch it off, within milliseconds."""
        ...


@runtime_checkable
class Scaling(Protocol):
    """A collector that makes maps larger where there are more CPUs."""

    def entries(self, cpus: int) -> Mapping[str, int]:
        """How many entries these maps have on so many CPUs, by name."""
        ...


class Collector(Protocol):
    """The user half of one BPF object, `<name>.bpf.o` in `harness.wire.objects.folder()`.

    Calls come from several threads. `aim` and `attach` come from one of them at a time, and so does
    `collect`, but also while another attaches; `counts` come from all, also at once.
    """

    @property
    def name(self) -> str:
        """Its name in the registry, which is also the name of its BPF object."""
        ...

    def configure(self, obj: Object) -> None:
        """Set globals, resize maps, skip programs; the object is open and not loaded."""
        ...

    def start(self, obj: Object) -> None:
        """Open what needs the loaded object, such as a ring buffer; nothing is attached yet."""
        ...

    def aim(self, obj: Object, directory: int) -> None:
        """Take this cgroup, an open directory, with the next `attach`.

        Called after `start`, and again, with everything destroyed, when the cgroup was made anew.
        """
        ...

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Switch on: called for each `on`, with everything of the last one destroyed."""
        ...

    def collect(self, *, metrics: bool) -> Telemetry:
        """Drain the events waiting, and read the aggregates too if `metrics`."""
        ...

    def counts(self) -> Counts:
        """Read the counters; cheap."""
        ...

    def close(self) -> bool:
        """Close what `start` opened; whether nothing uses the object any more.

        A thread that a file system holds up may still do so: then the object stays loaded.
        """
        ...
