"""All included collectors in one process under mixed load: does memory grow, is loss unsaid?

    .venv/bin/python ci/soak.py [--hours 1] [--output FILE.md] [--samples FILE.jsonl] [--json]

A day in short: storms of connections, a scanner with ever new routes, processes that are born and
die within milliseconds, files that they open, a receiver of telemetry that is restarted again and
again (soak_load.py). What was made is held against what arrived and what was said to be lost
(soak_account.py): what is in neither fails, and so does what was never made, more than --lost
percent that are said to be lost, and memory that surely grows by more than --most MB an hour once
the agent is warm. As root. Accounts hold on a busy machine, too.

Exit: 0 all is accounted for and memory does not grow, 1 not so, 2 it could not run (the service
ended, nothing of a kind was made, or too much is uncertain), 3 it was too short to tell whether
memory grows, or the slope is not known well enough.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import makers
import soak_account
from bench_process import family
from receiver import Receiver
from soak_load import Load

from harness.errors import HarnessError
from harness.linux import processes
from harness.meters import memory
from harness.wire.control import Client, ControlError

ROOT = Path(__file__).resolve().parents[1]
COLLECTORS = ("http", "flows", "profile", "guard")
RULES = """
[[rules]]
event = "exec"
match = "*"
action = "report"
[[rules]]
event = "open"
match = "{watched}"
action = "report"
"""
SETTLE_SECONDS = 3.0  # until connections have closed, and what is read by a clock was read
PATIENCE_SECONDS = 120.0  # until all is told, once the receiver stays
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_OVER = ("06", "07", "0A")  # TIME_WAIT, CLOSE; and who listens, which is no connection
Clients = Mapping[str, Client]


def main() -> int:
    """Load, sample, account; see above for what it returns."""
    options = _options()
    makers.end_in_order()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = stack.enter_context(makers.place("soak"))
        service, port = stack.enter_context(makers.service(place, folder))
        _, maker = stack.enter_context(makers.maker(place, folder))
        receiver = Receiver()
        stack.callback(receiver.away)
        watched = folder / "watched"
        watched.touch()
        process, clients = _agent(stack, place, folder, receiver.url, watched)
        load = Load(port, maker, str(watched), receiver)
        samples = []
        with _running(load):
            for sample in _samples(process.pid, clients, options.hours * 3600, options.every):
                samples.append(sample)
                if options.samples:
                    with options.samples.open("a") as file:
                        file.write(json.dumps(sample) + "\n")
        if still := _await_closed(port):
            print(f"{still} connections of the service are not closed yet.", file=sys.stderr)
        stats = _told(clients)
        ended = processes.await_end(service, 0)
    for line in soak_account.remarks(stats):
        print(line, file=sys.stderr)
    found = soak_account.accounts(load, receiver, stats)
    growths = list(soak_account.grown(samples))
    said = "\n".join(soak_account.text(found, growths, samples, options.most))
    if options.output:
        options.output.write_text(said + "\n")
    print(json.dumps([asdict(each) for each in found]) if options.json else said)
    if why := list(soak_account.unfit(found, ended=ended)):
        print("\n".join(why), file=sys.stderr)
        return 2
    verdicts = {each.verdict(options.most) for each in growths}
    fails = any(not each.balances or each.loses(options.lost) for each in found)
    if "grows" in verdicts or fails:
        return 1
    return 3 if verdicts != {"does not grow"} else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--most", type=float, default=5.0, help="MB/h that are no growth")
    parser.add_argument("--lost", type=float, default=1.0, help="%% that may be said to be lost")
    parser.add_argument("--samples", type=Path, help="keep all samples there, a JSON line each")
    parser.add_argument("-o", "--output", type=Path, help="write the tables there, too")
    parser.add_argument("--json", action="store_true", help="print the accounts as JSON")
    return parser.parse_args()


def _agent(
    stack: ExitStack, place: Path, folder: Path, url: str, watched: Path
) -> tuple[processes.Process, Clients]:
    """All collectors in one process, every request a span."""
    policy, log = folder / "policy.toml", folder / "agent.log"
    policy.write_text(RULES.format(watched=watched))
    argv = [sys.executable, "-m", "harness.agent", "+".join(COLLECTORS), "--cgroup", str(place)]
    argv += ["--otlp", url, "--control", str(folder / "{name}.sock"), "--policy", str(policy)]
    argv += ["--sample", "1"]
    process = processes.spawn(argv, log=log, cwd=ROOT)
    stack.callback(processes.stop, process)
    ready = processes.announced(process, 60)
    assert ready is not None, log.read_text()
    assert ready["ready"], ready
    clients = {name: Client(folder / f"{name}.sock") for name in COLLECTORS}
    for each in clients.values():
        stack.enter_context(closing(each))
    return process, clients


@contextmanager
def _running(load: Load) -> Iterator[None]:
    load.start()
    try:
        yield
    finally:
        load.stop()


def _samples(
    pid: int, clients: Clients, seconds: float, every: float
) -> Iterator[dict[str, float]]:
    """Memory of the process and of its maps, and what waits for a receiver."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        stats = [each.call("stats") for each in clients.values()]
        anonymous = memory.anonymous_bytes(family(pid))
        assert anonymous is not None, "the kernel does not tell it"  # Linux 5.9 and later do
        yield {
            "seconds": round(passed, 3),
            "anonymous_mb": anonymous / 1e6,
            "pss_mb": memory.pss_bytes(family(pid)) / 1e6,
            "maps_mb": sum(each["map_bytes"] for each in stats) / 1e6,
            "waiting": sum(each["waiting"] for each in stats),
        }
        time.sleep(min(every, max(0.0, began + seconds - time.monotonic())))


def _await_closed(port: int, patience: float = PATIENCE_SECONDS) -> int:
    """How many connections of this port are neither closed nor in TIME_WAIT when patience ends.

    On a machine that is busy a FIN may be sent again and again, and a close is no event before.
    """
    deadline = time.monotonic() + patience
    while (still := _connections(port)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return still


def _connections(port: int) -> int:
    lines = [line.split() for each in _TABLES for line in each.read_text().splitlines()[1:]]
    here = [line[3] for line in lines if int(line[1].rpartition(":")[2], 16) == port]
    return sum(state not in _OVER for state in here)


def _told(
    clients: Clients, settle: float = SETTLE_SECONDS, patience: float = PATIENCE_SECONDS
) -> dict[str, dict[str, Any]]:
    """The counters of each, when a receiver has taken all that waited.

    Or when no more patience is left: what waits then is in no column, and so unsaid.
    """
    time.sleep(settle)
    deadline = time.monotonic() + patience
    while True:
        late = time.monotonic() > deadline
        try:
            stats = {name: each.call("flush") for name, each in clients.items()}
            if late or not any(each["waiting"] for each in stats.values()):
                return stats
        except ControlError:
            if late:
                raise
        time.sleep(0.2)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except Exception:  # not 1, which says that something was found
        traceback.print_exc()
        sys.exit(2)
