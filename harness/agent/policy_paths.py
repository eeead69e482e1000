"""What rules for paths are in the tries that the kernel reads; used by `guard`, `policy_maps`.

The kernel half knows paths, not whose they are, and the longest pattern that fits decides: a link
in one container says what a rule means in all. So a link never leads a rule to a folder above its
own, and what it adds never takes a path from a stricter rule.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Sequence

from harness.agent.policy import ACTIONS, EVENTS, PATH_LEN, TOO_LONG, Rule, Trie, decision, keep

KEY = struct.Struct(f"=IB{PATH_LEN}s")  # struct path_key
_BITS = 8  # of the event, which a key begins with

Follow = Callable[[str], str]


def tries(
    rules: Sequence[Rule], followed: Sequence[Follow] = (os.path.realpath,)
) -> tuple[Trie, Trie]:
    """Map entries (prefixes, suffixes) for the exec and open rules.

    `followed` is what follows the links of a path in each of the roots that there are, this
    process's own first: that one's links are not a container's.
    """
    prefixes: Trie = {}
    suffixes: Trie = {}
    written: list[tuple[int, str]] = []
    for index, rule in enumerate(rules):
        for pattern in rule.match if rule.event != "connect" else ():
            if pattern.startswith("*") and pattern != "*":
                reverse = pattern[:0:-1].encode()
                keep(suffixes, _key(rule, reverse), decision(rule, index))
            elif pattern != TOO_LONG and "*" not in pattern[:-1]:
                # else `guard` lists the files that it stands for
                keep(prefixes, _key(rule, _spelling(pattern)), decision(rule, index))
                written.append((index, pattern))
    written.sort(key=lambda each: -ACTIONS[rules[each[0]].action])  # strictest first
    _add_own(prefixes, rules, written, followed[0])
    for index, pattern in written:
        for each in {_followed(pattern, follow) for follow in followed[1:]} - {None}:
            add(prefixes, *_entry(rules[index], index, each or b""))
    return prefixes, suffixes


def led(rules: Sequence[Rule], followed: Sequence[Follow]) -> set[tuple[str, str, str]]:
    """Rule, path and where it leads: single files for which `kill` rules hold in all containers.

    By links of a container, where this machine's own lead elsewhere.
    """
    found: set[tuple[str, str, str]] = set()
    for rule in (each for each in rules if each.action == "kill"):
        for pattern in (each for each in rule.match if each.startswith("/") and "*" not in each):
            own = followed[0](pattern)
            for follow in followed[1:]:
                real, plain = follow(pattern), follow("/").rstrip("/") + pattern
                if real not in (plain, own):
                    found.add((rule.name, pattern, real))
    return found


def entry(rule: Rule, index: int, path: str) -> tuple[bytes, bytes]:
    """The map entry for exactly this file."""
    return _entry(rule, index, os.fsencode(path) + b"\0")


def add(prefixes: Trie, key: bytes, value: bytes) -> None:
    """Put an entry there, unless it would take a path from a stricter one."""
    shorter = _shorter(prefixes, key)
    if shorter is None or _strictness(prefixes[shorter]) <= _strictness(value):
        keep(prefixes, key, value)


def _add_own(
    prefixes: Trie, rules: Sequence[Rule], written: Sequence[tuple[int, str]], follow: Follow
) -> None:
    """An exception to a stricter rule is one where this machine's own links lead, too.

    As of /bin/* and /bin/sh, where /bin leads to /usr/bin.
    """
    origins = {key: key for key in prefixes}
    for index, pattern in written:
        spelling = _followed(pattern, follow)
        if spelling is None:
            continue
        key, value = _entry(rules[index], index, spelling)
        origin = _key(rules[index], _spelling(pattern))
        shorter = _shorter(prefixes, key)
        if shorter is not None and _significant(origin).startswith(_significant(origins[shorter])):
            keep(prefixes, key, value)
        else:
            add(prefixes, key, value)
        origins.setdefault(key, origin)


def _spelling(pattern: str) -> bytes:
    """A pattern for a beginning without its `*`; for one path, the path and its end."""
    return os.fsencode(pattern[:-1]) if pattern.endswith("*") else os.fsencode(pattern) + b"\0"


def _followed(pattern: str, follow: Follow) -> bytes | None:
    """A pattern with its links followed, which is what the kernel sees; None if that is no rule.

    A folder that leads to one above itself, or to all that there is, is the doing of whoever made
    the link, and not what was meant.
    """
    if pattern == "*":
        return None
    if not pattern.endswith("*"):
        return os.fsencode(follow(pattern)) + b"\0"
    folder, _, rest = pattern[:-1].rpartition("/")
    top, found = follow("/").rstrip("/"), follow(folder or "/").rstrip("/")
    if any(each.startswith(f"{found}/") for each in (folder, top + folder)):
        return None
    return os.fsencode(f"{found}/{rest}")


def _shorter(prefixes: Trie, key: bytes) -> bytes | None:
    """The longest key there that is a beginning of this one, and not the same."""
    bits, event, path = KEY.unpack(key)
    for length in range((bits - _BITS) // 8 - 1, -1, -1):
        shorter = KEY.pack(_BITS + 8 * length, event, path[:length])
        if shorter in prefixes:
            return shorter
    return None


def _strictness(value: bytes) -> int:
    return int.from_bytes(value[:4], sys.byteorder)


def _significant(key: bytes) -> bytes:
    bits, _, path = KEY.unpack(key)
    return bytes(path[: (bits - _BITS) // 8])


def _entry(rule: Rule, index: int, significant: bytes) -> tuple[bytes, bytes]:
    return _key(rule, significant), decision(rule, index)


def _key(rule: Rule, significant: bytes) -> bytes:
    significant = significant[:PATH_LEN]  # of a path behind links, only the beginning can be told
    return KEY.pack(_BITS + 8 * len(significant), EVENTS[rule.event], significant)
