"""Sets what disturbs a measurement as it is wanted, and gives back what was; a node's answers do.

What each thing was is noted in /run before anything is changed. The note is gone when the machine
starts anew, as is all that was set.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.errors import HarnessError, NeedError
from harness.linux.tunables import KINDS, ROOT, Wish, wishes
from harness.wire.spec import Placement

NOTE = Path("/run/harness-tuned.json")


@dataclass(frozen=True)
class Outcome:
    """What was set or given back, and what was not and why, in sentences."""

    done: list[str]
    refused: list[str]


def tune(place: Placement, note: Path = NOTE, root: Path = ROOT) -> Outcome:
    """Set all of it; what was is noted first, and kept by a second call.

    What a second call sets otherwise is noted beside what the first one set until it is done: who
    was killed between has one or the other. NeedError if another process is at it at this moment.
    """
    with _noted(note) as (earlier, keep):
        asked = wishes(place, root)
        keep([*earlier, *(each for each in asked if each not in earlier)])
        outcome, now = Outcome([], []), dict[tuple[str, str], Wish]()
        for each in [*earlier, *asked]:
            known = now.get((each.kind, each.what), each)
            now[each.kind, each.what] = replace(each, before=known.before)
        for each in asked:
            try:
                _set(each, each.wanted)
            except (OSError, HarnessError) as error:
                outcome.refused.append(f"{each.knob}: {each.what} cannot be set: {_said(error)}")
                _correct(now, each)
            else:
                outcome.done.append(
                    f"{each.knob}: {each.what} is {each.wanted} (was {each.before})"
                )
        keep(list(now.values()))
    return outcome


def restore(note: Path = NOTE) -> Outcome:
    """Give back what was before `tune`, the last thing first; what others set since is left."""
    with _noted(note) as (earlier, keep):
        outcome, left = Outcome([], []), list[Wish]()
        for each in reversed(earlier):
            try:
                now = KINDS[each.kind].read(each.what)
                if now not in (each.before, each.wanted) and not KINDS[each.kind].halfway(now):
                    outcome.refused.append(
                        f"{each.knob}: {each.what} was set to {now} by somebody else: it is left so"
                    )
                    continue
                if now != each.before:
                    _set(each, each.before)
            except (OSError, HarnessError) as error:
                outcome.refused.append(f"{each.knob}: {each.what} stays: {_said(error)}")
                # a device's interrupt may be gone for good; a CPU that is off comes back
                if each.knob != "interrupt affinity" or Path(each.what).exists():
                    left.insert(0, each)
            else:
                outcome.done.append(f"{each.knob}: {each.what} is {each.before} again")
        keep(left)
    return outcome


def noted(note: Path = NOTE) -> list[Wish]:
    """What `tune` set and `restore` would give back."""
    try:
        return _parsed(note.read_text())
    except FileNotFoundError:
        return []


def _correct(noted: dict[tuple[str, str], Wish], wish: Wish) -> None:
    """Of one that could not be set keep what it is now; forget it if that is what it was."""
    key, found = (wish.kind, wish.what), ""
    with contextlib.suppress(OSError, HarnessError):
        found = KINDS[wish.kind].read(wish.what)
    if found in ("", noted[key].before):
        del noted[key]
    else:
        noted[key] = replace(noted[key], wanted=found)


def _set(wish: Wish, value: str) -> None:
    kind = KINDS[wish.kind]
    kind.write(wish.what, value)
    if (now := kind.read(wish.what)) != value:
        raise NeedError(
            f"It is {now} after {value} was written.",
            next_step="See who else sets it, or leave it.",
        )


@contextlib.contextmanager
def _noted(note: Path) -> Iterator[tuple[list[Wish], Callable[[Sequence[Wish]], None]]]:
    """What is noted, and what keeps other things instead; the file goes when nothing is."""

    def keep(kept: Sequence[Wish]) -> None:
        text = json.dumps([asdict(each) for each in kept]).encode() + b"\n"
        os.pwrite(descriptor, text, 0)  # its first line counts, should we be killed here
        os.ftruncate(descriptor, len(text))
        os.fsync(descriptor)

    try:
        descriptor = os.open(note, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NeedError(
            f"{note} cannot be written: {error.strerror}.",
            "Nothing is set that could not be given back.",
            "Run it as root.",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), note.stat()):
                raise FileNotFoundError(note)
        except (BlockingIOError, FileNotFoundError):  # or who was at work has just removed it
            raise NeedError(
                "Another `harness tune` or `harness restore` is at work on this machine.",
                next_step="Wait until it has ended.",
            ) from None
        try:
            yield _parsed(note.read_text()), keep
        finally:
            if not _parsed(note.read_text()):
                note.unlink()
    finally:
        os.close(descriptor)


def _parsed(text: str) -> list[Wish]:
    return [Wish(**each) for each in json.loads(text.partition("\n")[0] or "[]")]


def _said(error: Exception) -> str:
    return f"{error.strerror}." if isinstance(error, OSError) and error.strerror else str(error)
