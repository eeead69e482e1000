"""Tells what Ansible does as lines of JSON in the file that HARNESS_EVENTS names.

`harness.targets.vm.ansible` reads them; Ansible's own words go where it is told to write them. What
a task with no_log has said is in neither.
Its workers, which lead sessions of their own, it has end with the Ansible that forked them.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: harness_events
type: aggregate
short_description: What happens, as lines of JSON in the file that HARNESS_EVENTS names
description: Tells the harness, which starts Ansible, what it does.
requirements: []
"""

_PR_SET_PDEATHSIG = 1
_LONGEST = 4000  # characters of what a program has said: the end of it says why


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Writes an event for each beginning and end of a task on a host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "harness_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        path = os.environ.get("HARNESS_EVENTS")
        self._file = open(path, "a", encoding="utf-8", buffering=1) if path else None  # noqa: SIM115
        self.disabled = self._file is None
        if not self.disabled:
            _end_workers_with_us()

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        self._write("begun", host.get_name(), task)

    def v2_runner_on_ok(self, result: Any) -> None:
        """It ended well."""
        told = result._result
        if told.get("changed"):
            self._end("changed", result)
        else:
            self._end("ok", result)
        if result._task.action.rpartition(".")[2] == "debug" and "msg" in told:
            self._write("said", result._host.get_name(), result._task, message=str(told["msg"]))

    def v2_runner_on_skipped(self, result: Any) -> None:
        """It was not to be done."""
        self._end("skipped", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """It failed; in a loop one of its turns has."""
        if ignore_errors:
            self._end("ok", result)
        else:
            self._end("failed", result, **_why(result._result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """There is no way to the host; to one that is not needed there may be none."""
        if result._task.ignore_unreachable:
            self._end("skipped", result)
            return
        self._end("unreachable", result, message=str(result._result.get("msg", ""))[-_LONGEST:])

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """All is over."""
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        self._write("recap", "", None, hosts=hosts)

    def _end(self, event: str, result: Any, **more: Any) -> None:
        self._write(event, result._host.get_name(), result._task, **more)

    def _write(self, event: str, host: str, task: Any, **more: Any) -> None:
        role = task._role.get_name() if task is not None and task._role else ""
        told = {"event": event, "time": time.time(), "host": host, "role": role}
        if task is not None:
            told |= {"task": task.get_name().rpartition(" : ")[2], "action": task.action}
        self._file.write(json.dumps({**told, **more}) + "\n")


def _end_workers_with_us() -> None:
    """Whoever is forked from now on is killed when who forked it is, as this is with the harness.

    A program that a worker has started is not: it ends by itself, and nothing comes after it.
    """
    library, forking = ctypes.CDLL(None), [0]

    def note() -> None:
        forking[0] = os.getpid()

    def follow() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != forking[0]:  # who has been killed before that
            os._exit(1)

    os.register_at_fork(before=note, after_in_child=follow)


def _why(told: dict[str, Any]) -> dict[str, str]:
    failed = [each for each in told.get("results", []) if each.get("failed")]
    told = failed[0] if failed else told
    words = {name: str(told.get(key) or "") for name, key in _WORDS.items()}
    return {name: said[-_LONGEST:] for name, said in words.items()}


_WORDS = {"message": "msg", "stderr": "stderr", "stdout": "stdout"}
