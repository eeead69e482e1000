"""What Ansible does, a sentence for each role; `ansible` hands over its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Event = Mapping[str, Any]
"""As `playbooks/callback_plugins/harness_events.py` writes it."""

ROLES = {
    "host": ("hosts", "prepared"),
    "control_plane": ("control plane", "ready"),
    "network": ("network", "installed from"),
    "worker": ("workers", "joined"),
    "storage": ("storage", "installed from"),
    "upgrade": ("upgrade", "upgraded"),
    "ready": ("cluster", "seen ready from"),
    "reset": ("reset", "as before"),
}
"""The roles that are told, and what has become of hosts after them; others are parts of these."""


CLAIMS = "cluster"
"""The role by which hosts are had alone, before another one and between them."""

_PARTS = {("upgrade", "host")}
"""Roles that are told, and are parts of another one where that has called them."""


class Progress:
    """Takes events in their order; what failed is in `failures`, the end's counts in `recap`.

    `claimed` are the hosts that were asked to be had alone, whoever has them. `alone` is told each
    of them at once when it is seen that nobody else has any.
    """

    def __init__(
        self, said: Callable[[str], None], alone: Callable[[str], None] = lambda _: None
    ) -> None:
        self.failures: list[Event] = []
        self.recap: Mapping[str, Mapping[str, int]] | None = None
        self.claimed: list[str] = []
        self._alone: set[str] = set()
        self._said, self._tell_alone = said, alone
        self._role, self._since, self._until = "", 0.0, 0.0
        self._hosts: dict[str, bool] = {}  # whether anything was done there

    def take(self, event: Event) -> None:
        """One event."""
        role, kind, host = event["role"], event["event"], event["host"]
        role = self._role if (self._role, role) in _PARTS else role
        if kind == "recap" or (role in ROLES and role != self._role):
            self._finish()
            self._role, self._since, self._hosts = role, event["time"], {}
        self._until = event["time"]
        if kind == "recap":
            self.recap = event["hosts"]
        elif kind == "said":
            self._said(f"{host}: {event['message']}")
        elif kind in ("failed", "unreachable"):
            self.failures.append(event)
        if role == CLAIMS:
            self._take_claim(event)
        elif host and role and self._role:  # what is no role's is part of a playbook itself
            tells = kind == "changed" or (role == "ready" and kind == "ok")  # it only looks
            self._hosts[host] = self._hosts.get(host, False) or tells

    def _take_claim(self, event: Event) -> None:
        """The command ends well where somebody else is, too; what follows is asserted of all."""
        if event["event"] != "ok":
            return
        host, action = event["host"], event.get("action", "").rpartition(".")[2]
        if action == "command" and host not in self.claimed:
            self.claimed.append(host)
        elif action == "assert" and host not in self._alone:
            self._tell_alone(host)
            self._alone.add(host)

    def _finish(self) -> None:
        """Tell what has become of the hosts of the role that ended."""
        failed = {each["host"] for each in self.failures}
        names = [each for each in self._hosts if each not in failed]
        if self._role not in ROLES or not names:
            return
        title, done = ROLES[self._role]
        seconds = self._until - self._since
        if failed:
            self._said(f"{title}: stopped after {seconds:.0f} s")
        elif any(self._hosts.values()):
            self._said(f"{title}: {_listed(done, names)} in {seconds:.0f} s")
        else:
            self._said(f"{title}: nothing to change on {', '.join(names)}")


def _listed(done: str, names: list[str]) -> str:
    """`installed from NAME`, but `NAME ready`."""
    who = ", ".join(names)
    return f"{done} {who}" if done.endswith(" from") else f"{who} {done}"
