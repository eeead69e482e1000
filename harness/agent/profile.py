"""`profile`: CPU stacks of one cgroup as pprof files, OTLP profiles, or to Parca; for `__main__`.

With `--containers` each sample is its container's: in metrics and profiles, by labels in files.
Functions of Python are named here, because their names live in the process. Native, Go, Java and
kernel frames stay addresses, with the mappings they belong to: harness.node.symbols names them.
"""

from __future__ import annotations

import bisect
import os
import struct
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.agent import cgroup, containers, jvm, layouts, pid_namespace, pprof
from harness.agent.bounded import Answers
from harness.agent.collector import Attachment
from harness.agent.errors import AgentError
from harness.agent.images import TOLD, Image, Images
from harness.agent.libbpf import Object
from harness.agent.perf import Sampler
from harness.agent.pprof import Frame, Mapping
from harness.agent.profile_samples import SAMPLE, UNCONTAINED_BYTES, Samples, labels
from harness.agent.python_frames import Interpreters
from harness.agent.python_layouts import INTERPRETER
from harness.agent.telemetry import Counts, Point, Stacks, Telemetry, counter
from harness.agent.together import Together
from harness.agent.unwinding import CHOICES, Unwinding

_KERNEL = Mapping(1 << 63, (1 << 64) - 1, 0, "[kernel.kallsyms]")
_EVENTS, _NO_ROOM, _UNWALKED = 0, 1, 2  # enum total of profile.bpf.c
_STACK = struct.Struct("=128Q")  # its depth and as many frames
_LAYOUTS = {"sampled": SAMPLE, "stack": _STACK, "image": TOLD, "interpreter": INTERPRETER}
_SPARE = 2  # drains may be late
# why the stack of a sample is not told
_ENDED, _EVICTED, _UNSEEN = "process_ended", "stacks_evicted", "other_pid_namespace"
_FULL = "maps_full"


def add_options(parser: ArgumentParser) -> None:
    """--frequency, --unwind, --pprof, --containers, --profiles, --parca."""
    containers.add_option(parser)
    parser.add_argument("--frequency", type=int, default=19, help="samples per second and CPU")
    parser.add_argument(
        "--unwind", choices=CHOICES, default=CHOICES[0], help="how native stacks are walked"
    )
    parser.add_argument("--pprof", type=Path, help="directory that gets a file each interval")
    parser.add_argument(
        "--profiles",
        choices=("on", "off"),
        default="off",
        help="send stacks, too, as OTLP profiles (v1development), which not every receiver takes",
    )
    parser.add_argument(
        "--parca", metavar="URL", default="", help="send stacks to a Parca, which takes no OTLP"
    )


def create(options: Namespace) -> Profile:
    """The collector for these options."""
    if not 1 <= options.frequency <= 1000:
        raise AgentError(
            f"--frequency {options.frequency} is not between 1 and 1000.",
            next_step="19 and 99 are usual: they do not keep step with timers.",
        )
    if options.pprof is not None and not options.pprof.is_dir():
        raise AgentError(f"--pprof {options.pprof} is not a directory.", next_step="Create it.")
    if options.parca and options.profiles == "on":
        raise AgentError(
            "Stacks go to one receiver, and --profiles and --parca name two.",
            next_step="Leave one of them out.",
        )
    return Profile(
        options.cgroup,
        options.frequency,
        options.interval,
        options.pprof,
        containers.asked(options),
        Unwinding(options.unwind),
        _to_parca if options.parca else _as_otlp if options.profiles == "on" else None,
    )


@dataclass(frozen=True)
class _Found:
    """Tells in the ready line what processes are walked, or not; there is nothing to switch."""

    hook: str

    def destroy(self) -> None:
        pass


class Profile:
    """Counts stacks in the kernel; writes them as pprof and counts samples per executable."""

    name = "profile"

    def __init__(
        self,
        directory: Path,
        frequency: int,
        interval: float,
        output: Path | None,
        containers: Together,
        unwinding: Unwinding,
        sends: Callable[[int, int, int], Stacks] | None = None,
    ) -> None:
        self._sends = sends  # makes what is sent of a drain
        self._unwinding = unwinding
        self._containers = containers
        self._cgroup, self._output = directory, output
        self._frequency, self._period_ns = frequency, 10**9 // frequency
        self._room = frequency * interval * _SPARE  # for each CPU
        self._since_ns = time.time_ns()
        self._samples = Samples()
        self._lost: Counter[str] = Counter()
        self._read: set[tuple[int, int]] = set()  # images and their stacks of code objects
        self._looked_at = (0, 0)  # samples that were taken, the last two times

    def configure(self, obj: Object) -> None:
        """Make room for the samples that all CPUs can take between two drains."""
        for struct_name, layout in _LAYOUTS.items():
            layouts.check(obj, struct_name, layout)
        obj.set("targ_pid_ns", pid_namespace.inode())
        room = self.entries(os.cpu_count() or 1)
        self._containers.prepare(obj, ["samples"], UNCONTAINED_BYTES, room["samples"])
        self._unwinding.prepare(obj)
        for name, entries in room.items():
            obj.map(name).resize(entries)

    def entries(self, cpus: int) -> dict[str, int]:
        """Room for the samples, stacks and processes of so many CPUs."""
        room = 1 << max(10, min(int(self._room * cpus), 1 << 16).bit_length())
        return {"samples": room, "stacks": room, "told": room}

    def start(self, obj: Object) -> None:
        """Open the perf events, disabled."""
        pid_namespace.require_sight(self._cgroup)
        self._object = obj
        self._containers.start(obj)
        answers = Answers()
        self._python = Interpreters(obj.map("interpreters"), answers)
        self._remarks: set[str] = set()
        seen = [*filter(self._containers.sees_process, cgroup.pids(self._cgroup))]
        self._unwinding.start(obj, seen)
        for pid in seen:
            self._python.look(pid)
            self._remarks |= {each for each in [jvm.remark(pid)] if each}
        self._sampler = Sampler(obj.program(self._unwinding.program).fd, self._frequency)
        self._images = Images(obj.map("images"), obj.map("told"), self._begun, answers)

    def aim(self, obj: Object, directory: int) -> None:
        """Sample this cgroup from now on."""
        obj.map("targ_cgroup").update(struct.pack("=I", 0), struct.pack("=I", directory))
        self._containers.look()

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Enable the perf events."""
        self._sampler.enable()
        pythons = (f"python/{each}" for each in sorted(self._python.versions))
        found = (*self._unwinding.hooks(), *pythons, *sorted(self._remarks))
        return [self._sampler, *map(_Found, found)]

    def collect(self, *, metrics: bool) -> Telemetry:
        """Follow processes and CPUs; with `metrics` drain and write the stacks too."""
        self._sampler.follow()
        self._python.look_again()
        if not metrics:
            if not self._containers.apart:  # nobody is forgotten whose samples wait to be drained
                self._containers.forgotten()
            self._read_names()
            return Telemetry()
        builder, sent = self._drain()
        told, contained = self._samples.metrics()
        gone = self._containers.forgotten()  # not before: what was drained is of some of them
        self._samples.forget(gone.values(), self._containers.lasts)
        lost = [Point({"error.type": why}, n) for why, n in self._reasons().items() if n]
        if lost:
            said = "CPU samples whose stack is not known."
            told.append(counter("profile.samples.lost", "{sample}", lost, said))
        if told or contained:
            told += self._unwinding.metrics()
        write = partial(self._write, builder)
        return Telemetry(told, contained=contained, profiles=[sent] if sent else [], then=write)

    def counts(self) -> Counts:
        """Samples taken, those whose stack is not known, by reason, and those without all Python.

        `python_unwalked` are those of threads that were not found among too many; `unwind_...` tell
        why native stacks end, where they are walked by tables, and what these hold.
        """
        reasons = self._reasons()
        more = {f"lost_{why}": n for why, n in reasons.items()}
        more["python_unwalked"] = self._total(_UNWALKED)
        more |= self._unwinding.counts()
        return Counts(self._total(_EVENTS), sum(reasons.values()), more)

    def close(self) -> bool:
        """Close the perf events, and end the thread that looks at processes."""
        self._sampler.close()
        self._containers.close()
        closed = self._images.close()  # first: it asks for tables
        return self._unwinding.close() and closed

    def _begun(self, image: Image) -> bool:
        self._unwinding.look(image)
        return self._python.look(image.pid, image.parent)

    def _reasons(self) -> dict[str, int]:
        counted = {why: self._lost[why] for why in (_ENDED, _EVICTED, _UNSEEN)}
        return {**counted, _FULL: self._total(_NO_ROOM)}

    def _total(self, index: int) -> int:
        totals = self._object.map("totals")
        value = totals.lookup(struct.pack("=I", index))
        assert value is not None  # an array
        return sum(int.from_bytes(each, sys.byteorder) for each in totals.cpu_values(value))

    def _read_names(self) -> None:
        """Read the functions of Python that were seen: the process may end before the drain."""
        taken = self._total(_EVENTS)  # each is there a little after it is counted
        before, self._looked_at = self._looked_at[0], (self._looked_at[1], taken)
        if taken == before:
            return
        for key, _ in self._object.map("samples").items():
            pid, _, number, _, _, python, _ = _read(key)
            if python and (number, python) not in self._read:
                self._read.add((number, python))
                self._python.frames(self._images.find(pid, number), self._stack(python) or ())

    def _drain(self) -> tuple[pprof.Builder | None, Stacks | None]:
        """Count what was sampled; what a file is made of, and what is sent, if any."""
        now = time.time_ns()
        spent = self._since_ns, now - self._since_ns, self._period_ns
        builder = pprof.Builder(*spent) if self._output else None
        sent = self._sends(*spent) if self._sends else None
        refreshed: set[int] = set()
        for key, value in self._object.map("samples").drain():
            pid, tid, number, *stacks, of = _read(key)
            container = self._containers.find(of)
            count = int.from_bytes(value, sys.byteorder)
            image = self._images.find(pid, number)
            if image is not None and id(image) not in refreshed:
                refreshed.add(id(image))
                self._images.refresh(image)
                self._unwinding.look(image)
            self._samples.add(container, image.executable if image else "", count)
            frames = self._frames(pid, image, *stacks, count=count)
            if builder is not None:
                builder.add(frames, count, pid, tid, labels(container))
            if sent is not None:
                sent.add(container, frames, count, _who(pid, tid, image))
        self._read.clear()
        self._images.forget()
        self._python.forget()
        self._unwinding.forget()
        self._since_ns = now
        return builder, sent

    def _write(self, builder: pprof.Builder | None) -> None:
        if self._output and builder and builder.profile.sample:
            pprof.write(builder.profile, self._output / f"profile-{self._since_ns // 10**6}.pb.gz")

    def _frames(
        self, pid: int, image: Image | None, kernel: int, native: int, python: int, *, count: int
    ) -> list[Frame]:
        """All frames, leaf first: kernel, native, Python."""
        addresses = {each: self._stack(each) for each in (kernel, native, python) if each}
        if None in addresses.values():  # more stacks between two drains than there is room for
            self._lost[_EVICTED] += count
        elif native and not (image and image.mappings):
            self._lost[_ENDED if pid else _UNSEEN] += count
        frames = [Frame(each, _KERNEL) for each in _callers(addresses.get(kernel) or ())]
        frames += _native(image, addresses.get(native) or ())
        return frames + self._python.frames(image, addresses.get(python) or ())

    def _stack(self, hash_: int) -> tuple[int, ...] | None:
        value = self._object.map("stacks").lookup(struct.pack("=Q", hash_))
        if value is None:
            return None
        (depth,) = struct.unpack_from("=Q", value)
        return struct.unpack_from(f"={depth}Q", value, 8)


def _as_otlp(began_ns: int, duration_ns: int, period_ns: int) -> Stacks:
    from harness.agent.otlp_profiles import Profiles  # only who sends has its messages

    return Profiles(began_ns, duration_ns, period_ns)


def _to_parca(began_ns: int, duration_ns: int, period_ns: int) -> Stacks:
    from harness.agent.parca import Profiles

    return Profiles(began_ns, duration_ns, period_ns)


def _who(pid: int, tid: int, image: Image | None) -> dict[str, str | int]:
    """What a sample that is sent says of its thread, as far as that is known."""
    numbers = {"process.pid": pid, "thread.id": tid} if pid else {}
    return {**numbers, "process.executable.name": image.executable} if image else {**numbers}


def _read(key: bytes) -> tuple[int, ...]:
    """A struct sampled, of no cgroup where keys have none."""
    return SAMPLE.unpack(key.ljust(SAMPLE.size, b"\0"))


def _native(image: Image | None, addresses: Sequence[int]) -> list[Frame]:
    """Frames up to the first outside of any code: the rest of that chain is no stack."""
    known = image.mappings if image else ()
    frames = []
    for address in _callers(addresses):
        place = bisect.bisect_right(known, address, key=lambda each: each.start) - 1
        if place < 0 or address >= known[place].limit:
            break
        frames.append(Frame(address, known[place]))
    return frames


def _callers(addresses: Sequence[int]) -> list[int]:
    """All but the leaf are return addresses: one less lies in the call."""
    return [*addresses[:1], *(each - 1 for each in addresses[1:])]
