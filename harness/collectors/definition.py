"""A collector as it is known before it runs; made by `included`, `spec` and `subject`."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.model import Claim, Method
from harness.wire.subject import Subject
from harness.wire.telemetry import SIGNALS, TelemetryKind

EXPORT_SECONDS = 3.0  # how often an agent exports its metrics; docs/adr/0013 says why
JOBS = ("tracing", "security", "profiling", "network")  # those that do one are shown side by side
_SLUG_LENGTH = 40  # it becomes part of the path of a socket, which may have 107 characters
_UNSAFE = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True)
class Definition:
    """A collector as it is measured.

    `signal` names what coverage counts, `telemetry` the kind whose delay is its data latency;
    each is None where there is nothing to count. `agent` is the name that `harness.agent` knows it
    by, `accepts` the options that a spec may set; an external collector has a `command` instead,
    one that a cluster runs a `daemonset` (NAMESPACE/NAME), which the target moves.
    It cannot run without its `hooks` (by the names of `linux.bpf_features.PROBES`), and takes
    another one where the kernel refuses one of those that it `prefers`. One that
    `writes_profiles` is given a folder for them; its `job` is one of JOBS, if it does one.
    Somebody else's, which speaks no protocol of ours, is a `subject`, and compared by a `method` of
    its own.
    """

    name: str
    purpose: str
    signal: str | None
    telemetry: TelemetryKind | None
    claims: tuple[Claim, ...] = ()
    agent: str = ""
    accepts: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""
    command: tuple[str, ...] = ()
    scope: str = ""
    hooks: tuple[str, ...] = ()
    prefers: tuple[str, ...] = ()
    writes_profiles: bool = False
    job: str = ""
    daemonset: str = ""
    subject: Subject | None = None
    method: Method | None = None

    @property
    def slug(self) -> str:
        """The name of this instance, safe for folders and cgroups: `profile-frequency-99`."""
        if not self.variant:
            return self.name
        words = re.sub("[=,]", "-", self.variant.lower())
        slug = f"{self.name}-{_UNSAFE.sub('-', words)}"
        if slug == f"{self.name}-{words}" and len(slug) <= _SLUG_LENGTH:
            return slug
        # what was changed or cut off could be the only difference from another instance
        mark = hashlib.sha256(self.variant.encode()).hexdigest()[:6]
        return f"{slug[: _SLUG_LENGTH - len(mark) - 1].rstrip('-')}-{mark}"

    @property
    def export_seconds(self) -> float:
        """How often it exports its metrics."""
        return float(self.options.get("interval", EXPORT_SECONDS))

    @property
    def tells_instance(self) -> bool:
        """Whether its telemetry carries the slug as service.instance.id."""
        return bool(self.agent) or any("{instance}" in word for word in self.command)

    @property
    def by_socket(self) -> bool:
        """Whether it knows the service by the cgroup of its sockets."""
        told = self.signal is not None and SIGNALS[self.signal].by_socket
        return told or "cgroup_skb" in self.hooks

    def instance(self, variant: str, options: Mapping[str, str]) -> Definition:
        """The same collector with other options; `variant` is how they were written."""
        merged = {**self.options, **options}
        return dataclasses.replace(self, variant=variant, options=merged)
