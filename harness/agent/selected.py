"""The cgroups of selected pods, as the programs of a collector know them; for `containers`."""

from __future__ import annotations

import logging
import sys

from harness.agent.errors import AgentError
from harness.agent.libbpf import Object
from harness.agent.maps import Map

_MOST = 8192  # of all selected pods of a node, those that are gone for a while among them
_log = logging.getLogger("harness.agent")


class Selected:
    """Writes the map `selected` of bpf/selected.bpf.h, from `start` to `close`."""

    def __init__(self) -> None:
        self._map: Map | None = None
        self._there: set[int] = set()
        self._warned = False

    @staticmethod
    def prepare(obj: Object) -> None:
        """Let the programs see what is in the map only, before they are loaded."""
        obj.set("targ_selecting", True)
        obj.map("selected").resize(_MOST)

    def start(self, obj: Object) -> None:
        """Write from now on."""
        self._map = obj.map("selected")

    def put(self, cgroup: int, taken: bool) -> bool:
        """Let this one be seen, or not; whether that is new."""
        if self._map is None or (cgroup in self._there) == taken:
            return False
        key = cgroup.to_bytes(8, sys.byteorder)
        if not taken:
            self._there.discard(cgroup)
            self._map.delete(key)
            return True
        try:
            self._map.update(key, b"\1")
        except AgentError as error:
            if not self._warned:
                self._warned = True
                _log.warning("Selected pods have more than %d cgroups: %s", _MOST, error)
            return False
        self._there.add(cgroup)
        return True

    def close(self) -> None:
        """Write no more: the map goes with its object."""
        self._map = None
