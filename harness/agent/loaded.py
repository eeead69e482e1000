"""A collector in the kernel: its object loaded, its programs switched on and off; used by hosted.

Calls come from several threads: of the control socket, of draining, of whoever ends the process.
"""

from __future__ import annotations

import logging
import mmap
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from harness.agent import cgroup
from harness.agent.collector import Attachment, Collector, Scaling
from harness.agent.errors import AgentError
from harness.agent.hooks import hook_type
from harness.agent.libbpf import Object, Program
from harness.wire.cpus import MANY_CPUS

_LEAST_KIB, _MOST_KIB = 64, 1 << 20
_log = logging.getLogger("harness.agent")


class Loaded:
    """Loads on construction, and attaches to the cgroup, and to the one that takes its place."""

    def __init__(self, collector: Collector, options: Namespace) -> None:
        self._scope = cgroup.Scope(options.cgroup)
        began = time.monotonic()
        self._collector = collector
        self.object = Object(options.bpf / f"{collector.name}.bpf.o", options.btf)
        collector.configure(self.object)
        if options.ring_kib is not None:
            _size(self.object, options.ring_kib)
        self.object.load()
        collector.start(self.object)
        collector.aim(self.object, self._scope.directory)
        self._load_seconds = time.monotonic() - began
        self._attachments: Sequence[Attachment] = ()
        self._wanted, self._aimed = False, True
        self.reattached = 0
        self._switching = threading.Lock()

    def ready(self, *, off: bool) -> dict[str, Any]:
        """Attach once, which proves that it can, and tell; with `off` detach again."""
        began = time.monotonic()
        self.on()
        attach_seconds = time.monotonic() - began
        hooks = [each.hook for each in self._attachments]
        if off:
            self.off()
        scaling = isinstance(self._collector, Scaling) and self._collector.entries(MANY_CPUS)
        return {
            "ready": True,
            "name": self._collector.name,
            "hooks": hooks,
            "programs": [_told(program) for program in self.object.programs],
            "load_seconds": self._load_seconds,
            "attach_seconds": attach_seconds,
            "entries_on_many_cpus": scaling or {},
        }

    def on(self) -> dict[str, Any]:
        """Attach; `at_ns` is when all of it ran. Nothing changes if it is on."""
        with self._switching:
            began = time.monotonic_ns()
            self._scope.require()
            self._wanted = True
            try:
                self._follow()
            except Exception:
                self._wanted = False
                raise
            return _switched(began)

    def off(self) -> dict[str, Any]:
        """Detach; `at_ns` is when nothing of it ran any more. Nothing changes if it is off."""
        with self._switching:
            began = time.monotonic_ns()
            self._wanted = False
            self._detach()
            return _switched(began)

    def follow(self) -> None:
        """Take the cgroup that is there now, and be attached to it if that is wanted."""
        with self._switching:
            self._follow()

    def close(self) -> None:
        """Unload; it must be off, and the collector closed."""
        self.object.close()
        self._scope.close()

    def _follow(self) -> None:
        """Where there is no cgroup there is nothing to see, and it may come back."""
        if self._scope.renew():
            self._detach()
            self._aimed = False
        if not self._aimed:
            self._collector.aim(self.object, self._scope.directory)
            self._aimed = True
            self.reattached += 1
            _log.warning("The cgroup %s was made anew: it is traced again.", self._scope.path)
        if self._wanted and not self._attachments and not self._scope.gone:
            self._attachments = self._collector.attach(self.object)

    def _detach(self) -> None:
        for each in self._attachments:
            each.destroy()
        self._attachments = ()


def _size(obj: Object, kib: int) -> None:
    """Make the ring buffers of events larger; those of a page hold what is read at once."""
    if not (_LEAST_KIB <= kib <= _MOST_KIB and kib.bit_count() == 1):
        raise AgentError(
            f"--ring-kib {kib} is no size of a ring buffer.",
            f"It is a power of two from {_LEAST_KIB} to {_MOST_KIB}.",
            "A second of 20,000 spans takes 4096.",
        )
    for ring in obj.rings:
        if ring.max_entries > mmap.PAGESIZE:
            ring.resize(1024 * kib)


def _told(program: Program) -> dict[str, Any]:
    info = program.info()
    hook = hook_type(program.section)
    return {"id": info.id, "name": info.name, "type": info.type, "hook": hook}


def _switched(began_ns: int) -> dict[str, Any]:
    now = time.monotonic_ns()
    return {"at_ns": now, "seconds": (now - began_ns) / 1e9}
