"""Samples that a profiler within the service wrote into files of its own; `twin` counts them.

They are in the format of JDK Flight Recorder, which the JDK's own program `jfr` reads.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError
from harness.linux import processes
from harness.node.testbed import TrialLog
from harness.wire.spec import CollectorSpec
from harness.wire.telemetry import SAMPLES

EVENT = "jdk.ExecutionSample"  # of JFR a thread in Java code; async-profiler writes all as these
READ_SECONDS = 120.0
_STARTED = re.compile(r'"startTime": "([^"]+)"')


def note(collector: CollectorSpec, folder: Path, notes: TrialLog) -> None:
    """Note its samples of the steady part beside those that the service's CPU time would make.

    Its files are whole once the service has ended. A warning says why there is no count.
    """
    if notes.steady is None or collector.subject is None or not collector.subject.profile:
        return
    begun, ended = (each / 1e9 for each in (notes.steady.begun_unix_ns, notes.steady.ended_unix_ns))
    try:
        seen = sum(begun <= moment < ended for moment in moments(folder, collector.subject.profile))
    except (HarnessError, OSError, ValueError) as error:
        notes.warn(f"{collector.name}: its samples were not counted. {error}")
        return
    made = notes.steady.cpu_seconds * float(collector.options.get("frequency", 0))
    labels = {"collector": collector.name, "signal": SAMPLES}
    notes.add("signal_seen", seen, "1", **labels)
    notes.add("signal_made", made, "1", **labels)


def moments(folder: Path, pattern: str) -> Iterator[float]:
    """When the samples were taken that the folder's files of this pattern hold, in Unix seconds.

    ValueError if there is none of these files with something in it, or `jfr` is not there.
    CommandError if one cannot be read.
    """
    files = sorted(path for path in folder.glob(pattern) if path.stat().st_size)
    if not files:
        raise ValueError(f"It left no file {pattern} with something in it.")
    if shutil.which("jfr") is None:
        raise ValueError("The JDK's program `jfr`, which reads its files, is not on PATH.")
    found: Counter[str] = Counter()
    for path in files:
        told = processes.run(
            ["jfr", "print", "--json", "--events", EVENT, "--stack-depth", "1", str(path)],
            timeout=READ_SECONDS,
        )
        # a JVM that is killed while it writes its file leaves what it wrote that from, too
        found |= Counter(_STARTED.findall(told.stdout))
    for text in found.elements():
        moment = datetime.fromisoformat(text)
        yield (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
