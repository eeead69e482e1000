"""Time by variances: exact where it can be computed, and what must hold whatever the variances."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis import hierarchy
from harness.analysis.allocation import Service, Share, allot
from harness.analysis.compare import Z_CONFIDENCE, Estimate
from harness.analysis.hierarchy import Heterogeneity, Within
from harness.analysis.precision import Spread, half_widths

Z = float(stats.norm.ppf(0.975))


def service(within: float, between: float = 0.0, **changes: object) -> Service:
    arms = {"factorial": {"http": Spread(within, between, 4), "guard": Spread(within / 2)}}
    found = Service(arms, {"factorial": (20.0, 20.0)}, 10.0, 10.0, 40.0)
    return replace(found, **changes)  # type: ignore[arg-type]


def spent(services: dict[str, Service], shares: dict[str, Share]) -> float:
    return sum(
        services[name].takes(share.more, sum(share.seconds.values()))
        for name, share in shares.items()
    )


@pytest.mark.parametrize("between", [0.0, 0.3, 4.0])
def test_width_is_that_which_the_report_will_print(between: float) -> None:
    spread, piloted, more, seconds = Spread(30.0, between, 4), (20.0, 20.0), 3, 35.0
    every = np.array([*piloted, *[seconds] * more])
    blocks = tuple(
        Estimate(0.0, -Z_CONFIDENCE * e, Z_CONFIDENCE * e, 400) for e in np.sqrt(30.0 / every)
    )
    error = math.sqrt(30.0 / every.sum())
    whole = Estimate(0.0, -Z_CONFIDENCE * error, Z_CONFIDENCE * error, 2000)
    within = Within(whole, blocks, tuple(every / every.sum()), math.nan)
    printed = hierarchy.widened(within, Heterogeneity(between, 4 * (len(every) - 1)))
    (width,) = half_widths(spread, piloted, more, np.array([seconds]))
    assert width == pytest.approx((printed.high - printed.low) / 2, rel=1e-4)


def test_windows_alone_go_by_variance() -> None:
    """Without anything between processes windows end in proportion to the variance."""
    services = {
        "calm": service(10.0, overhead=1e-6, piloted={"factorial": (1e-3, 1e-3)}, least=1e-3),
        "loud": service(40.0, overhead=1e-6, piloted={"factorial": (1e-3, 1e-3)}, least=1e-3),
    }
    shares = allot(services, 100.0)
    windows = {name: share.more * share.seconds["factorial"] for name, share in shares.items()}
    assert windows["loud"] / windows["calm"] == pytest.approx(4, rel=0.05)
    assert sum(windows.values()) == pytest.approx(100, rel=1e-3)
    expected = Z * math.sqrt(50 / 100)
    assert shares["loud"].width == pytest.approx(expected, rel=0.02)
    assert shares["calm"].width == pytest.approx(expected, rel=0.05)


def test_what_differs_between_processes_is_met_by_blocks() -> None:
    same, differing = (
        allot({"one": service(30.0, between)}, 400.0)["one"] for between in (0.0, 20.0)
    )
    assert differing.more > same.more
    assert differing.seconds["factorial"] < same.seconds["factorial"]
    assert same.seconds["factorial"] >= 40  # a block is dear, so none is begun without need


def test_arm_of_the_larger_variance_has_the_longer_trials() -> None:
    arms = {"old": {"old": Spread(5.0)}, "new": {"new": Spread(20.0)}}
    one = Service(arms, dict.fromkeys(arms, (10.0, 10.0)), 10.0, 5.0, 60.0)
    seconds = allot({"one": one}, 300.0)["one"].seconds
    assert seconds["new"] > 2 * seconds["old"]


def test_all_are_told_alike_what_only_the_first_blocks_have() -> None:
    plain = service(10.0, metered_blocks=4, saved=6.0, fewest=2)
    assert plain.beside(2) == 20
    assert plain.beside(5) == 5 * 10 - 3 * 6
    assert allot({"one": plain}, 200.0)["one"].more >= 2


def test_without_enough_time_nobody_gets_any() -> None:
    shares = allot({"go": service(10.0), "java": service(90.0)}, 39.0)
    assert {share.more for share in shares.values()} == {0}
    assert shares["java"].width > shares["go"].width > 0


spread = st.builds(
    Spread, st.floats(1e-3, 1e4), st.one_of(st.just(0.0), st.floats(1e-4, 100.0)),
    st.integers(1, 5),
)  # fmt: skip
services_of = st.dictionaries(
    st.sampled_from(["go", "flask", "java", "plain"]),
    st.builds(
        lambda arms, overhead, fewest, metered: Service(
            {arm: {arm: s} for arm, s in arms.items()}, dict.fromkeys(arms, (20.0, 20.0)),
            overhead, 10.0, 40.0, saved=0.4 * overhead, metered_blocks=metered, fewest=fewest,
        ),
        st.dictionaries(st.sampled_from(["a", "b"]), spread, min_size=1),
        st.floats(1.0, 40.0), st.integers(1, 3), st.sampled_from([0, 3, 4]),
    ),
    min_size=1,
)  # fmt: skip


@settings(max_examples=60)
@given(services_of, st.floats(0.0, 2500.0))
def test_all_of_the_time_is_given_and_every_service_has_some(
    services: dict[str, Service], seconds: float
) -> None:
    shares = allot(services, seconds)
    assert shares.keys() == services.keys()
    if seconds < sum(each.at_least for each in services.values()):
        assert all(share.more == 0 for share in shares.values())
        return
    assert spent(services, shares) == pytest.approx(seconds)
    for name, share in shares.items():
        assert share.more >= services[name].fewest
        assert all(s >= services[name].least - 1e-9 for s in share.seconds.values())


@settings(max_examples=30)
@given(services_of, st.floats(300.0, 1500.0))
def test_more_time_makes_the_widest_no_wider(services: dict[str, Service], seconds: float) -> None:
    def widest(given: float) -> float:
        return max(share.width for share in allot(services, given).values())

    assert widest(2 * seconds) <= widest(seconds) * 1.01
