"""A collector's control protocol tried in some seconds, without a service; for `answers`.

As root the collector is given cgroups of its own, as in a trial; else that of this process, so that
one that needs no root can be tried without it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.errors import CollectorError, ComponentError, NeedError
from harness.linux import bpf_programs, mount, processes
from harness.linux.procfs import HOST, V2
from harness.meters.coverage import Sink
from harness.node.agent_process import COUNTED, GUIDE, AgentProcess
from harness.node.doctor import Finding
from harness.node.machine import Machine
from harness.wire.spec import CollectorSpec

TIMES = 20  # switched on and off again
QUICK_SECONDS = 0.010  # to attach or detach; a window of 50 ms has a guard of 6 ms
ON_SECONDS = 1.0


def rehearse(spec: CollectorSpec) -> list[Finding]:
    """What was tried in its order, each with how it went; the first failure is the last of them.

    NeedError while something is measured here, or where nothing can be tried.
    """
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="harness-")))
        target, own, socket = _places(ends, folder)
        sink = _sink(ends, folder)
        agent = AgentProcess(
            spec, target_cgroup=target, own_cgroup=own, otlp_url=sink.url, folder=folder,
            socket=socket, service_name="rehearsal",
        )  # fmt: skip
        found: list[Finding] = []
        try:
            found.extend(_began(agent))
            found.extend(_tried(agent, folder / "telemetry.spool"))
        except (CollectorError, NeedError) as error:
            found.append(_failed(error, folder / f"agent-{agent.name}.log"))
            _end(agent)
        return found


def _places(ends: ExitStack, folder: Path) -> tuple[Path, Path | None, Path]:
    """The cgroup it is to watch, that it is to run in, and its socket."""
    if os.geteuid() == 0:
        machine = ends.enter_context(Machine("rehearsal"))
        return machine.make("service"), machine.make("collector"), machine.socket("collector")
    root = mount.find("cgroup2")
    if root is None:
        raise NeedError(
            "There is no cgroup v2 here.",
            "A collector is told which cgroup it is to watch.",
            "Try it as root, which can mount one.",
        )
    mine = HOST.cgroups("self").get(V2, "/").lstrip("/")
    return root / mine, None, folder / "control.sock"


def _sink(ends: ExitStack, folder: Path) -> Sink:
    spool, log = folder / "telemetry.spool", folder / "sink.log"
    argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(spool)]
    process = processes.spawn(argv, log=log)
    ends.callback(processes.stop, process)
    answer = processes.announced(process, 20.0)
    if answer is None:
        said = " ".join(processes.last_words(log))
        raise ComponentError("The telemetry receiver did not start.", said, "Try it again.")
    return Sink(f"http://127.0.0.1:{answer['port']}", spool, {})


def _began(agent: AgentProcess) -> Iterator[Finding]:
    began = time.monotonic()
    agent.start()
    agent.await_ready()
    yield Finding("starts", "pass", f"ready after {time.monotonic() - began:.2f} s")
    told = agent.program_ids
    if not told:
        yield Finding(
            "BPF programs", "warn", "none are told",
            "Tell their ids in the ready line, or their run time is missing from the bill.",
        )  # fmt: skip
    elif unknown := set(told) - bpf_programs.ids():
        yield Finding(
            "BPF programs", "fail", f"the kernel knows none of id {', '.join(map(str, unknown))}",
            "Tell the ids that the kernel gave them.",
        )  # fmt: skip
    else:
        yield Finding("BPF programs", "pass", f"{len(told)}, all loaded")


def _tried(agent: AgentProcess, spool: Path) -> Iterator[Finding]:
    took = [agent.switch(on)["seconds"] for _ in range(TIMES) for on in (True, False)]
    median = statistics.median(took)
    told, slow = f"{1000 * median:.2f} ms in the median of {len(took)}", median > QUICK_SECONDS
    advice = 'Compare it with method = "twin" or "block".' if slow else ""
    yield Finding("on, off", "warn" if slow else "pass", told, advice)
    agent.switch(True)
    time.sleep(ON_SECONDS)
    yield _stats(agent.stats())
    agent.flush()
    yield Finding("flush", "pass", "answered")
    arrived = spool.exists() and spool.stat().st_size > 0
    yield _telemetry(agent.spec, arrived)
    agent.remove()
    yield Finding("stop", "pass", "answered, and ended; none of its programs is left")


def _stats(answer: dict[str, Any]) -> Finding:
    lacking = [key for key in COUNTED if not isinstance(answer.get(key), int | float)]
    if lacking:
        told = f"the answer lacks {', '.join(lacking)}"
        return Finding("stats", "fail", told, f"Each is a number. {GUIDE}")
    told = ", ".join(f"{key} {answer[key]}" for key in COUNTED)
    return Finding("stats", "pass", told)


def _telemetry(spec: CollectorSpec, arrived: bool) -> Finding:
    if arrived:
        return Finding("telemetry", "pass", "it arrived at the receiver")
    wanted = spec.signal is not None or spec.telemetry is not None
    told = "none arrived; nothing drove a service, so there may have been nothing to tell"
    fix = "Send it to {otlp}; flush answers once the receiver took it." if wanted else ""
    return Finding("telemetry", "warn" if wanted else "pass", told, fix)


def _failed(error: CollectorError | NeedError, log: Path) -> Finding:
    words = " ".join(processes.last_words(log)) if log.exists() else ""
    said = f"Its last words: {words}" if words else ""
    # the log goes with the folder, so what it says is told here
    step = error.next_step.replace(f"Its log is {log}.", said)
    detail = " ".join(part for part in (error.what, error.why or said) if part)
    return Finding("protocol", "fail", detail, step or GUIDE)


def _end(agent: AgentProcess) -> None:
    try:
        agent.kill()
    except (AttributeError, CollectorError):  # it was never started, or that was told already
        return
