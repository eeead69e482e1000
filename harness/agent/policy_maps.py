"""The policy in the maps of the kernel half, for all roots that there are; used by `guard`.

Which paths a rule means changes while it holds: a container comes, and with it a root; a file comes
under a name with `*`; a link leads elsewhere. So the maps are filled again, with what is different.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.agent import files, policy
from harness.agent.errors import AgentError
from harness.agent.files import Watched
from harness.agent.folders import Folders
from harness.agent.libbpf import Object
from harness.agent.policy import Rule, Trie
from harness.agent.roots import Roots

REFRESH_SECONDS = 10.0
_ROUNDS = 8  # folders in folders that are just being made
_PAUSE = 100  # times as long as a look for roots took
_log = logging.getLogger("harness.agent")


class PolicyMaps:
    """Fills `prefixes`, `suffixes` and `addresses`, and tells `watch` which files are meant.

    With `exactly`, the files go into `prefixes`, too. `folders` is an Attachment that hears of new
    files, if there are rules for files.
    """

    def __init__(
        self,
        scope: Path,
        rules: Sequence[Rule],
        obj: Object,
        exactly: bool,
        watch: Callable[[Mapping[str, Watched]], None],
    ) -> None:
        self.roots = Roots(scope)
        self._rules, self._object, self._exactly, self._watch = rules, obj, exactly, watch
        self._lock = threading.Lock()  # the timer's thread and that of `folders`
        self._filled: dict[str, Trie] = {}
        self._filled_at = -REFRESH_SECONDS
        self._look_due = 0.0
        events = {rule.event for rule in rules}
        self._has_paths = bool(events & {"exec", "open"})
        self.folders = Folders(self._refresh) if "open" in events else None

    def fill(self) -> None:
        """Fill them by what is there now; AgentError if there is no room."""
        with self._lock, self.roots.opened() as roots:
            self._filled_at = time.monotonic()
            prefixes, suffixes = policy.path_tries(self._rules, [root.real for root in roots])
            if self.folders is not None:
                # first, and until all are watched: what comes after it was listed is heard of
                for _ in range(_ROUNDS):
                    if not self.folders.aim(files.folders(self._rules, roots)):
                        break
                found = files.listed(self._rules, roots)
                self._watch(found)
                prefixes |= self._entries(found) if self._exactly else {}
            self._write("prefixes", prefixes)
            self._write("suffixes", suffixes)
            self._write("addresses", policy.address_trie(self._rules))

    def follow(self) -> None:
        """Fill them again if a root came, or if it was long ago."""
        if self._is_due() or time.monotonic() - self._filled_at > REFRESH_SECONDS:
            self._refresh()

    def close(self) -> None:
        """End the thread."""
        if self.folders is not None:
            self.folders.close()

    def _is_due(self) -> bool:
        """Looking for roots takes a hundredth of the time at most, however many processes are."""
        began = time.monotonic()
        if not self._has_paths or began < self._look_due:
            return False
        with self._lock:
            came = self.roots.came()
        self._look_due = began + _PAUSE * (time.monotonic() - began)
        return came

    def _refresh(self) -> None:
        try:
            self.fill()
        except (AgentError, OSError) as error:  # what was filled before holds
            _log.warning("%s", error)

    def _entries(self, found: Mapping[str, Watched]) -> Trie:
        entries: Trie = {}
        for file in found.values():
            key, value = policy.path_entry(self._rules[file.rule], file.rule, file.real)
            entries[key] = value
        return entries

    def _write(self, name: str, entries: Trie) -> None:
        target, filled = self._object.map(name), self._filled.setdefault(name, {})
        for key in filled.keys() - entries.keys():
            target.delete(key)
            del filled[key]
        for key, value in entries.items():
            if filled.get(key) != value:
                target.update(key, value)
                filled[key] = value
