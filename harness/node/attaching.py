"""What requests feel while somebody else's collector starts and attaches; for `trial`.

Ours attach within milliseconds and thousands of times, which their windows tell. A process of
somebody else's takes seconds, once: that is done under load, in a metered trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from harness.node import requests
from harness.node.testbed import Testbed, TrialLog

BEFORE_SECONDS = 2.0

T = TypeVar("T")


def under_load(testbed: Testbed, folder: Path, notes: TrialLog, begin: Callable[[], T]) -> T:
    """Begin, driven at the block's rate if somebody else's process is begun; note the latency.

    It is that of requests which were due meanwhile, and in the two seconds before.
    """
    spec = notes.spec
    theirs = [each.name for each in spec.candidates
              if each.subject is not None and each.subject.kind == "process"]  # fmt: skip
    if not theirs or spec.references:
        return begin()
    path = folder / "attaching.npz"
    testbed.driver.start(testbed.rate)
    time.sleep(BEFORE_SECONDS)
    begun_ns = time.monotonic_ns()
    try:
        found = begin()
    finally:
        ended_ns = time.monotonic_ns()
        testbed.driver.finish(path)
        log = requests.read(path)
        path.unlink()
    before_ns = begun_ns - int(BEFORE_SECONDS * 1e9)
    for name, since, until in (("before", before_ns, begun_ns), ("meanwhile", begun_ns, ended_ns)):
        due = (log.due_ns >= since) & (log.due_ns < until)
        waited = log.latency_ns[due & (log.status > 0)] / 1e6
        if len(waited):
            notes.add(f"attach_{name}_p99_ms", np.percentile(waited, 99), "ms", collector=theirs[0])
            notes.add(f"attach_{name}_worst_ms", waited.max(), "ms", collector=theirs[0])
        failed = int((due & log.failed).sum())
        notes.add(f"attach_{name}_errors", failed, "{request}", collector=theirs[0])
        if failed and name == "meanwhile":
            notes.warn(f"{failed} requests failed while {theirs[0]} started and attached.")
    return found
