"""What is concluded from the steps of a ramp: simulated stacks of known capacity and cost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis import costs, ramp
from harness.analysis.ramp import Step
from harness.errors import InputError, StoreError
from harness.report import capacity

LIMIT = 5.0


def simulated(
    rate: float,
    *,
    capacity: float = 10_000,
    cpus: float = 2.0,
    per_thousand: dict[str, float] | None = None,
    noise: float = 0.0,
    **other: Any,
) -> Step:
    """A step on a stack whose backend takes `capacity` spans a second and queues the rest."""
    draw = np.random.default_rng(int(rate))
    each = per_thousand or {"otelcol": 0.03, "tempo": 0.09, "prometheus": 0.0, "generator": 0.01}
    arrived = min(rate, capacity)
    cpu = {
        name: 0.02 + cost * arrived / 1000 * (1 + noise * draw.standard_normal())
        for name, cost in each.items()
    }
    cpu["harness"] = 0.01
    cpu["host"] = sum(cpu.values()) + 0.005
    waits = max(0.0, rate - capacity)
    step = Step(
        "spans", rate, 8.0, accepted=rate, arrived=arrived,
        sent={"due": 10 * rate, "accepted": 10 * rate},
        counts={"accepted": 10 * rate, "arrived": 10 * rate, "refused": 0.0, "failed": 0.0},
        queue=tuple(waits * second for second in range(9)),
        lags=tuple(0.6 + waits * second / capacity for second in range(10)),
        cpu=cpu, memory={"tempo": 100 + rate / 100},
        idle=max(0.0, 1 - cpu["host"] / cpus), drained=10 * waits / capacity, keeper="tempo",
    )  # fmt: skip
    return replace(step, **other)


def climbed(start: float = 1000, factor: float = 1.5, **stack: Any) -> list[Step]:
    """All steps that a ramp of this stack makes."""
    steps = [simulated(0.0, **stack)]
    while (rate := ramp.next_rate(steps, start, factor, LIMIT)) is not None:
        steps.append(simulated(rate, **stack))
    return steps


@pytest.mark.parametrize("capacity", [700, 4_000, 10_000, 35_000])
def test_the_capacity_is_found_between_two_rates(capacity: float) -> None:
    held = ramp.capacity(climbed(capacity=capacity, cpus=99), LIMIT)
    assert held.good is not None
    assert held.bad is not None
    assert not held.at_least
    assert held.good.rate < 1.07 * capacity  # half a second may wait after eight
    assert held.bad.rate > capacity
    assert held.bad.rate / held.good.rate <= 1.5**0.25 * 1.01


def test_two_rates_are_tried_between_good_and_bad() -> None:
    rates = [step.rate for step in climbed(capacity=6_000, cpus=1.0)]
    assert rates[1:6] == pytest.approx([1000, 1500, 2250, 3375, 5062.5])
    assert rates[6] == pytest.approx(7593.75)
    assert len(rates) == 9


def test_a_bad_step_with_spare_cpu_is_tried_again() -> None:
    steps = [simulated(0.0), simulated(1000), simulated(1500, lags=(9.0,), idle=0.7)]
    assert ramp.next_rate(steps, 1000, 1.5, LIMIT) == 1500
    steps.append(simulated(1500))
    assert ramp.next_rate(steps, 1000, 1.5, LIMIT) == 2250  # it was an accident
    steps[-1] = replace(steps[-2])
    again = ramp.next_rate(steps, 1000, 1.5, LIMIT)
    assert again == pytest.approx(math.sqrt(1000 * 1500))


def test_a_bad_step_that_others_disturbed_is_tried_again() -> None:
    calm = [simulated(0.0), simulated(1000), simulated(1500), simulated(2250)]
    bad = simulated(3375, lags=(9.0,), idle=0.0)
    assert ramp.next_rate([*calm, bad], 1000, 1.5, LIMIT) != 3375
    busy = replace(bad, cpu={**bad.cpu, "host": bad.cpu["host"] + 0.7})
    assert ramp.shared(busy)
    assert ramp.next_rate([*calm, busy], 1000, 1.5, LIMIT) == 3375
    assert ramp.next_rate([*calm, busy, busy], 1000, 1.5, LIMIT) != 3375


def test_a_first_rate_that_is_too_high_is_halved() -> None:
    steps = climbed(start=20_000, capacity=6_000, cpus=0.5)
    assert [step.rate for step in steps[1:4]] == [20_000, 10_000, 5_000]
    held = ramp.capacity(steps, LIMIT)
    assert held.good is not None
    assert 5_000 <= held.good.rate < 7_000
    nothing = climbed(start=20_000, capacity=1, cpus=0.1)
    assert ramp.capacity(nothing, LIMIT).good is None
    assert len(nothing) <= 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sent": {"due": 10_000, "refused": 1}}, "refused"),
        ({"sent": {"due": 10_000, "rejected": 1}}, "refused"),
        ({"counts": {"refused": 200.0}}, "refused"),
        ({"sent": {"due": 10_000, "failed": 1}}, "unanswered"),
        ({"counts": {"unmarked": 1.0}}, "unanswered"),
        ({"drained": None}, "stuck"),
        ({"sent": {}}, "generator"),
        ({"counts": {"failed": 1.0}}, "dropped"),
        ({"counts": {"unqueued": 1.0}}, "dropped"),
        ({"counts": {"discarded.rate_limited": 1.0}}, "discarded"),
        ({"lags": (0.5, 5.1)}, "lag"),
        ({"lags": (0.5, None)}, "lag"),
        ({"queue": tuple(400.0 * n for n in range(9))}, "queue"),
        ({"sent": {"due": 10_000, "held": 300}}, "held"),
        ({"sent": {"due": 10_000, "starved": 300}}, "generator"),
        ({"sent": {"due": 10_000, "held": 300}, "cpu": {"generator": 0.97}}, "generator"),
    ],
)
def test_why_a_step_is_not_held(change: dict[str, Any], reason: str) -> None:
    step = replace(simulated(1000), **change)
    assert ramp.judge(step, LIMIT) == (reason,)
    assert capacity.reason(step, ramp.judge(step, LIMIT)[0])


def test_a_queue_that_does_not_grow_is_held() -> None:
    level = replace(simulated(1000), queue=(1500.0, 1480.0, 1510.0, 1490.0))
    short = replace(simulated(1000), queue=(0.0, 100.0, 200.0, 300.0))  # of a batch
    assert ramp.judge(level, LIMIT) == ()
    assert ramp.judge(short, LIMIT) == ()


def test_the_limit_is_whoever_uses_most_of_busy_cpus() -> None:
    held = ramp.capacity(climbed(capacity=13_000, cpus=1.65), LIMIT)
    assert (held.limit, held.full) == ("tempo", True)
    costly = {"otelcol": 0.2, "tempo": 0.02, "generator": 0.01}
    held = ramp.capacity(climbed(capacity=8_000, per_thousand=costly), LIMIT)
    assert (held.limit, held.full) == ("otelcol", True)
    said = capacity.verdict("spans", held, [], 2)
    assert "The Collector is what ends it: the CPUs are busy" in said


def test_two_that_use_about_as_much_are_both_named() -> None:
    equal = {"otelcol": 0.1, "tempo": 0.105, "generator": 0.01}
    held = ramp.capacity(climbed(capacity=9_000, per_thousand=equal, cpus=1.6), LIMIT)
    said = capacity.verdict("spans", held, [], 2)
    assert "Tempo and the Collector are what ends it: the CPUs are busy" in said


def test_with_spare_cpu_it_is_whom_all_wait_for() -> None:
    held = ramp.capacity(climbed(capacity=5_000, cpus=16), LIMIT)
    assert (held.limit, held.full) == ("tempo", False)
    assert "the machine has CPU left" in capacity.verdict("spans", held, [], 16)


def test_limits_of_the_configuration_are_named() -> None:
    bad = simulated(3000, counts={"discarded.rate_limited": 700.0}, idle=0.1)
    held = ramp.capacity([simulated(0.0), simulated(2000), bad], LIMIT)
    assert held.limit == "tempo"
    said = capacity.verdict("spans", held, [], 2)
    assert "Tempo turned 700 away (rate_limited)" in said
    assert "limits that are set in its configuration" in said


def test_a_generator_that_cannot_says_at_least() -> None:
    slow = simulated(3000, sent={"due": 30_000, "starved": 9_000})
    held = ramp.capacity([simulated(0.0), simulated(2000), slow], LIMIT)
    assert held.at_least
    said = capacity.verdict("spans", held, [], 2)
    assert "takes at least 2,000 spans/s" in said
    assert "not the stack" in said
    greedy = {"otelcol": 0.1, "tempo": 0.02, "generator": 0.2}
    held = ramp.capacity(climbed(capacity=8_000, per_thousand=greedy), LIMIT)
    assert (held.limit, held.at_least) == ("generator", True)


def test_nothing_bad_says_at_least() -> None:
    held = ramp.capacity([simulated(0.0), simulated(2000)], LIMIT)
    assert held.at_least
    assert "at least 2,000 spans/s: no higher rate was tried" in capacity.verdict(
        "spans", held, [], 2
    )
    assert ramp.capacity([simulated(0.0)], LIMIT).good is None


def test_the_bill_is_recovered() -> None:
    rows = {row.component: row for row in costs.costs(climbed(noise=0.02, cpus=99), LIMIT)}
    for name, truth in {"otelcol": 0.03, "tempo": 0.09, "prometheus": 0.0}.items():
        assert rows[name].seconds == pytest.approx(truth, abs=0.004)
        assert rows[name].idle == pytest.approx(0.02, abs=0.02)
    assert rows["tempo"].low < 0.09 < rows["tempo"].high
    assert 0 < rows["tempo"].residual < 5
    assert rows["nobody"].seconds == pytest.approx(0, abs=1e-9)
    assert rows["nobody"].idle == pytest.approx(0.005)
    assert next(iter(rows)) == "host"  # the dearest first


def test_others_that_use_the_cpus_are_told() -> None:
    held = ramp.capacity(climbed(), LIMIT)
    assert not held.at_least
    assert "shared" not in capacity.verdict("spans", held, [], 2)
    assert held.bad is not None
    steps = [simulated(0.0), simulated(2000), _shared(simulated(3000, lags=(9.0,)), 0.7)]
    held = ramp.capacity(steps, LIMIT)
    assert held.at_least
    said = capacity.verdict("spans", held, [], 2)
    assert "takes at least 2,000 spans/s" in said
    assert "others used 0.7 of 2 CPUs" in said
    stolen = simulated(3000, lags=(9.0,), idle=0.0, steal=0.34)
    assert ramp.capacity([simulated(0.0), simulated(2000), stolen], LIMIT).at_least
    assert ramp.next_rate([simulated(0.0), simulated(2000), stolen], 2000, 1.5, LIMIT) == 3000


def _shared(step: Step, cpus: float) -> Step:
    return replace(step, cpu={**step.cpu, "host": step.cpu["host"] + cpus})


def test_too_few_steps_have_no_bill() -> None:
    steps = [simulated(0.0), simulated(1000), simulated(2000)]
    assert costs.costs(steps, LIMIT) == []
    assert costs.costs([simulated(0.0)] * 5, LIMIT) == []


def test_steps_not_held_are_not_in_the_bill() -> None:
    steps = climbed(capacity=5_000, cpus=99)
    bad = [step for step in steps if ramp.judge(step, LIMIT)]
    assert bad
    assert costs.costs(steps, LIMIT)[0].steps == len(steps) - len(bad)


ACCOUNT = {
    "accepted": 1000, "found": 1000.0, "unit": "spans", "unknown": 0, "traces": 90, "whole": 90,
}  # fmt: skip


def measured(path: Path, **account: Any) -> Path:
    """The folder of a ramp as it is before its report is written."""
    path.mkdir(parents=True)
    about = {
        "schema": "ramp-1", "run": path.name, "version": "0", "made": "2026-01-01T00:00:00+00:00",
        "asked": {"signals": ["spans"], "start": 0, "factor": 1.5, "step_seconds": 10,
                  "limit_lag": LIMIT, "command": ["harness", "ramp"]},
        "facts": {"cpus_online": 2, "cpu_model": "a CPU", "kernel": "6", "distribution": "Debian",
                  "virtualisation": "kvm"},
        "account": {"spans": {**ACCOUNT, **account}},
    }  # fmt: skip
    (path / "run.json").write_text(json.dumps(about))
    lines = [json.dumps(step.to_dict()) + "\n" for step in climbed(noise=0.01)]
    (path / "steps.jsonl").write_text("".join(lines))
    return path


def test_the_report_is_made_offline(tmp_path: Path) -> None:
    from harness.benchmarks import ramp as command

    path = measured(tmp_path / "RAMP")
    found = command.write(path)
    assert json.loads((path / "ramp.json").read_text())["signals"]["spans"]["verdict"]
    text = (path / "ramp.md").read_text()
    assert "On 2 CPUs this stack takes" in text
    assert "| spans | Tempo | 0.0" in text
    assert "nothing is missing" in text
    assert found["signals"]["spans"]["capacity"]["limit"] == "tempo"
    for name in ("ramp.png", "ramp.svg"):
        assert (path / name).stat().st_size > 5000


def test_what_is_missing_is_said() -> None:
    assert "some are missing" in capacity.accounted("spans", {**ACCOUNT, "found": 960.0})
    assert "some are missing" in capacity.accounted("spans", {**ACCOUNT, "whole": 60})
    more = capacity.accounted("spans", {**ACCOUNT, "found": 1200.0})
    assert "200 came twice or were not acknowledged, so that a loss cannot be excluded" in more
    assert "did not answer" in capacity.accounted("spans", {**ACCOUNT, "found": None})
    assert "cannot be excluded" in capacity.accounted("spans", {**ACCOUNT, "unknown": 7})


def test_a_folder_that_is_no_ramp_is_refused(tmp_path: Path) -> None:
    from harness.benchmarks import ramp as command

    with pytest.raises(StoreError, match="is not a ramp"):
        command.write(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 1}')
    with pytest.raises(StoreError, match="has schema 1"):
        command.write(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"factor": 1.0}, {"step_seconds": 1}, {"start": -1}, {"limit_lag": 0}, {"signals": ("x",)}],
)
def test_what_is_asked_is_checked(wrong: dict[str, Any]) -> None:
    from harness.benchmarks import ramp as command

    with pytest.raises(InputError):
        command.Asked(**wrong)
