"""Names the addresses in a trial's profiles; run when the trial ends and the workload lives.

    python -m harness.node.symbols DIRECTORY PID...
    symbolize(directory, pids)      # profile-<ms>.pb.gz ... -> profile.pb.gz, profile.folded

It is a process of its own because BCC is large, and because its library was seen to close
descriptors that were not its own when a symbol cache is freed.

Native, Go and kernel symbols come from BCC's symbol cache. So do Java's, from the perf map that
the JVM is asked to write for a moment; its stacks are whole with -XX:+PreserveFramePointer.
Of processes that have ended, and of programs that they ran before an exec, file_symbols names them;
of all where BCC is not, as in our image: then what a JVM compiled has no name.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.agent import pprof
from harness.agent.memory import mappings
from harness.agent.pprof import Frame, Labels
from harness.agent.text import text
from harness.errors import HarnessError
from harness.linux import processes
from harness.node.file_symbols import FileSymbols, KernelSymbols

_KERNEL_PID = -1
_KERNEL_SPACE = 1 << 63
_PYTHON_EVALUATOR = "_PyEval_EvalFrameDefault"
_JAVA_INTERPRETER = "Interpreter"

Name = Callable[[int], str | None]
Key = tuple[tuple[Frame, ...], int, int, Labels]  # frames, pid, tid, whose they are
Stacks = Counter[Key]  # -> samples


def symbolize(directory: Path, pids: Iterable[int]) -> None:
    """Merge the raw profiles in `directory` into `profile.pb.gz` and `profile.folded`.

    Addresses of processes that are not in `pids` or have ended are named by their files. The raw
    files are removed; called again, it adds what has come since. Nothing is written if there are
    none.
    """
    parts = sorted(directory.glob("profile-*.pb.gz"))
    if not parts:
        return
    whole = directory / "profile.pb.gz"
    profiles = [pprof.read(part) for part in parts]
    live = [pid for pid in set(pids) if Path(f"/proc/{pid}").exists()]
    with contextlib.ExitStack() as opened:
        names: dict[int, Name] = {}
        if bcc := _bcc():
            names[_KERNEL_PID] = opened.enter_context(_symbols(bcc, _KERNEL_PID))
            for pid in live:
                opened.enter_context(_java_map(pid))
                names[pid] = opened.enter_context(_symbols(bcc, pid))
        else:
            names[_KERNEL_PID] = KernelSymbols().name
        merged = _merge(profiles, _Namer(names, FileSymbols(live)))
    if whole.exists():
        profiles.insert(0, pprof.read(whole))
        for stack in pprof.stacks(profiles[0]):
            merged[stack.frames, stack.pid, stack.tid, stack.labels] += stack.count
    first, last = profiles[0], profiles[-1]
    duration = last.time_nanos + last.duration_nanos - first.time_nanos
    builder = pprof.Builder(first.time_nanos, duration, first.period)
    for (frames, pid, tid, labels), count in merged.items():
        builder.add(frames, count, pid, tid, labels)
    pprof.write(builder.profile, whole)
    _write_folded(merged, directory / "profile.folded")
    for part in parts:
        part.unlink()


def label(frame: Frame) -> str:
    """How a frame is called in folded stacks: `hot (app.py:6)`, `read_[k]` for the kernel."""
    if not frame.name:
        module = os.path.basename(frame.mapping.path).strip("[]") if frame.mapping else "unknown"
        return f"[{module}]"
    name = frame.name.replace(";", ",")
    if frame.file:
        return f"{name} ({os.path.basename(frame.file)}:{frame.line})"
    return f"{name}_[k]" if frame.address >= _KERNEL_SPACE else name


def _merge(profiles: Sequence[Any], namer: _Namer) -> Stacks:
    merged: Stacks = Counter()
    for profile in profiles:
        for stack in pprof.stacks(profile):
            frames = _join([namer.named(frame, stack.pid) for frame in stack.frames])
            merged[tuple(frames), stack.pid, stack.tid, stack.labels] += stack.count
    return merged


class _Namer:
    """Names a frame by the process it is of while that has the same there, else by its file."""

    def __init__(self, names: dict[int, Name], files: FileSymbols) -> None:
        self._names, self._files = names, files
        self._mapped: dict[int, set[tuple[int, str]]] = {}

    def named(self, frame: Frame, pid: int) -> Frame:
        """The frame with its name, if there is one."""
        if frame.name:
            return frame
        if frame.address >= _KERNEL_SPACE:
            return frame._replace(name=self._names[_KERNEL_PID](frame.address) or "")
        if self._lives(frame, pid):
            return frame._replace(name=self._names[pid](frame.address) or "")
        return frame._replace(name=self._files.name(frame))

    def _lives(self, frame: Frame, pid: int) -> bool:
        if pid not in self._names:
            return False
        if frame.mapping is None or not frame.mapping.path.startswith("/"):
            return True
        if pid not in self._mapped:
            self._mapped[pid] = {(each.start, text(each.path)) for each in mappings(pid)}
        return (frame.mapping.start, frame.mapping.path) in self._mapped[pid]


def _join(frames: list[Frame]) -> list[Frame]:
    """Put Python's frames in place of the interpreter's own.

    CPython is mostly built without frame pointers: unless its evaluator shows up in the native
    stack, only the leaf of it is certain.
    """
    python = [frame for frame in frames if frame.file]
    if not python:
        return _without_repeats(frames)
    kernel = [frame for frame in frames if frame.address >= _KERNEL_SPACE]
    native = [frame for frame in frames if not frame.file and frame.address < _KERNEL_SPACE]
    evaluators = (i for i, frame in enumerate(native) if frame.name.startswith(_PYTHON_EVALUATOR))
    return [*kernel, *native[: next(evaluators, 1)], *python]


def _without_repeats(frames: list[Frame]) -> list[Frame]:
    """One frame for each run of the JVM's interpreter, whose methods have no names."""
    return [
        frame
        for i, frame in enumerate(frames)
        if i == 0 or frame.name != _JAVA_INTERPRETER or frames[i - 1].name != _JAVA_INTERPRETER
    ]


def _write_folded(merged: Stacks, path: Path) -> None:
    folded: Counter[str] = Counter()
    for (frames, *_), count in merged.items():
        folded[";".join(label(frame) for frame in reversed(frames)) or "[unknown]"] += count
    path.write_text("".join(f"{stack} {count}\n" for stack, count in sorted(folded.items())))


def _bcc() -> Any:
    """BCC's module, or None where it is not."""
    try:
        import bcc  # 60 MB, and only Debian has it: imported where it is needed
    except ImportError:
        return None
    return bcc


@contextlib.contextmanager
def _symbols(bcc: Any, pid: int) -> Iterator[Name]:
    """A function that names the addresses of one process, or of the kernel."""
    cache = bcc.SymbolCache(pid)

    @functools.cache
    def name(address: int) -> str | None:
        found, _, _ = cache.resolve(address, True)
        return found.decode(errors="replace") if found else None

    try:
        yield name
    finally:
        bcc.lib.bcc_free_symcache(cache.cache, pid)


@contextlib.contextmanager
def _java_map(pid: int) -> Iterator[None]:
    """Have a JVM (17 or later) write down its compiled methods; the file is removed afterwards."""
    written = Path(f"/proc/{pid}/root/tmp/perf-{_own_pid(pid)}.map")
    ours = _is_java(pid) and not written.exists()
    if ours:
        with contextlib.suppress(HarnessError):  # older JVMs have no such command
            processes.run(["jcmd", str(pid), "Compiler.perfmap"], timeout=20)
    try:
        yield
    finally:
        if ours:
            written.unlink(missing_ok=True)


def _is_java(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == "java"
    except OSError:
        return False


def _own_pid(pid: int) -> int:
    """The process's id in its own pid namespace, which is the last one listed."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return pid


if __name__ == "__main__":
    symbolize(Path(sys.argv[1]), map(int, sys.argv[2:]))
