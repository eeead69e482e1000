"""Ours beside what others have for the same question: `make bench-collectors`, one run.

    .venv/bin/python ci/bench_collectors.py [--rounds N] [--events N] [--output FILE.md]

Each in turn is alone, and is told of the same number of events, made for it in a cgroup of its own.
Taken are the time in its BPF programs as the kernel counts it, and the CPU time of its processes,
both less what an idle stretch of the same length took, each for an event that was made; and memory
at the end. In each round the events are made with nobody there, too: what their maker takes more
with a collector is what its hooks cost. Who saw less than 95 % of the events is not compared: cheap
because it saw less is no result. The order is turned round by round. What cannot run here says why
in its own words. As root, on a machine that does nothing else: tracepoints cannot be scoped, and on
a busy host the events of others cost their share. What bpftrace and BCC's tools trace is scoped as
far as they can.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import makers
from bench_process import Spent, attached, family
from bench_table import NOBODY, Failed, Figures, Found, sees, text
from questions import FREQUENCY, QUESTIONS, TRACEFS, Question, Tool
from receiver import Receiver

from harness.errors import HarnessError
from harness.linux import cpu_idle, processes
from harness.meters import memory
from harness.meters.bpfstats import StatsEnabled, Watched
from harness.wire.control import Client

ROOT = Path(__file__).resolve().parents[1]
SETTLE_SECONDS = 3.0  # what beginning left to be done
TOLD_SECONDS = 3.5  # until the last events are told: all print or export every three
END_SECONDS = 10.0  # to tell the rest
SEED = 20261  # of the order in which questions and collectors take their turns
OURS = "harness {}"
PACKAGES = ("bpftrace", "libbpf-tools", "bpfcc-tools")


@dataclass(frozen=True)
class Maker:
    """Who makes the events: its cgroup, its commands, and what it and its port are called."""

    client: Client
    names: Mapping[str, str]

    def make(self, question: Question, options: argparse.Namespace) -> tuple[float, float]:
        """Let the events of a question happen; how many there were, and the maker's us for one.

        nan for who burns CPU time until it has burnt so much.
        """
        command, arguments = question.ask
        if command == "burn":
            said = self.client.call(command, seconds=options.seconds / 2)
            return float(said["made"]) * FREQUENCY, math.nan
        where = {"port": int(self.names["port"]), "folder": self.names["folder"]}
        how_many = {"number": options.events, "rate": options.rate}
        said = self.client.call(command, **{**where, **arguments, **how_many})
        return float(said["made"]), 1e6 * float(said["cpu_seconds"]) / float(said["made"])


def main() -> int:
    """Measure in turn, print the table; 2 if ours did not run, or saw too little."""
    options = _options()
    makers.end_in_order()
    options.load, options.versions = os.getloadavg()[0], _versions()
    found: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    failed: dict[tuple[str, str], Failed] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        maker = stack.enter_context(_maker(folder, options.events))
        stack.enter_context(StatsEnabled())
        options.polling = stack.enter_context(cpu_idle.polling())
        order = random.Random(SEED)
        for number in range(options.rounds):
            for question in order.sample(QUESTIONS, len(QUESTIONS)):
                each: list[Tool | str | None] = [NOBODY, None, *question.tools]
                for tool in order.sample(each, len(each)):
                    if isinstance(tool, str):
                        found[question.name, NOBODY].append(_bare(question, maker, options))
                        continue
                    name = tool.name if tool else OURS.format(question.collector)
                    if (question.name, name) in failed:
                        continue
                    print(f"round {number + 1}: {question.unit}s, {name}", file=sys.stderr)
                    try:
                        figures = _measured(question, tool, maker, options)
                        found[question.name, name].append(figures)
                    except Failed as why:
                        print(f"  {why}", file=sys.stderr)
                        failed[question.name, name] = why
    said = text(QUESTIONS, found, failed, options)
    print(said)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(said + "\n")
    return 2 if ours_fail(found, failed) else 0


def ours_fail(found: Found, failed: Mapping[tuple[str, str], Failed]) -> bool:
    """Whether one of ours did not run, or saw too little; who saw too little is told."""
    blind = [place for place, rounds in found.items() if not sees(rounds)]
    for place in blind:
        print(f"{': '.join(place)} saw too few of the events.", file=sys.stderr)
    return any(OURS.split()[0] in name for _, name in (*failed, *blind))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=2000, help="of each kind and round")
    parser.add_argument("--rate", type=float, default=500.0, help="events a second, at most")
    parser.add_argument("--seconds", type=float, default=12.0, help="each stretch, idle and busy")
    parser.add_argument("-o", "--output", type=Path, help="write the table there, too")
    parser.add_argument("--note", default="", help="a sentence on the circumstances, for the table")
    return parser.parse_args()


def _versions() -> list[str]:
    """Of the packages that are compared, where this is Debian."""
    argv = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PACKAGES]
    try:
        return processes.run(argv, check=False).stdout.splitlines()
    except HarnessError:
        return ["versions unknown"]


@contextmanager
def _maker(folder: Path, files: int) -> Iterator[Maker]:
    """A process in a cgroup of its own; a server outside of it; so many files."""
    opened = folder / "opened"
    opened.mkdir()
    for number in range(files):
        (opened / str(number)).touch()
    with (
        makers.place("bench") as place,
        makers.server() as port,
        makers.maker(place, folder) as (pid, client),
    ):
        names = {
            "cgroup": str(place),
            "cgroup_id": str(place.stat().st_ino),
            "pid": str(pid),
            "port": str(port),
            "folder": str(opened),
        }
        yield Maker(client, names)


def _bare(question: Question, maker: Maker, options: argparse.Namespace) -> Figures:
    """The events with nobody there to see them."""
    time.sleep(SETTLE_SECONDS)
    made, maker_us = maker.make(question, options)
    return Figures(made, made, 0, 0, 0, 0, 0, 0, maker_us)


def _measured(
    question: Question, tool: Tool | None, maker: Maker, options: argparse.Namespace
) -> Figures:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = Receiver()
        stack.callback(receiver.away)
        log = folder / "log"
        process = _started(stack, question, tool, maker, receiver, log)
        programs = attached(process)
        watched = stack.enter_context(closing(Watched(programs)))
        time.sleep(SETTLE_SECONDS)
        idle = Spent(process, watched)
        time.sleep(options.seconds)
        waiting = idle.till_now()
        busy = Spent(process, watched)
        events, maker_us = maker.make(question, options)
        time.sleep(max(TOLD_SECONDS, options.seconds - busy.seconds))
        working = busy.till_now().less(waiting, busy.lasted / idle.lasted)
        members = family(process.pid)
        pss, maps = memory.pss_bytes(members), sum(map(memory.map_bytes, members))
        _end(process, tool)
        seen = tool.count(log.read_text(errors="replace"), maker.names) if tool else None
        return Figures(
            made=events,
            seen=question.told(receiver) if seen is None else seen,
            kernel_us=working.ran_ns / 1000 / events,
            runs=working.runs / events,
            agent_us=working.cpu_ns / 1000 / events,
            idle_ms=(waiting.cpu_ns + waiting.ran_ns) / 1e6 / idle.lasted,
            pss_mb=pss / 1e6,
            maps_mb=maps / 1e6,
            maker_us=maker_us,
        )


def _started(
    stack: ExitStack,
    question: Question,
    tool: Tool | None,
    maker: Maker,
    receiver: Receiver,
    log: Path,
) -> processes.Process:
    if tool is None:
        argv = [sys.executable, "-m", "harness.agent", question.collector]
        argv += ["--cgroup", maker.names["cgroup"], "--otlp", receiver.url]
        argv += ["--control", str(log.with_name("sock"))]
        argv += question.options(log.parent, maker.names)
    else:
        argv = [*TRACEFS, *(each.format(**maker.names) for each in tool.argv)]
    process = processes.spawn(argv, log=log, cwd=ROOT)
    stack.callback(processes.stop, process)
    return process


def _end(process: processes.Process, tool: Tool | None) -> None:
    """As at a terminal, after which tools tell what waits; ours tells the rest at any end."""
    os.kill(process.pid, signal.SIGINT if tool else signal.SIGTERM)
    processes.await_end(process, END_SECONDS)
    processes.stop(process)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
