"""The cgroups of selected pods, as the programs of a collector know them; for `containers`."""

from __future__ import annotations

import logging
import sys

from harness.agent.errors import AgentError, FullError
from harness.agent.libbpf import Object
from harness.agent.maps import Map

_MOST = 8192  # of all selected pods of a node, those that are gone for a while among them
_log = logging.getLogger("harness.agent")


class Selected:
    """Writes the map `selected` of bpf/selected.bpf.h, from `start` to `close`."""

    def __init__(self) -> None:
        self._map: Map | None = None
        self._there: set[int] = set()
        self._waiting: dict[int, None] = {}  # those that found no room, the first first
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
        """Let this one be seen, or not; whether any is seen now that was not.

        One that finds no room is seen when another one goes.
        """
        if not taken:
            self._waiting.pop(cgroup, None)
        if self._map is None or (cgroup in self._there) == taken:
            return False
        if taken:
            return self._write(self._map, cgroup)
        self._there.discard(cgroup)
        self._map.delete(_key(cgroup))
        return self._let_in(self._map)

    def close(self) -> None:
        """Write no more: the map goes with its object."""
        self._map = None

    def _write(self, target: Map, cgroup: int) -> bool:
        try:
            target.update(_key(cgroup), b"\1")
        except FullError:
            self._waiting.setdefault(cgroup)
            if not self._warned:
                self._warned = True
                _log.warning("Selected pods have more than %d cgroups: some are not seen.", _MOST)
            return False
        except AgentError as error:
            self._waiting.pop(cgroup, None)
            _log.warning("A cgroup of a selected pod is not seen: %s", error)
            return False
        self._waiting.pop(cgroup, None)
        self._there.add(cgroup)
        return True

    def _let_in(self, target: Map) -> bool:
        """Give the room that there is now to those that waited longest."""
        found = False
        for cgroup in list(self._waiting):
            found |= self._write(target, cgroup)
            if cgroup in self._waiting:  # no more room
                break
        return found


def _key(cgroup: int) -> bytes:
    return cgroup.to_bytes(8, sys.byteorder)
