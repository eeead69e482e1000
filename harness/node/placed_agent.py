"""A collector that a cluster runs: moved to the measured node and away; `install`, `part_agent`.

It speaks no protocol of ours: it is there or not. Its CPU is that of its containers' cgroups, its
memory that of their processes, its programs those that appear with it.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import CollectorError, HarnessError, InputError, UnavailableError
from harness.linux import bpf_programs, cgroup
from harness.node import loaded_programs, subject
from harness.node.foreign_agent import ForeignAgent
from harness.node.line import Gone
from harness.node.testbed import Testbed
from harness.wire.driving import Call, Displace, OfCluster, Place
from harness.wire.spec import CollectorSpec, Found

CALM_SECONDS = 3.0  # without another program, it has loaded what it loads
LOADING_SECONDS = 30.0  # at most; some go on for ever, as processes come and go


class PlacedAgent(ForeignAgent):
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
        self._coming: OfCluster = Place(spec.daemonset)
        self._going: OfCluster = Displace(spec.daemonset)

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
            found, _ = self._ask(Call(self._coming))
        except HarnessError as error:
            self.kill()  # it may come after all
            raise self._failed(error) from error
        self._containers = [str(each) for each in found["containers"]]

    def await_ready(self) -> None:
        """Find its cgroups and programs; UnavailableError if it shares a cgroup with others."""
        self._find()
        loaded = loaded_programs.since(
            self._before, self.pids, self._attend,
            calm_seconds=CALM_SECONDS, limit_seconds=LOADING_SECONDS,
        )  # fmt: skip
        self.ready = {"programs": [{"id": each} for each in sorted(loaded)]}

    def _find(self) -> None:
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

    def kill(self) -> None:
        """Have it moved away, if it is here; a controller that is gone does so before a block."""
        if not self._is_there:
            return
        try:
            self._ask(Call(self._going))
        except Gone:
            self._is_there = False
            return
        except HarnessError as error:
            raise self._failed(error) from error
        self._is_there, self._places = False, []
        self._require_unloaded()

    def _failed(self, error: HarnessError) -> CollectorError:
        return CollectorError(error.what, error.why, error.next_step, collector=self.name)
