"""What programs may cost of which no run was seen: an upper bound; `bill` and `account` call it."""

from __future__ import annotations

from harness.analysis.compare import Estimate, Quadruples

RUNS = 3.69  # -ln 0.025: as many in truth, and none is seen in 2.5 % of cases (the rule of three)
LONGEST_US = 10.0  # a run, where none was seen
METHOD = (
    "no run was seen in {:,.0f} requests of slices: at most 3.69 of {:g} us, with 97.5 % (rule of "
    "three)"
)


def is_none(sample: Quadruples) -> bool:
    """Whether no program ran in any slice."""
    return bool(len(sample.on)) and not sample.on.any() and not sample.off.any()


def bound(sample: Quadruples, longest_us: float, *, both: bool = False) -> tuple[Estimate, str]:
    """Zero with the most that it may be (us a request), and how that was obtained.

    Of `both` sets that are compared, either may be the one that costs it.
    """
    requests = float(sample.on_requests.sum())
    most = RUNS * longest_us / requests
    found = Estimate(0.0, -most if both else 0.0, most, len(sample.on))
    return found, METHOD.format(requests, longest_us)
