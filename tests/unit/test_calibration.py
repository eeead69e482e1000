"""A certificate: what it tells of a made-up calibration."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import calibration, injection, proof, shown, summary, trust
from harness.controller import calibrate
from harness.errors import StoreError
from harness.model import BASELINE, Measurement
from harness.plan.calibration import Asked
from harness.results import certificates
from harness.results.run import TrialRecord
from tests.unit import calibrated
from tests.unit.calibrated import (
    AGENT_US,
    ATTACHED_US,
    BURNT_US,
    ENTRY_NS,
    injected_experiment,
    measured,
    noise_run,
    write,
)


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    yield from calibrated.few_draws()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated.certified(tmp_path_factory.mktemp("reports") / "c")


@pytest.fixture(scope="module")
def certificate(made: Path) -> dict[str, Any]:
    return certificates.read(made / "certificate.json")


def wish(certificate: dict[str, Any], name: str) -> dict[str, Any]:
    return next(w for w in certificate["wishes"] if w["wish"].startswith(name))


def test_what_was_injected_is_told_with_entry_and_comes_back(certificate: dict[str, Any]) -> None:
    arms = {arm["arm"]: arm for arm in certificate["arms"]}
    assert set(arms) == {"latency-1", "cpu-5", "agent-5"}
    assert arms["cpu-5"]["injected_us"] == pytest.approx(5.0)
    assert arms["cpu-5"]["truth_us"] == pytest.approx(5.0)  # against the same program
    assert arms["agent-5"]["truth_us"] == pytest.approx(ATTACHED_US)
    for arm in arms.values():
        row = next(r for r in arm["recovered"] if r["metric"] == "workload_cpu_us")
        assert row["low"] <= arm["truth_us"] <= row["high"]


def test_a_pause_of_a_burn_is_no_cpu_time_where_a_hypervisor_takes_time(tmp_path: Path) -> None:
    """Two burns a request; seconds of a million of them are us."""
    record = replace(burnt(tmp_path, "latency-1"), values=())
    for role, mean, paused, calm in (("candidate", 6.5, 1.25, 1.6), ("reference", 0.5, 0.25, 0.04)):
        found = {"seconds": mean, "paused_seconds": paused, "calm_seconds": calm}
        found |= {"events": 1e6, "calm_events": 4e5, "requests": 5e5}
        record = with_values(record, {f"injected_{k}": v for k, v in found.items()}, role=role)
    for stolen, expected in ((False, 2 * 6.0), (True, 2 * 5.0)):
        told = injection.truth(record, 0.0, stolen=stolen)
        assert told is not None
        assert told.injected_us == pytest.approx(2 * 6.0)
        assert told.truth_us == pytest.approx(expected)
        assert told.event_us == pytest.approx(6.0)
        assert told.latency_us == pytest.approx((1.6 - 0.04) / 0.4)


def test_what_another_version_measured_is_not_certified(tmp_path: Path) -> None:
    path = measured(tmp_path / "c")
    for each in (path / "injected/trials").rglob("*.json"):
        each.write_text(each.read_text().replace("injected_calm_events", "other"))
    with pytest.raises(StoreError, match="earlier version"):
        calibrate.certify(path)
    assert not (path / "certificate.json").exists()


def test_nobody_waits_for_what_is_burnt_aside(tmp_path: Path) -> None:
    run = write(tmp_path / "r", injected_experiment(blocks=1))
    known = injection.known(run, summary.summarize(run), ENTRY_NS)
    waits = {name: [t.injected.latency_us for t in ts if t.injected] for name, ts in known.items()}
    assert waits["latency-1"] == [pytest.approx(1.0)]
    assert waits["cpu-5"] == [0.0]


def burnt(tmp_path: Path, arm: str) -> TrialRecord:
    run = write(tmp_path / "r", injected_experiment(blocks=1))
    return next(r for r in run.records() if (r.trial.arm, r.trial.kind) == (arm, "switched"))


def with_values(record: TrialRecord, found: dict[str, float], **labels: str) -> TrialRecord:
    t = record.trial
    more = (
        Measurement(metric, number, "1", t.workload, t.arm, t.block, t.name, None, labels)
        for metric, number in found.items()
    )
    return replace(record, values=(*record.values, *more))


def test_what_no_cgroup_pays_is_a_share_of_what_two_versions_differ_by(
    certificate: dict[str, Any],
) -> None:
    """The made-up host pays what service and client pay, and nothing else."""
    rows = {row["arm"]: row for row in certificate["residual"]}
    assert rows["cpu-5"]["low"] <= 0.0 <= rows["cpu-5"]["high"]


def test_an_agent_that_burns_is_told_apart_from_its_idle_cost(certificate: dict[str, Any]) -> None:
    (agent,) = certificate["agents"]
    assert agent["truth_us"] == pytest.approx(BURNT_US)
    assert agent["idle_us"] == pytest.approx(AGENT_US)
    assert agent["estimate"] == pytest.approx(BURNT_US)


def test_a_good_instrument_is_certified(certificate: dict[str, Any]) -> None:
    coverage = certificate["coverage"]
    of_arm = coverage["arms"]["cpu-5"].items()  # nobody waits for what it burns
    assert of_arm <= coverage["cpu"].items()
    assert coverage["latency_arms"]["latency-1"].items() <= coverage["latency"].items()
    assert coverage["latency"]["n"] == 2 * 6
    assert list(coverage["latency_arms"]) == ["latency-1"]
    assert coverage["latency_trials"]["n"] == 6
    assert {k: v["n"] for k, v in certificate["coverage"]["arms"].items()} == {
        BASELINE: 12, "latency-1": 12, "cpu-5": 12, "agent-5": 12,
    }  # fmt: skip
    assert wish(certificate, "coverage, CPU")["met"]
    assert wish(certificate, "coverage, latency")["met"]
    alarms = certificate["false_alarms"]
    assert wish(certificate, "false alarms")["found_percent"] == alarms["both"]["percent"] < 10
    assert alarms["real"]["p"] > 0.05
    assert all(w["met"] for w in certificate["wishes"] if "smallest" in w["wish"])
    assert alarms["both"]["n"] >= 200
    assert alarms["quadruples"] < certificate["comparison"]["quadruples"]
    assert "low" in alarms["real"]
    assert "low" not in alarms["both"]
    assert certificate["machine"] == {"cpu_model": "Synthetic", "cpus_online": 2, "kernel": "6.18"}


def test_a_bias_is_bounded_by_what_was_measured(certificate: dict[str, Any]) -> None:
    cpu = certificate["bias"]["workload_cpu_us"]
    assert [arm["arm"] for arm in cpu["arms"]] == ["cpu-5"]  # nobody waits for what it burns
    assert abs(cpu["error_percent"]) < cpu["bound_percent"] <= cpu["worst_percent"] < 1.0
    assert [arm["arm"] for arm in certificate["bias"]["latency_p50_us"]["arms"]] == ["latency-1"]


def test_small_effects_are_told_for_the_time_measured_and_twice_that(
    certificate: dict[str, Any],
) -> None:
    cpu = next(row for row in certificate["detectable"] if row["metric"] == "workload_cpu_us")
    assert [e["minutes"] for e in cpu["effects"]] == [2.0, 4.0]  # six trials of 20 s
    worst = max(cpu["arms"], key=lambda arm: arm["percent"])
    assert (worst["arm"], worst["percent"]) == (cpu["worst"], cpu["effects"][0]["percent"])
    assert cpu["effects"][1]["percent"] == pytest.approx(worst["percent"] / math.sqrt(2))


def test_an_instrument_that_shows_twice_the_truth_is_not(tmp_path: Path) -> None:
    path = tmp_path / "c"
    calibrate.create(path, Asked(minutes=2.0))
    noise_run(path / "noise")
    write(path / "injected", injected_experiment(), scale=2.0)
    found = calibrate.certify(path)
    assert not wish(found, "coverage, CPU")["met"]
    assert not wish(found, "CPU per request, bound on the bias")["met"]
    assert found["coverage"]["cpu"]["p"] < 0.01
    assert found["entry_ns"] == {}
    text = (path / "certificate.md").read_text()
    assert "**not met**" in text
    assert "is not known here" in text


def test_enough_real_comparisons_decide_alone() -> None:
    share = {"n": 200, "percent": 3.0}
    base: dict[str, Any] = {
        "coverage": {"cpu": {"percent": 95.0}, "latency": {"percent": 95.0}},
        "bias": {},
        "detectable": [],
        "residual": [],
    }
    for n, decides in ((200, 7.0), (199, 3.0)):
        alarms = {"real": {"n": n, "percent": 7.0, "p": 0.2}, "both": share}
        found = {"wishes": list(calibration._wishes({**base, "false_alarms": alarms}))}
        assert wish(found, "false alarms")["found_percent"] == decides


@pytest.mark.parametrize(("k", "is_met"), [(10, True), (14, True), (17, False), (30, False)])
def test_false_alarms_are_judged_by_a_test(k: int, is_met: bool) -> None:
    """Of 206: 14 are 6.8 %, of which chance makes so many in one calibration of seven."""
    share = trust.share(k, 206)
    real = {**proof._share(share), **shown.alarms(share)}
    base: dict[str, Any] = {
        "coverage": {"cpu": {"percent": 95.0}, "latency": {"percent": 95.0}},
        "bias": {}, "detectable": [], "residual": [],
        "false_alarms": {"real": real, "both": {"n": 206, "percent": 0.0}},
    }  # fmt: skip
    found = {"wishes": list(calibration._wishes(base))}
    assert wish(found, "false alarms")["met"] == is_met
    assert wish(found, "false alarms")["found_percent"] == pytest.approx(100 * k / 206)


def test_latency_is_covered_where_it_grows_by_what_was_burnt(
    certificate: dict[str, Any], tmp_path: Path
) -> None:
    assert certificate["coverage"]["latency"]["k"] >= 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrated, "EFFECTS", {"latency-1": 50.0})
        run = write(tmp_path / "large", injected_experiment(switched_seconds=8.0))
    found = summary.summarize(run)
    trials = injection.known(run, found, ENTRY_NS)["latency-1"]
    none = [replace(t, injected=replace(t.injected, latency_us=0.0)) for t in trials if t.injected]
    assert proof._latency(run, found, trials, 20).k >= 10
    assert proof._latency(run, found, none, 20) == trust.share(0, 2 * 6)
    assert proof._latency(run, found, none) == trust.share(0, 6)


def test_large_effects_are_found_sooner_than_small_ones(certificate: dict[str, Any]) -> None:
    power = {row["arm"]: [f["percent"] for f in row["found"]] for row in certificate["power"]}
    assert power["cpu-5"][0] == 100.0
    assert power["latency-1"][0] < power["latency-1"][2]
    assert power["latency-1"][3] is None  # 300 s of 120 that were measured


def test_the_certificate_is_written_for_people_too(made: Path) -> None:
    text = (made / "certificate.md").read_text()
    assert re.search(r"\| cpu-5 \| workload_cpu_us \| \+5\.00 \| \+[45]\.", text)
    assert "{{" not in text
    assert "None" not in text
    for figure in ("noise.png", "recovered.png"):
        assert (made / figure).read_bytes().startswith(b"\x89PNG")


def test_it_is_the_same_when_written_again(made: Path, certificate: dict[str, Any]) -> None:
    assert calibrate.certify(made) == certificate
