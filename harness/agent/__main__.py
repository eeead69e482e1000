"""`python -m harness.agent NAME[+NAME...]`: included collectors; `agent_process` starts one."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from harness.agent.errors import AgentError
from harness.wire import objects

COLLECTORS = {
    "http": "harness.agent.http",
    "flows": "harness.agent.flows",
    "profile": "harness.agent.profile",
    "guard": "harness.agent.guard",
    "inject": "harness.agent.inject",
    "sham": "harness.agent.sham",
}

_SWITCH_SECONDS = 0.0005  # how long a thread may hold the interpreter: `on` and `off` are timed
_KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")


def main(arguments: list[str]) -> int:
    """Run the collectors named first; 0 when stopped, 2 when they could not start."""
    parser = _parser()
    try:
        names = _names(arguments[0])
    except (IndexError, argparse.ArgumentTypeError):
        parser.parse_args(arguments[:1])  # says what is wrong, or helps, and exits
        return 2
    try:
        return _run(names, arguments, parser)
    except AgentError as error:
        _say({"ready": False, "what": error.what, "why": error.why, "next_step": error.next_step})
        return 2


def _run(names: list[str], arguments: list[str], parser: argparse.ArgumentParser) -> int:
    from harness.agent import runtime  # raises AgentError where there is no libbpf

    modules = [importlib.import_module(COLLECTORS[name]) for name in names]
    for module in modules:
        module.add_options(parser)
    options = parser.parse_args(arguments)
    runtime.require_apart(names, options)
    sys.setswitchinterval(_SWITCH_SECONDS)
    runtime.block_signals()
    running = runtime.Runtime([partial(each.create, options) for each in modules], options)
    ready = running.ready(off=options.off)
    running.serve(ready=lambda: _say(ready))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.agent",
        allow_abbrev=False,
        conflict_handler="resolve",  # an option that several collectors know is given to each
        epilog="Of several collectors each answers on its own socket: {name} is a collector's name "
        "in --control and --instance-id.",
    )
    parser.add_argument("names", metavar="NAME[+NAME...]", type=_names, help=", ".join(COLLECTORS))
    parser.add_argument("--cgroup", type=Path, required=True, help="cgroup v2 directory to trace")
    parser.add_argument("--otlp", required=True, help="base URL of an OTLP/HTTP receiver")
    parser.add_argument("--control", type=Path, required=True, help="UNIX socket to answer on")
    parser.add_argument("--off", action="store_true", help="start detached, until `on`")
    parser.add_argument("--service-name", default="unknown_service", help="resource attribute")
    parser.add_argument("--instance-id", default="", help="resource attribute")
    parser.add_argument("--interval", type=float, default=3.0, help="seconds between metrics")
    parser.add_argument("--drain", type=float, default=1.0, help="seconds between drains of events")
    parser.add_argument(
        "--ring-kib", type=int, help="size of ring buffers, a power of two from 64 on; else 256"
    )
    parser.add_argument(
        "--bpf", type=Path, default=objects.folder(), help="directory of the BPF objects"
    )
    parser.add_argument(
        "--btf",
        type=Path,
        default=_KERNEL_BTF,
        help="the kernel's BTF; a file of it does for `profile`",
    )
    return parser


def _names(text: str) -> list[str]:
    names, known = text.split("+"), ", ".join(COLLECTORS)
    for name in names:
        if name not in COLLECTORS:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {name!r} (choose from {known}, several joined by +)"
            )
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a collector twice")
    return names


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
