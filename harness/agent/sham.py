"""`sham`: no collector but empty programs on the hooks of others; see bpf/sham.bpf.c.

It is switched as they are and sees nothing, so that what it costs is what switching costs.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Sequence

from harness.agent.collector import Attachment
from harness.agent.errors import AgentError
from harness.agent.libbpf import Object, attached_to
from harness.agent.perf import Sampler
from harness.agent.telemetry import Counts, Telemetry

PROGRAMS = {
    "http": ("sham_ingress", "sham_egress", "sham_state"),
    "flows": ("sham_state",),
    "profile": ("sham_sample",),
    "guard": ("sham_exec", "sham_connect4", "sham_connect6", "sham_sendmsg4", "sham_sendmsg6"),
}  # by whose hooks they take; guard's for files is another one from kernel to kernel, and left out
_HZ = 19  # of profile, if not told otherwise


def add_options(parser: ArgumentParser) -> None:
    """`--hooks`."""
    parser.add_argument(
        "--hooks",
        default="http+flows",
        help=f"whose hooks to take, joined by +: {', '.join(PROGRAMS)}",
    )


def create(options: Namespace) -> Sham:
    """The empty programs that the command line asks for; AgentError if there are none such."""
    names = options.hooks.split("+")
    if unknown := [name for name in names if name not in PROGRAMS]:
        raise AgentError(
            f"--hooks names {unknown[0]!r}, whose hooks are not known.",
            next_step=f"Join some of these by +: {', '.join(PROGRAMS)}.",
        )
    return Sham({program for name in names for program in PROGRAMS[name]})


class Sham:
    """Empty programs, attached while on."""

    name = "sham"

    def __init__(self, programs: Collection[str]) -> None:
        self._programs = programs
        self._sampler: Sampler | None = None

    def configure(self, obj: Object) -> None:
        """Load only the programs that were asked for."""
        for program in obj.programs:
            if program.name not in self._programs:
                program.skip()

    def start(self, obj: Object) -> None:
        """Open the perf events, disabled, as profile does."""
        if "sham_sample" in self._programs:
            self._sampler = Sampler(obj.program("sham_sample").fd, _HZ)

    def aim(self, obj: Object, directory: int) -> None:
        """Attach to this cgroup with the next `attach`."""
        self._directory = directory

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Be there, and do nothing."""
        rest = [program for program in obj.programs if program.section != "perf_event"]
        links: list[Attachment] = [*attached_to(self._directory, rest)]
        if self._sampler is not None:
            self._sampler.enable()
            links.append(self._sampler)
        return links

    def collect(self, *, metrics: bool) -> Telemetry:
        """Nothing."""
        return Telemetry()

    def counts(self) -> Counts:
        """None are seen."""
        return Counts(0, 0)

    def close(self) -> bool:
        """Close the perf events."""
        if self._sampler is not None:
            self._sampler.close()
        return True
