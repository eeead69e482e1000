"""A collector's agent as a process: started detached, then switched; `trial` and its parts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import CollectorError, UnavailableError
from harness.linux import bpf_programs, cgroup, processes
from harness.node.service import filled
from harness.wire.control import Client, ControlError
from harness.wire.spec import CollectorSpec

READY_SECONDS = 20.0
GRACE_SECONDS = 5.0  # after SIGTERM, for what of it is left
COUNTED = ("events", "lost", "map_bytes")  # what the answer to `flush` tells
GUIDE = 'docs/guide.md, "Your own collector", says what a collector answers.'


class AgentProcess:
    """One collector's agent: started detached, then switched on and off over its socket.

    `instance` is the service.instance.id of its telemetry, its name if it is not given. One that
    profiles sends its stacks to a Parca at `profiles_url`, if there is one. Without a cgroup of its
    own, which takes root, only what stays in its session is ended with it.
    """

    def __init__(
        self,
        spec: CollectorSpec,
        *,
        target_cgroup: Path,
        own_cgroup: Path | None,
        otlp_url: str,
        folder: Path,
        socket: Path,
        cpus: Sequence[int] = (),
        service_name: str = "workload",
        instance: str = "",
        profiles_url: str = "",
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.instance = instance or self.name
        self.ready: dict[str, Any] = {}
        self.goes_on = False  # whether its cgroups and maps are of what goes on without it
        self._socket, self._cpus, self._own_cgroup = socket, cpus, own_cgroup
        self._profiles_url = profiles_url
        self._folder, self._log = folder, folder / f"agent-{self.name}.log"
        self._client: Client | None = None
        self._values = {
            "cgroup": str(target_cgroup),
            "otlp": otlp_url,
            "control": str(socket),
            "service": service_name,
            "interval": f"{spec.export_seconds:g}",
            "instance": self.instance,
            "python": sys.executable,
        }

    @property
    def pid(self) -> int:
        """The process id of what was started; that may have started others."""
        return self._process.pid

    @property
    def counts(self) -> bool:
        """Whether it tells what it saw, and is flushed."""
        return True

    @property
    def cgroups(self) -> list[Path]:
        """Those whose CPU time is its own; none if it has none of its own."""
        return [self._own_cgroup] if self._own_cgroup else []

    def pids(self) -> list[int]:
        """All processes that it is made of now."""
        return cgroup.processes(self._own_cgroup) if self._own_cgroup else [self.pid]

    @property
    def program_ids(self) -> list[int]:
        """The kernel's ids of the BPF programs that this agent loaded."""
        return [int(program["id"]) for program in self.ready["programs"]]

    @property
    def hooks(self) -> dict[int, str]:
        """The type of hook that each of them takes, by id: `cgroup_skb`, `tp_btf`, ..."""
        programs = self.ready["programs"]
        return {int(each["id"]): str(each["hook"]) for each in programs if "hook" in each}

    def start(self) -> None:
        """Start the process, without waiting, so that several can load side by side."""
        argv = self._included() if self.spec.agent else self._external()
        self._process = processes.spawn(
            argv, log=self._log, cgroup=self._own_cgroup, cpus=self._cpus
        )

    def await_ready(self) -> None:
        """Wait until its programs are loaded; UnavailableError if they cannot be."""
        self.ready = self._told()
        try:
            self._client = Client(self._socket)
        except OSError as error:
            raise CollectorError(
                f"Collector {self.name!r} says that it is ready, but does not listen.",
                f"{self._socket}: {error.strerror}.",
                GUIDE,
                collector=self.name,
            ) from error

    def send_switch(self, on: bool) -> None:
        """Tell the agent to attach or detach, without waiting."""

        def send() -> dict[str, Any]:
            self._connected.send("on" if on else "off")
            return {}

        self._answer(send)

    def receive_switch(self) -> dict[str, Any]:
        """When it took effect (`at_ns`, CLOCK_MONOTONIC) and how long it took (`seconds`)."""
        return self._answer(self._connected.receive)

    def switch(self, on: bool) -> dict[str, Any]:
        """Attach or detach and wait until it took effect."""
        return self._numbers("on" if on else "off", "seconds")

    def stats(self) -> dict[str, Any]:
        """Events, losses and the memory of maps, as the agent counts them."""
        return self._answer(lambda: self._connected.call("stats"))

    def flush(self) -> dict[str, Any]:
        """Export all that was seen up to now; answers after the receiver acknowledged it."""
        return self._numbers("flush", *COUNTED)

    def remove(self) -> dict[str, Any]:
        """Detach, export the rest, end the process; how long detaching took."""
        try:
            return self._answer(lambda: self._connected.call("stop"))
        finally:
            self.kill()

    def kill(self) -> None:
        """End all that it is made of, however it is; the kernel detaches what it had attached.

        That is everything in its cgroup: also what a wrapper left behind, or a daemon that left its
        session. ComponentError if something of it does not end, CollectorError if its programs stay
        loaded: that would be measured as off.
        """
        if self._client is not None:
            self._client.close()
        if self._own_cgroup is not None:
            cgroup.terminate(self._own_cgroup, GRACE_SECONDS)
        processes.stop(self._process)  # waits for it, and ends what is in its session elsewhere
        self._socket.unlink(missing_ok=True)
        self._require_unloaded()

    def _require_unloaded(self) -> None:
        told = self.program_ids if self.ready else []
        if told and (left := bpf_programs.remaining(told)):
            raise CollectorError(
                f"BPF programs of collector {self.name!r} stay loaded: "
                f"{', '.join(bpf_programs.described(left))}.",
                "What is attached goes on to cost the service, which would be measured as off.",
                "Let the collector unpin and detach them when it is told to stop.",
                collector=self.name,
            )

    def _included(self) -> list[str]:
        argv = ["{python}", "-m", "harness.agent", self.spec.agent]
        argv += ["--cgroup", "{cgroup}", "--otlp", "{otlp}", "--control", "{control}"]
        argv += ["--service-name", "{service}", "--instance-id", "{instance}", "--off"]
        argv = [word.format(**self._values) for word in argv]
        options = {"interval": self._values["interval"], **self.spec.options}
        for name, value in options.items():
            argv += [f"--{name}={filled(value)}"]
        if self.spec.writes_profiles:
            argv += ["--pprof", str(self._profile_folder())]
            argv += ["--parca", self._profiles_url] if self._profiles_url else []
        return argv

    def _external(self) -> list[str]:
        found = self.spec.command
        for name, value in self._values.items():
            found = tuple(word.replace(f"{{{name}}}", value) for word in found)
        return list(found)

    def _profile_folder(self) -> Path:
        """`pprof`, or a folder by its own name beside that of another instance."""
        folder = self._folder / "pprof"
        try:
            folder.mkdir()
        except FileExistsError:
            folder = self._folder / f"pprof-{self.name}"
            folder.mkdir(exist_ok=True)
        return folder

    @property
    def _connected(self) -> Client:
        assert self._client is not None, "await_ready() comes first"
        return self._client

    def _numbers(self, cmd: str, *keys: str) -> dict[str, Any]:
        """The answer to a command; CollectorError if one of these keys is not a number in it."""
        answer = self._answer(lambda: self._connected.call(cmd))
        missing = [key for key in keys if not isinstance(answer.get(key), int | float)]
        if missing:
            raise CollectorError(
                f"Collector {self.name!r} answers `{cmd}` without {', '.join(missing)}.",
                f"Each is a number. What it answers: {json.dumps(answer)[:200]}.",
                GUIDE,
                collector=self.name,
            )
        return answer

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
                collector=self.name,
            ) from error
        except ValueError as error:
            raise CollectorError(
                f"Collector {self.name!r} answers with something that is no JSON object.",
                f"{error}.",
                GUIDE,
                collector=self.name,
            ) from error

    def _told(self) -> dict[str, Any]:
        answer = processes.announced(self._process, READY_SECONDS)
        if answer is None:
            said = " ".join(processes.last_words(self._log, 2))
            raise CollectorError(
                f"Collector {self.name!r} did not start.",
                said,
                f"Its log is {self._log}.",
                collector=self.name,
            )
        if not answer.get("ready"):
            what = answer.get("what", "it says that it is not ready.")
            raise UnavailableError(
                f"Collector {self.name!r} cannot run here: {what}",
                answer.get("why", ""),
                answer.get("next_step", ""),
                collector=self.name,
            )
        if not _are_programs(answer.get("programs")):
            raise CollectorError(
                f"The ready line of collector {self.name!r} does not tell its BPF programs.",
                "Their run time is a part of the bill.",
                'It holds `"programs": [{"id": ID, "hook": TYPE}, ...]`, which may be empty.',
                collector=self.name,
            )
        return answer


def _are_programs(told: Any) -> bool:
    return isinstance(told, list) and all(
        isinstance(each, dict) and isinstance(each.get("id"), int) for each in told
    )


def switch_all(agents: Iterable[AgentProcess], on: bool) -> list[dict[str, Any]]:
    """Switch several agents at once: all are told before the first answer is awaited."""
    told = list(agents)
    for agent in told:
        agent.send_switch(on)
    return [agent.receive_switch() for agent in told]
