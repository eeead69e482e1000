"""The policy in the maps of the kernel half, for all roots that there are; used by `guard`.

Which paths a rule means changes while it holds: a container comes, and with it a root; a file comes
under a name with `*`; a link leads elsewhere. So the maps are filled again, with what is different.
A file system may never answer: paths there are left as they are written, and no file there is
marked, until it does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.agent import bounded, files, policy, policy_paths
from harness.agent.bounded import Answers, Unanswered
from harness.agent.errors import AgentError
from harness.agent.files import Watched
from harness.agent.folders import Folders
from harness.agent.libbpf import Object
from harness.agent.lookup import Lookup
from harness.agent.policy import Rule, Trie
from harness.agent.responder import Responder
from harness.agent.roots import Roots

REFRESH_SECONDS = 10.0
_ROUNDS = 8  # folders in folders that are just being made
_LOOK_PAUSE = 100  # times as long as a look for roots took, however many processes there are
_MOST_LINKS_TOLD = 64
_FILL_PAUSE = 4  # who makes many files does not keep a CPU busy here
_log = logging.getLogger("harness.agent")


class PolicyMaps:
    """Fills `prefixes`, `suffixes` and `addresses`, and tells `watch` which files are meant.

    With `exactly`, the files go into `prefixes`, too. `folders` is an Attachment that hears of new
    files, if there are rules for files. Roots of processes that `sees` does not take say nothing.
    """

    def __init__(
        self,
        scope: Path,
        rules: Sequence[Rule],
        obj: Object,
        exactly: bool,
        watch: Callable[[Mapping[str, Watched]], None],
        sees: Callable[[int], bool],
    ) -> None:
        self.roots = Roots(scope, sees)
        self._rules, self._object, self._exactly, self._watch = rules, obj, exactly, watch
        self._lock = threading.Lock()
        self._answers = Answers()
        self._silent: set[str] = set()
        self._links: set[tuple[str, str, str]] = set()
        self._closed = False
        self._filled: dict[str, Trie] = {}
        self._filled_at = -REFRESH_SECONDS
        self._look_due = 0.0
        self._error: Exception | None = None
        events = {rule.event for rule in rules}
        self.folders = Folders() if "open" in events else None
        self._drained = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        callbacks = {self._drained: self._look}
        if self.folders is not None:
            callbacks[self.folders.fd] = self._hear
        self._thread = Responder(callbacks) if events & {"exec", "open"} else None

    def fill(self) -> None:
        """Fill them by what is there now, and answers; AgentError if there is no room."""
        if not self._lock.acquire(timeout=bounded.WAIT_SECONDS):
            raise _held_up()
        try:
            self._filled_at = time.monotonic()
            with self.roots.opened() as roots:
                look = Lookup(roots, self._answers)
                self._fill(look)
                if not self._closed:
                    self._tell(look.silent)
        finally:
            self._lock.release()

    def _fill(self, look: Lookup) -> None:
        prefixes, suffixes = look(
            lambda roots: policy_paths.tries(self._rules, [root.real for root in roots])
        )
        # fanotify marks files, which are of one container; the kernel half knows paths
        rules = [each for each in self._rules if self._exactly or each.event == "exec"]
        self._tell_links(look(lambda roots: policy_paths.led(rules, [r.real for r in roots])))
        found: Mapping[str, Watched] = {}
        if self.folders is not None:
            # first, and until all are watched: what comes after it was listed is heard of
            for _ in range(_ROUNDS):
                if not self._aim(self.folders, look):
                    break
            found = look(lambda roots: files.listed(self._rules, roots))
            if self._exactly:
                for key, value in self._entries(found).items():
                    policy_paths.add(prefixes, key, value)
        keep = bool(look.silent)  # what was known of those that do not answer, and of all others
        self._write("prefixes", prefixes, keep)
        self._write("suffixes", suffixes, keep)
        self._write("addresses", policy.address_trie(self._rules), keep)
        if self.folders is not None:
            with contextlib.suppress(Unanswered):  # the thread goes on by itself
                answering = {path: each for path, each in found.items() if each.answers}
                self._answers.ask(lambda: self._watch(answering))

    def _aim(self, folders: Folders, look: Lookup) -> bool:
        wanted = look(lambda roots: files.folders(self._rules, roots))
        try:
            return self._answers.ask(lambda: folders.aim(wanted))
        except Unanswered:  # the thread goes on by itself
            return False

    def _tell(self, silent: Mapping[str, str]) -> None:
        """Say once which paths are not watched, and when they are again."""
        for path in silent.keys() - self._silent:
            where = f" ({silent[path]})" if silent[path] else ""
            _log.warning(
                "The file system at %s%s does not answer: no file there is watched, and rules for "
                "paths there hold as they are written, and by what was known before. It is tried "
                "again every %d s, and nothing else waits for it.",
                path, where, REFRESH_SECONDS,
            )  # fmt: skip
        if back := sorted(self._silent - silent.keys()):
            _log.warning("These answer again, and are watched: %s.", ", ".join(back))
        self._silent = set(silent)

    def _tell_links(self, links: set[tuple[str, str, str]]) -> None:
        """Say once of each that it counts for others; of so many that a log is not filled."""
        for link in sorted(links - self._links)[: _MOST_LINKS_TOLD - len(self._links)]:
            rule, path, real = link
            self._links.add(link)
            _log.warning(
                "A link of a container leads %s to %s: the rule %s kills for that path in every "
                "container that is watched, whatever is there. If that is not meant, name a folder "
                "in the rule, or watch that container with an agent of its own.",
                path, real, rule,
            )  # fmt: skip

    def follow(self) -> None:
        """Let the thread see what came since; raises what it met the last time."""
        error, self._error = self._error, None
        os.eventfd_write(self._drained, 1)
        if error is not None:
            raise error

    def close(self) -> bool:
        """End the thread; False if a filling goes on, for then it still uses the maps."""
        self._closed = True  # without the lock: whoever fills has it
        self._answers.close()
        ended = self._thread is None or self._thread.close()
        if not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        if ended:
            os.close(self._drained)
            if self.folders is not None:
                self.folders.close()
        return True

    def _look(self) -> None:
        """Fill them again if a root came, or if it was long ago."""
        os.eventfd_read(self._drained)
        began = time.monotonic()
        try:
            late = began - self._filled_at > REFRESH_SECONDS
            if began >= self._look_due:
                with self._lock:
                    late |= self.roots.came()
                self._look_due = began + _LOOK_PAUSE * (time.monotonic() - began)
            if late:
                self._refresh()
        except Exception as error:  # told by `follow`
            self._error = error

    def _hear(self) -> None:
        assert self.folders is not None
        began = time.monotonic()
        try:
            if self.folders.changed():
                self._refresh()
        except Exception as error:
            self._error = error
        time.sleep(min(_FILL_PAUSE * (time.monotonic() - began), REFRESH_SECONDS))

    def _refresh(self) -> None:
        try:
            self.fill()
        except (AgentError, OSError) as error:  # what was filled before holds
            _log.warning("%s", error)

    def _entries(self, found: Mapping[str, Watched]) -> Trie:
        entries: Trie = {}
        for file in found.values():
            key, value = policy_paths.entry(self._rules[file.rule], file.rule, file.real)
            policy.keep(entries, key, value)  # a file may be another one's in another root
        return entries

    def _write(self, name: str, entries: Trie, keep: bool) -> None:
        if self._closed:  # while a file system held it up
            return
        target, filled = self._object.map(name), self._filled.setdefault(name, {})
        keep = keep and len(filled.keys() | entries.keys()) <= target.max_entries // 2
        for key in () if keep else filled.keys() - entries.keys():
            target.delete(key)
            del filled[key]
        for key, value in entries.items():
            if filled.get(key) != value:
                target.update(key, value)
                filled[key] = value


def _held_up() -> AgentError:
    return AgentError(
        "What the rules for paths mean cannot be looked up.",
        "It is being done by another thread, which file systems keep waiting.",
        "What was known before holds, and it is tried again.",
    )
