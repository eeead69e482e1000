"""What `guard` must say of an execution, in plain Python: what test_guard_execution.py asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.agent.policy import ACTIONS, TOO_LONG, Rule
from tests.bpf.guard_worlds import LONGEST, VALUED, Execution, Names

ROOM, NAME, ARGS = 255, 255, 255  # bytes of a path that are told, of a name, of arguments
PASS = (ACTIONS["ignore"], 0)


@dataclass(frozen=True)
class Path:
    """As much of a path as there is room for, from its end; `whole` if that is all."""

    text: bytes
    whole: bool

    @classmethod
    def of(cls, names: Names) -> Path:
        """Names from the top; nobody knows what is before one that is too long."""
        text = b""
        for name in reversed(names):
            if len(name) > NAME or len(text) + len(name) + 1 > LONGEST:
                return cls(text, False)
            text = b"/" + name + text
        return cls(text, True)


NOBODY_KNOWS = Path(b"", False)


def told(case: Execution, rules: Sequence[Rule]) -> dict[str, Any] | None:
    """The attributes of its log record, but for those of the process; None if there is none."""
    executed, script = Path.of(case.program), second(case)
    action, index = verdict(executed, rules)
    if script is not None:
        other = verdict(script, rules)
        if other[0] > action:
            action, index = other
    if not action:
        return None
    args = b"\0".join(case.args) + b"\0"
    cut_args = case.faults or len(args) > ARGS
    shown = b"" if case.faults else args[:ARGS]
    found: dict[str, Any] = {
        "guard.rule": rules[index].name,
        "guard.action": rules[index].action,
        "process.executable.path": shown_path(executed),
        "process.command_args": [text(each) for each in shown.removesuffix(b"\0").split(b"\0")]
        if shown
        else [],
        "process.args_count": len(case.args),
    }
    cut = ["process.executable.path"] * is_cut(executed) + ["process.command_args"] * cut_args
    if script is not None:
        found["process.script.path"] = shown_path(script)
        cut += ["process.script.path"] * is_cut(script)
    if cut:
        found["guard.truncated"] = cut
    if case.unlinked:
        found["guard.unlinked"] = True
    return found


def text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def shown_path(path: Path) -> str:
    return ("" if path.whole else "...") + text(path.text[:ROOM])


def is_cut(path: Path) -> bool:
    return not path.whole or len(path.text) > ROOM


def verdict(path: Path, rules: Sequence[Rule]) -> tuple[int, int]:
    """The longest pattern for a beginning and that for an end: the stricter of them."""
    found = [PASS]
    patterns = [(match, index) for index, rule in enumerate(rules) for match in rule.match]
    if path.whole:
        key = path.text.ljust(ROOM, b"\0")[:ROOM]
        fit = [(_beginning(match), index) for match, index in patterns if _begins(match)]
        found += _longest([each for each in fit if key.startswith(each[0])], rules)
    else:
        known = [index for match, index in patterns if match == TOO_LONG] or [
            index for match, index in patterns if match.endswith("*")
        ]
        found += [max(((_action(rules, i), i) for i in known), key=lambda each: each[0])]
    ends = [(match[1:].encode(), i) for match, i in patterns if match[:1] == "*" and match != "*"]
    found += _longest([each for each in ends if path.text[-ROOM:].endswith(each[0])], rules)
    return max(found, key=lambda each: each[0])


def _begins(match: str) -> bool:
    return match == "*" or not (match.startswith("*") or match == TOO_LONG)


def _beginning(match: str) -> bytes:
    return match[:-1].encode() if match.endswith("*") else match.encode() + b"\0"


def _longest(fit: list[tuple[bytes, int]], rules: Sequence[Rule]) -> list[tuple[int, int]]:
    return [(_action(rules, i), i) for _, i in sorted(fit, key=lambda each: -len(each[0]))[:1]]


def _action(rules: Sequence[Rule], index: int) -> int:
    return ACTIONS[rules[index].action]


def second(case: Execution) -> Path | None:
    """The script's, or that of what a loader starts; None if there is none."""
    if case.is_script:
        return resolved(case, case.filename)
    if not case.program[-1].startswith((b"ld-", b"ld.")):
        return None
    if case.faults:
        return NOBODY_KNOWS
    found = started(case.args)
    if found is None:
        return NOBODY_KNOWS
    return resolved(case, found[:LONGEST]) if found else None


def started(args: Names) -> bytes | None:
    """What glibc's loader or musl's starts: the first that is no option and no value of one.

    Nothing is b"", None if that is too far behind to be looked at.
    """
    words, at = list(args[1:]), len(args[0]) + 1
    is_read = min(LONGEST, sum(len(each) + 1 for each in args))
    ended = False
    while words:
        word = words.pop(0)
        if at + 1 >= is_read:
            break
        at += len(word) + 1
        if ended or not word.startswith(b"--"):
            return word
        ended = word == b"--"
        if word in VALUED and words:
            at += len(words.pop(0)) + 1
    return None if sum(len(each) + 1 for each in args) > LONGEST else b""


def resolved(case: Execution, spelled: bytes) -> Path:
    """From the root, from the folder where the process is, or from an open file: without links."""
    at, rest = case.folder, spelled
    number = re.match(rb"/dev/fd/([0-9]{1,7})(?![^/])", spelled)
    file = case.files[int(number[1])] if number and int(number[1]) < len(case.files) else None
    if number and file is not None:
        at, rest = file, spelled[number.end() :]
    elif spelled.startswith(b"/"):
        at = case.root
    names: list[bytes] = []
    for name in rest.split(b"/"):
        if name == b".." and names:  # also where a process outside its root walks into that
            names.pop()
        elif name == b"..":
            at = at if at == case.root else at[:-1]
        elif name not in (b"", b"."):
            names.append(name)
    return Path.of((*at, *names))
