"""What a guest does: 23 events for each included collector and hook; `second.sh` starts it.

`python -m tests.kernels.inside FOLDER` writes a line of JSON each into FOLDER/rows.jsonl: what was
made and what was seen, or the words in which it was refused, and what `harness doctor` says.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.agent import __main__ as agent
from harness.linux import processes
from harness.wire import control
from tests.bpf.conftest import Receiver, Service, cgroup2_mount
from tests.kernels import patience, types_of_hooks
from tests.kernels.events import CASES, Case
from tests.kernels.scene import EVENTS, Scene

_PATIENCE_SECONDS, _PAUSE_SECONDS = 600, 0.1


def main(folder: Path) -> int:
    """Write everything; what one case does to itself harms no other."""
    for module in ("harness.agent.runtime", *agent.COLLECTORS.values()):  # once for all agents
        importlib.import_module(module)
    with (folder / "rows.jsonl").open("a") as rows:

        def tell(**row: Any) -> None:
            rows.write(json.dumps(row) + "\n")
            rows.flush()

        tell(kind="machine", release=platform.release(), security=_security())
        for hook in types_of_hooks.NAMES:
            tell(kind="hook", name=hook, **_attempted(types_of_hooks.seen, hook))
        for case in CASES:
            row = _attempted(_case, case)
            tell(kind="case", collector=case.collector, what=case.what, made=EVENTS, **row)
        tell(kind="doctor", findings=_doctor())
    return 0


def _attempted(step: Any, *about: Any) -> dict[str, Any]:
    try:
        return dict(step(*about))
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def _case(case: Case) -> dict[str, Any]:
    with _services() as make, contextlib.closing(Receiver()) as receiver:
        folder = Path(tempfile.mkdtemp())
        service = make("service", folder)
        argv = [case.collector, "--cgroup", str(service.path), "--otlp", receiver.url]
        argv += ["--control", str(folder / "socket"), *case.prepare(folder)]
        with _agent(argv, folder / "agent.log") as ready:
            if not ready["ready"]:
                return {"refused": {key: ready[key] for key in ("what", "why", "next_step")}}
            with control.Client(folder / "socket", _PATIENCE_SECONDS) as client:
                seen = case.act(Scene(client.call, ready, service, receiver, folder))
            return {"hooks": ready["hooks"], "seen": seen}


@contextlib.contextmanager
def _agent(argv: list[str], log: Path) -> Iterator[dict[str, Any]]:
    """A process of the product's agent, and its ready line.

    It is forked and not started anew: what it imports takes an emulated CPU half a minute.
    """
    if not (pid := os.fork()):
        os.setsid()
        with log.open("wb") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        try:
            os._exit(agent.main(argv))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    try:
        yield _ready(pid, log)
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.killpg(pid, signal.SIGTERM)
            _ended(pid)


def _ready(pid: int, log: Path) -> dict[str, Any]:
    found: list[str] = []

    def ended_or_ready() -> bool:
        over = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        lines = log.read_text().splitlines() if log.exists() else []  # after that: all it said
        found.extend(line for line in lines if line.startswith('{"ready"'))
        return over or bool(found)

    patience.until(ended_or_ready, lambda: patience.did(pid))
    assert found, f"the agent did not become ready: {log.read_text() if log.exists() else ''}"
    return dict(json.loads(found[0]))


def _ended(pid: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)


@contextlib.contextmanager
def _services() -> Iterator[Any]:
    made: list[Service] = []
    mount = cgroup2_mount()
    assert mount is not None

    def make(name: str, folder: Path) -> Service:
        path = mount / f"harness-kernels-{os.getpid()}-{len(made)}-{name}"
        path.mkdir()
        made.append(Service(path, folder / f"{name}.log"))
        return made[-1]

    try:
        yield make
    finally:
        for service in made:
            service.remove()


def _doctor() -> Any:
    argv = [sys.executable, "-m", "harness", "doctor", "--json"]
    return json.loads(processes.run(argv, check=False, timeout=_PATIENCE_SECONDS).stdout)


def _security() -> str:
    with contextlib.suppress(OSError):
        return Path("/sys/kernel/security/lsm").read_text().strip()
    return ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
