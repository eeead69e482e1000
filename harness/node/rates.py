"""What collectors cost at two rates, metered alike; for `bpf_time`.

With the cost of no request that makes three points, of which two make a line.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.meters.bpfstats import Watched
from harness.node import idle, requests
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.testbed import Testbed, TrialLog


def run(
    testbed: Testbed, agents: Sequence[AgentProcess], watched: Watched, notes: TrialLog
) -> None:
    """CPU of the agents and run time of the programs at a share of the rate, and at all of it."""
    if not (agents and notes.spec.timing.low_rate):
        return
    for part, share in (("low", notes.spec.timing.low_rate), ("full", 1.0)):
        _at(testbed, agents, watched, notes, part, share * testbed.rate)


def _at(
    testbed: Testbed,
    agents: Sequence[AgentProcess],
    watched: Watched,
    notes: TrialLog,
    part: str,
    rate: float,
) -> None:
    """After a whole export interval at this rate: what is exported is then of no other rate."""
    path, timing = testbed.machine.scratch / "rate.npz", notes.spec.timing
    testbed.driver.start(rate)
    switch_all(agents, True)
    idle.wait(testbed, timing.settle + idle.interval_of(agents))
    began_ns = time.monotonic_ns()
    seconds = idle.seconds_of(agents, timing)
    lasted = idle.measure(testbed, agents, watched, notes, f"{part}_rate", seconds)
    ended_ns = time.monotonic_ns()
    switch_all(agents, False)
    testbed.driver.finish(path)
    testbed.service.check()
    (answered,) = requests.within([(began_ns, ended_ns)], requests.read(path))
    path.unlink()
    notes.add(f"{part}_rate_requests", float(answered), "{request}")
    notes.add(f"{part}_rate_seconds", lasted, "s")
