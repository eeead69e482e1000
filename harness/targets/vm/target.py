"""A cluster on machines as a target, and one of its hosts bare; for `targets`.

In the cluster it is measured as in any that exists, on a host as on any that ssh reaches.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError
from harness.targets.base import Target, Tell
from harness.targets.kubernetes import images
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.target import KEYS, InCluster
from harness.targets.ssh import Ssh
from harness.targets.vm import inventory, nodes, noted
from harness.targets.vm.noted import Noted
from harness.targets.vm.rollout import require_cluster

_BARE = ("host", "name", "inventory")


def on_machines(given: str) -> Target:
    """What `vm`, `vm,name=NAME,node=NODE` or `vm,host=HOST,inventory=FILE` name."""
    said = _read(given)
    if "host" in said:
        return BareHost(given, said)
    return ClusterOnMachines(given)


class ClusterOnMachines(InCluster):
    """A node of the cluster that `harness up --target vm` made."""

    def __init__(self, given: str) -> None:
        super().__init__("vm", given)
        self._registry = self._options.registry

    @property
    def caution(self) -> str:
        """What is shared that would be apart elsewhere."""
        return require_cluster(self._options.name).caution

    def load_image(self, tell: Tell) -> None:
        """Bring ours to the machines, unless they pull it."""
        if self._registry:
            return
        images.build(tell)
        with nodes.reached(require_cluster(self._options.name).cluster) as there:
            there.load([self._image], tell)


class BareHost(Ssh):
    """A host of an inventory, or of a cluster on machines, as ssh reaches it."""

    def __init__(self, given: str, said: dict[str, str]) -> None:
        known = _hosts(said)
        found = noted.host(known, said["host"])
        super().__init__(found.name, connection=found.connection())
        self.name, self.caution = f"vm,{given}", known.caution


def _hosts(said: dict[str, str]) -> Noted:
    if file := said.get("inventory"):
        return Noted(file, inventory.read(Path(file)))
    return require_cluster(said.get("name", Options.name))


def _read(given: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for word in filter(None, given.split(",")):
        key, equals, value = word.partition("=")
        if not equals or not value or key in said:
            raise _unread(given, word)
        said[key] = value
    known = _BARE if "host" in said else KEYS["vm"]
    for key in said:
        if key not in known:
            raise _unread(given, key)
    return said


def _unread(given: str, word: str) -> InputError:
    return InputError(
        f"The target vm,{given} cannot be read at {word!r}.",
        f"Known are, once each: {', '.join(f'{key}=' for key in KEYS['vm'])} for a node of the "
        f"cluster, {', '.join(f'{key}=' for key in _BARE)} for a host by itself.",
        "Write vm,name=NAME,node=NODE or vm,host=HOST,inventory=FILE.",
    )
