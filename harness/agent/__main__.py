"""`python -m harness.agent NAME`: one included collector; `agent_process` starts it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from harness.agent.errors import AgentError

COLLECTORS = {
    "http": "harness.agent.http",
    "flows": "harness.agent.flows",
    "profile": "harness.agent.profile",
    "guard": "harness.agent.guard",
    "inject": "harness.agent.inject",
    "sham": "harness.agent.sham",
}

_SWITCH_SECONDS = 0.0005  # how long a thread may hold the interpreter: `on` and `off` are timed
_BPF = Path(__file__).parents[2] / "bpf" / ".output"
_KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")


def main(arguments: list[str]) -> int:
    """Run the collector named first; 0 when stopped, 2 when it could not start."""
    parser = _parser()
    if not arguments or arguments[0] not in COLLECTORS:
        parser.parse_args(arguments[:1])  # says what is wrong, or helps, and exits
    try:
        return _run(arguments, parser)
    except AgentError as error:
        _say({"ready": False, "what": error.what, "why": error.why, "next_step": error.next_step})
        return 2


def _run(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    from harness.agent import runtime  # raises AgentError where there is no libbpf

    module = importlib.import_module(COLLECTORS[arguments[0]])
    module.add_options(parser)
    options = parser.parse_args(arguments)
    sys.setswitchinterval(_SWITCH_SECONDS)
    runtime.block_signals()
    running = runtime.Runtime(module.create(options), options)
    ready = running.ready(off=options.off)
    running.serve(options.control, ready=lambda: _say(ready))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.agent", allow_abbrev=False)
    parser.add_argument("name", choices=COLLECTORS, help="which collector")
    parser.add_argument("--cgroup", type=Path, required=True, help="cgroup v2 directory to trace")
    parser.add_argument("--otlp", required=True, help="base URL of an OTLP/HTTP receiver")
    parser.add_argument("--control", type=Path, required=True, help="UNIX socket to answer on")
    parser.add_argument("--off", action="store_true", help="start detached, until `on`")
    parser.add_argument("--service-name", default="unknown_service", help="resource attribute")
    parser.add_argument("--instance-id", default="", help="resource attribute")
    parser.add_argument("--interval", type=float, default=3.0, help="seconds between metrics")
    parser.add_argument("--drain", type=float, default=1.0, help="seconds between drains of events")
    parser.add_argument("--bpf", type=Path, default=_BPF, help="directory of the BPF objects")
    parser.add_argument("--btf", type=Path, default=_KERNEL_BTF, help="the kernel's BTF")
    return parser


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
