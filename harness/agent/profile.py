"""`profile`: CPU stacks of one cgroup as pprof files; made by `__main__`.

Functions of Python are named here, because their names live in the process. Native, Go, Java and
kernel frames stay addresses, with the mappings they belong to: harness.node.symbols names them.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import struct
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.agent import cgroup, pid_namespace, pprof
from harness.agent.collector import Attachment
from harness.agent.elf import Elf
from harness.agent.errors import AgentError
from harness.agent.libbpf import Object
from harness.agent.memory import mappings
from harness.agent.perf import Sampler
from harness.agent.pprof import Frame, Mapping
from harness.agent.python_frames import Interpreters
from harness.agent.telemetry import Counts, Point, Telemetry, counter

_KERNEL = Mapping(1 << 63, (1 << 64) - 1, 0, "[kernel.kallsyms]")
_EVENTS, _LOST = 0, 1  # enum total of profile.bpf.c
_SPARE = 2  # drains may be late


def add_options(parser: ArgumentParser) -> None:
    """The options that only `profile` has."""
    parser.add_argument("--frequency", type=int, default=19, help="samples per second and CPU")
    parser.add_argument("--pprof", type=Path, help="directory that gets a file each interval")


def create(options: Namespace) -> Profile:
    """The collector for these options."""
    if not 1 <= options.frequency <= 1000:
        raise AgentError(
            f"--frequency {options.frequency} is not between 1 and 1000.",
            next_step="19 and 99 are usual: they do not keep step with timers.",
        )
    if options.pprof is not None and not options.pprof.is_dir():
        raise AgentError(f"--pprof {options.pprof} is not a directory.", next_step="Create it.")
    return Profile(options.cgroup, options.frequency, options.interval, options.pprof)


@dataclass(frozen=True)
class _PythonFound:
    """Tells in the ready line which interpreters are walked; there is nothing to switch."""

    hook: str

    def destroy(self) -> None:
        pass


class Profile:
    """Counts stacks in the kernel; writes them as pprof and counts samples per process."""

    name = "profile"

    def __init__(
        self, directory: Path, frequency: int, interval: float, output: Path | None
    ) -> None:
        self._cgroup, self._output = directory, output
        self._frequency, self._period_ns = frequency, 10**9 // frequency
        self._room = frequency * interval * _SPARE  # for each CPU
        self._since_ns = time.time_ns()
        self._samples: Counter[int] = Counter()
        self._unknown = 0
        self._mappings: dict[int, list[Mapping]] = {}
        self._build_ids: dict[tuple[int, int], str] = {}

    def configure(self, obj: Object) -> None:
        """Make room for the samples that all CPUs can take between two drains."""
        obj.set("targ_pid_ns", pid_namespace.inode())
        for name, entries in self.entries(os.cpu_count() or 1).items():
            obj.map(name).resize(entries)

    def entries(self, cpus: int) -> dict[str, int]:
        """Room for the samples and stacks of so many CPUs."""
        room = 1 << max(10, min(int(self._room * cpus), 1 << 16).bit_length())
        return {"samples": room, "stacks": room}

    def start(self, obj: Object) -> None:
        """Open the perf events, disabled."""
        self._object = obj
        self._python = Interpreters(obj.map("interpreters"))
        self._python.refresh(cgroup.pids(self._cgroup))
        self._sampler = Sampler(obj.program("profile").fd, self._frequency)

    def aim(self, obj: Object, directory: int) -> None:
        """Sample this cgroup from now on."""
        obj.map("targ_cgroup").update(struct.pack("=I", 0), struct.pack("=I", directory))

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Enable the perf events."""
        self._sampler.enable()
        found = [_PythonFound(f"python/{each}") for each in sorted(self._python.versions)]
        return [self._sampler, *found]

    def collect(self, *, metrics: bool) -> Telemetry:
        """Look for new Python processes; with `metrics` drain and write the stacks too."""
        self._python.refresh(cgroup.pids(self._cgroup))
        if not metrics:
            return Telemetry()
        self._write()
        points = [Point({"process.pid": pid}, count) for pid, count in self._samples.items()]
        return Telemetry(
            metrics=[counter("profile.samples", "{sample}", points, "CPU samples taken.")]
            if points
            else []
        )

    def counts(self) -> Counts:
        """Samples taken, and those whose stack was not kept."""
        return Counts(self._total(_EVENTS), self._total(_LOST) + self._unknown)

    def close(self) -> None:
        """Close the perf events."""
        self._sampler.close()

    def _total(self, index: int) -> int:
        totals = self._object.map("totals")
        value = totals.lookup(struct.pack("=I", index))
        assert value is not None  # an array
        return sum(int.from_bytes(each, sys.byteorder) for each in totals.cpu_values(value))

    def _write(self) -> None:
        now = time.time_ns()
        builder = pprof.Builder(self._since_ns, now - self._since_ns, self._period_ns)
        for key, value in self._object.map("samples").drain():
            tgid, tid, *stacks = struct.unpack("=II3Q", key)
            count = int.from_bytes(value, sys.byteorder)
            self._samples[tgid] += count
            builder.add(self._frames(tgid, *stacks, count=count), count, tgid, tid)
        self._mappings.clear()
        self._since_ns = now
        if self._output is not None and builder.profile.sample:
            pprof.write(builder.profile, self._output / f"profile-{now // 10**6}.pb.gz")

    def _frames(
        self, pid: int, kernel: int, native: int, python: int, *, count: int
    ) -> list[Frame]:
        """All frames, leaf first: kernel, native, Python."""
        frames = [Frame(each, _KERNEL) for each in _callers(self._stack(kernel, count))]
        frames += self._native(pid, self._stack(native, count))
        return frames + self._python.frames(pid, self._stack(python, count))

    def _stack(self, hash_: int, count: int) -> tuple[int, ...]:
        if not hash_:
            return ()
        value = self._object.map("stacks").lookup(struct.pack("=Q", hash_))
        if value is None:  # evicted: more stacks between two drains than there is room for
            self._unknown += count
            return ()
        (depth,) = struct.unpack_from("=Q", value)
        return struct.unpack_from(f"={depth}Q", value, 8)

    def _native(self, pid: int, addresses: Sequence[int]) -> list[Frame]:
        """Frames up to the first outside of any code: the rest of that chain is no stack."""
        if pid not in self._mappings:
            self._mappings[pid] = [self._identified(pid, each) for each in mappings(pid)]
        known = self._mappings[pid]
        frames = []
        for address in _callers(addresses):
            place = bisect.bisect_right(known, address, key=lambda each: each.start) - 1
            if place < 0 or address >= known[place].limit:
                break
            frames.append(Frame(address, known[place]))
        return frames

    def _identified(self, pid: int, mapping: Mapping) -> Mapping:
        """The mapping with its build id, which is read once a file."""
        path = Path(f"/proc/{pid}/root{mapping.path}")
        with contextlib.suppress(OSError, ValueError, struct.error):
            file = path.stat()
            key = file.st_dev, file.st_ino
            if key not in self._build_ids:
                with contextlib.closing(Elf(path)) as elf:
                    self._build_ids[key] = elf.build_id()
            return mapping._replace(build_id=self._build_ids[key])
        return mapping


def _callers(addresses: Sequence[int]) -> list[int]:
    """All but the leaf are return addresses: one less lies in the call."""
    return [*addresses[:1], *(each - 1 for each in addresses[1:])]
