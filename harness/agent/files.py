"""The files that open rules stand for in each root, and the folders of these; used by `guard`."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.agent.policy import ACTIONS, TOO_LONG, Rule
from harness.agent.roots import Root
from harness.agent.text import text


@dataclass(frozen=True)
class Watched:
    """A file: what the kernel knows it by, what is shown of it, and the index of its rule.

    Of one that does not answer that is what was written, and nobody may try to mark it.
    """

    real: str
    shown: str
    rule: int
    answers: bool = True


def listed(rules: Sequence[Rule], roots: Sequence[Root]) -> dict[str, Watched]:
    """By where this process reaches them; those of names without `*` also if they are not there."""
    found: dict[str, Watched] = {}
    for root in roots:
        for index, pattern in _patterns(rules):
            for path in _expanded(root, pattern):
                real = root.real(path)
                reached = root.reached(real)
                if glob.has_magic(pattern) and not root.is_file(reached):
                    continue
                present = found.get(reached)
                if present is None or _strictness(rules, present.rule) < _strictness(rules, index):
                    found[reached] = Watched(real, text(path), index, root.answers(reached))
    ignored = [
        p for rule in rules if rule.event == "open" and rule.action == "ignore" for p in rule.match
    ]
    return {
        reached: each
        for reached, each in found.items()
        if not any(fnmatch.fnmatchcase(each.shown, pattern) for pattern in ignored)
    }


def folders(rules: Sequence[Rule], roots: Sequence[Root]) -> dict[str, set[str]]:
    """Where this process reaches the folders on the way to them, and what is waited for in each.

    A file comes, or another one in its place, when a name like that is made or moved there.
    """
    found: dict[str, set[str]] = {}
    for root in roots:
        for _, pattern in _patterns(rules):
            parts = pattern.strip("/").split("/")
            for depth, name in enumerate(parts):
                for folder in _expanded(root, "/" + "/".join(parts[:depth])):
                    reached = root.reached(root.real(folder))
                    if root.is_folder(reached):
                        found.setdefault(reached, set()).add(name)
    return found


def _patterns(rules: Sequence[Rule]) -> Iterator[tuple[int, str]]:
    for index, rule in enumerate(rules):
        if rule.event == "open":
            yield from ((index, each) for each in rule.match if each != TOO_LONG)


def _expanded(root: Root, pattern: str) -> Iterator[str]:
    return root.expanded(pattern) if glob.has_magic(pattern) else iter((pattern,))


def _strictness(rules: Sequence[Rule], index: int) -> int:
    return ACTIONS[rules[index].action]
