"""`python -m harness.agent.answerer`: lets processes open a file, or not; a process of its own.

Everybody on the machine who opens a file with a `kill` rule waits for this process. So it does
little, imports little, writes to no disk, waits for nobody, and holds the fanotify group alone:
when it ends, the kernel lets all who wait go on. It ends itself at the first error, and when it
has not finished a round for WATCHDOG_SECONDS the kernel ends it. See docs/adr/0007.

It is told what to watch over a socket, one JSON object a message, and answers each:

    {}                  {"lost": 0}
    {"mark": [PATH]}    {"lost": 0, "files": [[DEVICE, INODE] or null]}
    {"unmark": true}    {"lost": 0}

Whom it denied a file and killed, it tells over another one, one JSON object a line. Nobody has to
read that: what no longer fits is counted as lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

from harness.agent import cgroup, opener
from harness.agent.fanotify import Group, Opened
from harness.agent.watchdog import Watchdog

WATCHDOG_SECONDS = 0.7
MESSAGE_BYTES = 1 << 17
_ROUND_SECONDS = 0.3
_ROUND_OPENERS = 16  # so that a round is short, however many wait
_UNREAD_BYTES = 1 << 18  # besides what the socket holds


class Answerer:
    """Lets everybody pass but processes of the cgroup `scope`, which it kills."""

    def __init__(self, scope: Path, control: socket.socket, told: socket.socket) -> None:
        self._scope, self._control, self._told = scope, control, told
        self._group = Group(asks=True)
        self._watchdog = Watchdog(WATCHDOG_SECONDS)
        self._marked = self._watched = False
        self._lost = 0
        self._unread = bytearray()

    def run(self) -> None:
        """Answer, until the agent is gone."""
        poll = select.poll()
        poll.register(self._group.fd, select.POLLIN)
        poll.register(self._control.fileno(), select.POLLIN)
        while True:
            if self._watched and not self._group.unanswered:
                self._watchdog.renew()
            ready = {fd for fd, _ in poll.poll(_ROUND_SECONDS * 1000 if self._watched else None)}
            if self._group.fd in ready:
                self._answer()
            if self._control.fileno() in ready and not self._obey():
                return
            if not ready and not self._marked:  # nor does anyone come who saw a mark just before
                self._watched = False
                self._watchdog.sleep()
            if self._unread:
                self._pass_on()

    def close(self) -> None:
        """Remove the marks; whoever waits goes on."""
        self._group.close()

    def _answer(self) -> None:
        """Answer the first who wait, strangers before others."""
        waiting = self._group.read(_ROUND_OPENERS)
        members = set(cgroup.pids(self._scope)) if waiting else set()
        for opened in sorted(waiting, key=lambda each: each.pid in members):
            if opened.pid in members:
                self._deny(opened)
            else:
                self._group.answer(opened, allow=True)

    def _deny(self, opened: Opened) -> None:
        try:
            process = opener.described(opened.pid)  # while it is there
            cgroup.kill(opened.pid, self._scope)
        finally:
            self._group.answer(opened, allow=False)
        self._tell({"process": process, "file": opened.file, "path": opened.path})

    def _tell(self, record: dict[str, Any]) -> None:
        if len(self._unread) > _UNREAD_BYTES:
            self._lost += 1
            return
        told = {"at_ns": time.monotonic_ns(), "lost": self._lost, **record}
        self._unread += json.dumps(told).encode() + b"\n"

    def _pass_on(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the agent does not read
            del self._unread[: self._told.send(self._unread, socket.MSG_DONTWAIT)]

    def _obey(self) -> bool:
        """Do what the agent wants; False if it is gone."""
        message = self._control.recv(MESSAGE_BYTES)
        if not message:
            return False
        request, answer = json.loads(message), {}
        if "mark" in request:
            if not self._watched:
                self._watchdog.renew()
            self._marked = self._watched = True
            answer["files"] = [self._group.mark(path) for path in request["mark"]]
        elif "unmark" in request:
            self._group.unmark()
            self._marked = False
        reply = json.dumps({"lost": self._lost, **answer}).encode()
        self._control.send(reply, socket.MSG_DONTWAIT)
        return True


def main(arguments: list[str]) -> None:
    """Serve the cgroup named first, over the two sockets that are open as the numbers after it."""
    scope, control, told = arguments
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)  # others wait for us
    answerer = Answerer(
        Path(scope), socket.socket(fileno=int(control)), socket.socket(fileno=int(told))
    )
    try:
        answerer.run()
    finally:
        answerer.close()  # before anything that may take its time, such as telling of an error


if __name__ == "__main__":
    main(sys.argv[1:])
