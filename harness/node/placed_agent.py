"""A collector that a cluster runs: moved to the measured node and away from it; for `install`.

It speaks no protocol of ours: it is there or not. Its CPU is that of its containers' cgroups, its
memory that of their processes, its programs those that appear with it.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.errors import CollectorError, HarnessError, InputError, UnavailableError
from harness.linux import bpf_programs, cgroup
from harness.linux.procfs import HOST
from harness.meters.bpfstats import Watched
from harness.node import subject
from harness.node.agent_process import AgentProcess
from harness.node.line import Gone
from harness.node.testbed import Testbed
from harness.wire.driving import Call, Displace, Place
from harness.wire.spec import CollectorSpec, Found

_OF_RUNTIMES = {"cgroup_device"}  # what a container's runtime loads for each container
CALM_SECONDS = 3.0  # without another program, it has loaded what it loads
LOADING_SECONDS = 30.0  # at most; some go on for ever, as processes come and go


class PlacedAgent(AgentProcess):
    """A DaemonSet of the cluster, on this node while a trial has it installed."""

    def __init__(self, spec: CollectorSpec, testbed: Testbed, folder: Path) -> None:
        super().__init__(
            spec, target_cgroup=testbed.service.cgroup, own_cgroup=None, otlp_url="",
            folder=folder, socket=testbed.machine.socket(spec.name),
        )  # fmt: skip
        self._ask, self._attend = testbed.ask, testbed.attend
        self._containers: list[str] = []
        self._places: list[Path] = []
        self._is_there = False
        self._before = frozenset[int]()

    @property
    def counts(self) -> bool:
        """It says nothing to us."""
        return False

    @property
    def cgroups(self) -> list[Path]:
        """Those of its containers."""
        return self._places

    def pids(self) -> list[int]:
        """The processes of its containers."""
        return [pid for path in self._places for pid in cgroup.processes(path)]

    def start(self) -> None:
        """Have it moved here, and wait until its containers are ready."""
        self._before, self._is_there = bpf_programs.ids(), True
        try:
            found, _ = self._ask(Call(Place(self.spec.daemonset)))
        except HarnessError as error:
            self.kill()  # it may come after all
            raise self._failed(error) from error
        self._containers = [str(each) for each in found["containers"]]

    def await_ready(self) -> None:
        """Find its cgroups and programs; UnavailableError if it shares a cgroup with others."""
        try:
            homes = [subject.of(Found(self.name, "", container=each)) for each in self._containers]
        except InputError as error:  # a container that was started anew meanwhile
            raise self._failed(error) from error
        if shared := [each for each in homes if each.strangers()]:
            raise UnavailableError(
                f"Collector {self.name!r} shares the cgroup v2 {shared[0].home} with others.",
                "What it costs itself cannot be told from what they do.",
                "Measure on a node whose runtime gives each container a cgroup v2.",
                collector=self.name,
            )
        self._places = sorted({each.home for each in homes})
        self.ready = {"programs": [{"id": each} for each in sorted(self._loaded())]}

    def send_switch(self, on: bool) -> None:
        """Nothing: it is there."""

    def receive_switch(self) -> dict[str, Any]:
        """It took no time."""
        return {"at_ns": time.monotonic_ns()}

    def switch(self, on: bool) -> dict[str, Any]:
        """Nothing: it is there; no time is told."""
        return self.receive_switch()

    def stats(self) -> dict[str, Any]:
        """It counts nothing for us."""
        return {}

    def flush(self) -> dict[str, Any]:
        """It exports by its own clock."""
        return {}

    def remove(self) -> dict[str, Any]:
        """Have it moved away."""
        self.kill()
        return {}

    def kill(self) -> None:
        """Have it moved away, if it is here; a controller that is gone does so before a block."""
        if not self._is_there:
            return
        try:
            self._ask(Call(Displace(self.spec.daemonset)))
        except Gone:
            self._is_there = False
            return
        except HarnessError as error:
            raise self._failed(error) from error
        self._is_there, self._places = False, []
        self._require_unloaded()

    def _failed(self, error: HarnessError) -> CollectorError:
        return CollectorError(error.what, error.why, error.next_step, collector=self.name)

    def _loaded(self) -> set[int]:
        """The programs that were loaded since it was asked for, once no more come.

        Those that another process holds are not its own; what nobody holds is pinned or attached.
        """
        begun = calm = time.monotonic()
        known: frozenset[int] = frozenset()
        while time.monotonic() - calm < CALM_SECONDS and time.monotonic() - begun < LOADING_SECONDS:
            if (now := bpf_programs.ids() - self._before) != known:
                known, calm = now, time.monotonic()
            self._attend()
            time.sleep(0.1)
        mine = set(self.pids())
        others = {each for pid in HOST.pids() if pid not in mine for each in bpf_programs.held(pid)}
        with closing(Watched(known)) as watched:
            runtimes = {i for i, each in watched.read().items() if each.type in _OF_RUNTIMES}
        return set(known) - others - runtimes
