"""`python -m harness.agent.entry --json`: what getting into a BPF program costs; for `answers`.

The kernel's run_time_ns of a program begins inside it. What a hook costs before and after that is
measured here once a machine: an empty program is attached and detached around loops of events
that this process makes itself, in a cgroup of its own where the hook knows cgroups. The CPU time
of the one pinned thread is compared, on with off, in quadruples of stretches off-on-on-off.

Printed is, by type of hook, {"entry_ns", "low", "high", "n"}: ns per event, its 95 % interval, and
how many quadruples it is from. The run of the empty body itself, a few ns, is included. Hooks
that this kernel does not offer are left out, and told on stderr. Tracepoints cannot be scoped:
while one is attached, other processes that wait for a child run the empty program as well.

iter is per element, and paid by who reads the iterator, that is by an agent. perf_event is per
sample of the CPU clock, with its timer interrupt; its program counts the samples, for a virtual CPU
misses some. uprobe is per call of a function whose first instruction the kernel has to step over,
which is the dearer kind.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.agent.errors import AgentError
from harness.agent.libbpf import KERNEL_BTF, Object
from harness.agent.stimulus import STIMULI, Stimulus
from harness.wire import objects

STRETCH_SECONDS = 0.005
_ROUNDS = 4
_LEAST = 8  # quadruples, below which the interval's normal approximation is poor
_FIRST_COUNT = 256
_SETTLE_SHARE = 0.1  # of a stretch, run unmeasured after each switch
_NEW_MOUNTS, _PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS, MS_REC | MS_PRIVATE
_BPF = objects.folder()


@dataclass(frozen=True)
class Cost:
    """ns per event that an attached empty program adds, its 95 % interval; `n` quadruples."""

    entry_ns: float
    low: float
    high: float
    n: int

    @property
    def narrow(self) -> bool:
        """Whether it is known to 10 ns or to a tenth to each side."""
        return (self.high - self.low) / 2 <= max(10.0, abs(self.entry_ns) / 10)


def estimate(differences: Sequence[float]) -> Cost:
    """Hodges-Lehmann estimate: the median of the Walsh averages, with its interval.

    Interval by the normal approximation of Wilcoxon's signed-rank statistic: M. Hollander,
    D. A. Wolfe, E. Chicken, Nonparametric Statistical Methods, 3rd ed., 2014, sections 3.2-3.3.
    """
    n = len(differences)
    walsh = sorted((differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n))
    spread = 1.96 * math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    outside = max(0, math.floor(n * (n + 1) / 4 - spread))
    middle = (walsh[(len(walsh) - 1) // 2] + walsh[len(walsh) // 2]) / 2
    return Cost(middle, walsh[outside], walsh[-1 - outside], n)


def measure(hook: str, cgroup: Path, seconds: float, bpf: Path = _BPF) -> Cost:
    """What one type of hook costs; AgentError if it is not to be had.

    Takes about so many seconds, and up to _ROUNDS times that until the interval is narrow. That it
    ends by width alone, never by value, keeps the interval's coverage: Y. S. Chow, H. Robbins, On
    the asymptotic theory of fixed-width sequential confidence intervals, 1965.
    """
    with ExitStack() as stack:
        obj = Object(bpf / "empty.bpf.o", KERNEL_BTF)
        stack.callback(obj.close)
        for program in obj.programs:
            if program.name != f"on_{hook}":
                program.skip()
        obj.load()
        stimulus = STIMULI[hook](cgroup)
        stack.callback(stimulus.close)
        attached = stimulus.attach(obj)
        try:
            count = _count(stimulus)
        finally:
            attached.destroy()
        differences: list[float] = []
        for _ in range(_ROUNDS):
            ends = time.monotonic() + seconds
            while len(differences) < _LEAST or time.monotonic() < ends:
                differences.append(_quadruple(stimulus, obj, count))
            if (cost := estimate(differences)).narrow:
                break
        return cost


def _quadruple(stimulus: Stimulus, obj: Object, count: int) -> float:
    """ns per event that being on adds; a linear drift of the machine cancels."""
    first, _ = _stretch(stimulus, count)
    attached = stimulus.attach(obj)
    try:
        second, events = _stretch(stimulus, count)
        third, more = _stretch(stimulus, count)
    finally:
        attached.destroy()
    fourth, _ = _stretch(stimulus, count)
    if not events + more:
        raise AgentError("It was not passed once in two stretches.")
    return (second + third - first - fourth) / (events + more)


def _stretch(stimulus: Stimulus, count: int) -> tuple[int, float]:
    """CPU ns of a stretch, and its events; what a switch left to be done goes before it."""
    stimulus.run(max(1, int(_SETTLE_SHARE * count)))
    before = time.thread_time_ns()
    events = stimulus.run(count)
    return time.thread_time_ns() - before, events


def _count(stimulus: Stimulus) -> int:
    """How many events make a stretch while the program is attached: a uprobe costs most of it."""
    count = _FIRST_COUNT
    while True:
        spent = _stretch(stimulus, count)[0] / 1e9
        if spent > STRETCH_SECONDS / 4:
            return max(1, round(count * STRETCH_SECONDS / spent))
        count *= 2


@contextlib.contextmanager
def own_cgroup() -> Iterator[Path]:
    """Move this process into a fresh cgroup below its own; back and removed at the end."""
    lines = os.fsdecode(Path("/proc/self/cgroup").read_bytes()).split("\n")
    place = next((line[3:] for line in lines if line.startswith("0::")), None)
    mount = _cgroup2_mount()
    if place is None or mount is None:
        raise AgentError("No cgroup v2 hierarchy is mounted.")
    before = mount / place.lstrip("/")
    _remove_left(before)
    path = before / f"entry-{os.getpid()}"
    path.mkdir()
    try:
        (path / "cgroup.procs").write_text(str(os.getpid()))
        yield path
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))
        path.rmdir()


def _remove_left(parent: Path) -> None:
    """Remove the cgroups of those that were killed before they could."""
    for path in parent.glob("entry-*"):
        if not Path("/proc", path.name.removeprefix("entry-")).exists():
            with contextlib.suppress(OSError):  # somebody is in it
                path.rmdir()


def _cgroup2_mount() -> Path | None:
    for line in filter(None, os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n")):
        place, _, source = line.partition(" - ")
        if source.split()[0] == "cgroup2":
            return Path(place.split(" ")[4])
    return None


def _see_tracepoints() -> None:
    """Mount tracefs where it is not, for this process only: classic tracepoints are found there.

    Where that is not allowed, what others have mounted is there or not.
    """
    library = ctypes.CDLL(None)
    if library.unshare(_NEW_MOUNTS) or library.mount(b"none", b"/", None, _PRIVATE, None):
        return
    roots = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
    if not any((root / "events").is_dir() for root in roots):
        library.mount(b"tracefs", bytes(roots[0]), b"tracefs", 0, None)


def _alone() -> None:
    """Stay on one CPU, before others where allowed: who comes between leaves cold caches.

    Not on the first, which takes most of the interrupts.
    """
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the hooks named, or all; 0 if there was one that could be, else 2."""
    parser = argparse.ArgumentParser(prog="python -m harness.agent.entry")
    parser.add_argument("hooks", nargs="*", help=f"of {', '.join(STIMULI)}; all if none is named")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seconds", type=float, default=3.0, help="per hook")
    parser.add_argument("--bpf", type=Path, default=_BPF, help="directory of the BPF objects")
    options = parser.parse_args(arguments)
    if unknown := set(options.hooks) - set(STIMULI):
        parser.error(f"unknown hook {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave the cgroup in order
    found: dict[str, Cost] = {}
    try:
        with own_cgroup() as cgroup:
            _see_tracepoints()
            _alone()
            for hook in options.hooks or STIMULI:
                try:
                    found[hook] = measure(hook, cgroup, options.seconds, options.bpf)
                except AgentError as error:
                    print(f"{hook}: {error}", file=sys.stderr)
    except (AgentError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(_json(found) if options.json else _table(found))
    return 0 if found else 2


def _json(found: dict[str, Cost]) -> str:
    return json.dumps({hook: asdict(cost) for hook, cost in found.items()})


def _table(found: dict[str, Cost]) -> str:
    return "\n".join(
        f"{hook:16}{cost.entry_ns:9.1f} ns  {cost.low:.1f} to {cost.high:.1f}, n = {cost.n}"
        for hook, cost in found.items()
    )


if __name__ == "__main__":
    sys.exit(main())
