"""The included collectors: what each claims to see, and its agent as a process to be switched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness import shell
from harness.control import Client, ControlError
from harness.errors import CollectorError, UnavailableError
from harness.model import Claim

READY_SECONDS = 20.0
_GUIDE = "a deployment guide of 2025, 'measured on a 100-node cluster', no method given"
PROFILE_HZ = 19  # the rate of samples
EXPORT_SECONDS = 5.0  # how often an agent exports its metrics


@dataclass(frozen=True)
class Definition:
    """A collector as it is measured.

    `signal` names what coverage counts, `telemetry` the kind whose delay is its data latency.
    """

    name: str
    purpose: str
    signal: Literal["requests", "connections", "executions", "samples"]
    telemetry: Literal["spans", "metrics", "logs"]
    claims: tuple[Claim, ...]
    options: tuple[str, ...] = ()


HTTP = Definition(
    "http",
    "RED metrics of every HTTP/1.1 request, spans of a sample",
    "requests",
    "spans",
    (
        Claim(
            "Beyla: < 0.5 % CPU, 50 MB; 500 ns a request",
            "Grafana Beyla documentation, performance page (2025-02), its own process only",
        ),
        Claim(
            "Beyla in the field: +43 % CPU in the traced Go service",
            "github.com/grafana/beyla/issues/2425",
        ),
    ),
)

FLOWS = Definition(
    "flows",
    "TCP connections: opened, closed, bytes, round-trip time, retransmits",
    "connections",
    "metrics",
    (
        Claim(
            "Hubble: 1-15 %",
            "Cilium documentation, operations/performance/tuning",
        ),
    ),
)

PROFILE = Definition(
    "profile",
    "CPU stacks, user and kernel, at 19 Hz",
    "samples",
    "metrics",
    (
        Claim(
            "Parca: 0.6 % CPU, 200 MB",
            _GUIDE,
        ),
        Claim(
            "OTel eBPF profiler: <= 1 % CPU, <= 250 MB",
            "github.com/open-telemetry/opentelemetry-ebpf-profiler, README",
        ),
    ),
    ("--frequency", str(PROFILE_HZ)),
)

GUARD = Definition(
    "guard",
    "Executions, sensitive files, outgoing connects; SIGKILL by policy",
    "executions",
    "logs",
    (
        Claim(
            "Tetragon: 0.5 % CPU, 100 MB",
            _GUIDE,
        ),
        Claim(
            "Tetragon: +10.6 % time for a kernel build, unfiltered",
            "Tetragon's own benchmark, since withdrawn (github.com/cilium/tetragon, 2023-10)",
        ),
    ),
)


class AgentProcess:
    """One collector's agent: started detached, then switched on and off over its socket."""

    def __init__(
        self,
        definition: Definition,
        *,
        target_cgroup: Path,
        own_cgroup: Path,
        otlp_url: str,
        folder: Path,
        socket: Path,
        cpus: Sequence[int] = (),
        service_name: str = "workload",
    ) -> None:
        self.definition = definition
        self.name = definition.name
        self.ready: dict[str, Any] = {}
        self._socket, self._cpus, self._own_cgroup = socket, cpus, own_cgroup
        self._log = folder / f"agent-{definition.name}.log"
        self._client: Client | None = None
        self._argv = [
            sys.executable, "-m", "harness.agent", definition.name,
            "--cgroup", str(target_cgroup), "--otlp", otlp_url,
            "--control", str(socket), "--service-name", service_name, "--off",
            "--interval", str(EXPORT_SECONDS),
            *definition.options,
        ]  # fmt: skip
        self._pprof = folder / "pprof" if definition.name == "profile" else None
        if self._pprof is not None:
            self._argv += ["--pprof", str(self._pprof)]

    @property
    def pid(self) -> int:
        """The agent's process id."""
        return self._process.pid

    @property
    def program_ids(self) -> list[int]:
        """The kernel's ids of the BPF programs that this agent loaded."""
        return [int(program["id"]) for program in self.ready["programs"]]

    def start(self) -> None:
        """Start the process, without waiting, so that several can load side by side."""
        if self._pprof is not None:
            self._pprof.mkdir(exist_ok=True)
        self._process = shell.spawn(
            self._argv, log=self._log, cgroup=self._own_cgroup, cpus=self._cpus, pipe_stdout=True
        )

    def await_ready(self) -> None:
        """Wait until its programs are loaded; UnavailableError if they cannot be."""
        self.ready = self._told()
        self._client = Client(self._socket)

    def send_switch(self, on: bool) -> None:
        """Tell the agent to attach or detach, without waiting."""
        self._connected.send("on" if on else "off")

    def receive_switch(self) -> dict[str, Any]:
        """When it took effect (`at_ns`, CLOCK_MONOTONIC) and how long it took (`seconds`)."""
        return self._answer(self._connected.receive)

    def switch(self, on: bool) -> dict[str, Any]:
        """Attach or detach and wait until it took effect."""
        return self._answer(lambda: self._connected.call("on" if on else "off"))

    def stats(self) -> dict[str, Any]:
        """Events, losses and the memory of maps, as the agent counts them."""
        return self._answer(lambda: self._connected.call("stats"))

    def flush(self) -> dict[str, Any]:
        """Export all that was seen up to now; answers after the receiver acknowledged it."""
        return self._answer(lambda: self._connected.call("flush"))

    def remove(self) -> dict[str, Any]:
        """Detach, export the rest, end the process; how long detaching took."""
        try:
            return self._answer(lambda: self._connected.call("stop"))
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process however it is; the kernel detaches what it had attached."""
        if self._client is not None:
            self._client.close()
        shell.stop(self._process)
        self._socket.unlink(missing_ok=True)

    @property
    def _connected(self) -> Client:
        assert self._client is not None, "await_ready() comes first"
        return self._client

    def _answer(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return call()
        except ControlError as error:
            code = self._process.poll()
            state = "does not answer" if code is None else f"ended with exit code {code}"
            raise CollectorError(
                f"The agent of collector {self.name!r} {state}.",
                f"{error}.",
                f"Its log is {self._log}.",
            ) from error

    def _told(self) -> dict[str, Any]:
        answer = shell.announced(self._process, READY_SECONDS)
        if answer is None:
            tail = " ".join(self._log.read_text(errors="replace").strip().splitlines()[-2:])
            raise CollectorError(
                f"Collector {self.name!r} did not start.", tail, f"Its log is {self._log}."
            )
        if not answer["ready"]:
            raise UnavailableError(
                f"Collector {self.name!r} cannot run here: {answer['what']}",
                answer.get("why", ""),
                answer.get("next_step", ""),
            )
        return answer


def switch_all(agents: Iterable[AgentProcess], on: bool) -> list[dict[str, Any]]:
    """Switch several agents at once: all are told before the first answer is awaited."""
    told = list(agents)
    for agent in told:
        agent.send_switch(on)
    return [agent.receive_switch() for agent in told]
