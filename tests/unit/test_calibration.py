"""A certificate: what it tells of a made-up calibration, its plan, the machine it holds for."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.analysis import calibration, injection, proof, summary, trust
from harness.cli import app
from harness.controller import calibrate
from harness.errors import InputError, StoreError
from harness.model import BASELINE, Arm, Measurement, Trial, WindowRow
from harness.plan import calibration as planned_calibration
from harness.plan import experiment as experiments
from harness.plan.calibration import Asked
from harness.plan.experiment import Experiment
from harness.results import certificates
from harness.results.run import Run, TrialRecord
from tests.unit.calibrated import RATE, rows

ATTACHED_US = 0.15  # what the program costs that burns nothing: its run time and its entry
ENTRY_NS = 50.0
CLOCK_US = 0.1  # between two readings of the clock: told as burnt where nothing is to be
AGENT_US = 4.0
BURNT_US = 47.0  # less than 5 % of a CPU at this rate: what was burnt counts, not what was asked
FACTS = {"cpu_model": "Synthetic", "cpus_online": 2, "kernel": "6.18", "distribution": "Debian"}


# the certificate


FEW = {10.0: 40, 30.0: 20, 60.0: 20, 300.0: 10}  # draws for a power: enough for a test
ASIDE = ",at=getsockopt"
EFFECTS = {"latency-1": 1.0, "cpu-5": 5.0, "agent-5": 0.0}


def injected_experiment(**changes: Any) -> Experiment:
    arms = (
        Arm(BASELINE),
        Arm("latency-1", ("inject:ns=1000",), against=("inject:ns=0",)),
        Arm("cpu-5", (f"inject:ns=5000{ASIDE}",), against=(f"inject:ns=0{ASIDE}",)),
        Arm("agent-5", ("inject:ns=0,agent_percent=5",)),
    )
    keys: dict[str, Any] = {
        "name": "injected", "workloads": ("go",), "arms": arms, "seed": 3, "blocks": 6,
        "switched_seconds": 20.0, "window_seconds": 0.05, "guard_seconds": 0.0,
    }  # fmt: skip
    return Experiment(**{**keys, **changes})


def write(path: Path, what: Experiment, scale: float = 1.0) -> Run:
    """A run in which the arms cost `scale` times what was injected."""
    run = Run.create(
        path, what, facts=FACTS, started="2025-11-02T10:00:00+00:00", complete=True,
        calibration={"go": {"rate": RATE}}, skipped_arms=[], warnings=[], claims=[],
        placement={}, primary_routes={}, command=[], instrument={},
    )  # fmt: skip
    for trial in experiments.plan(what):
        rng = np.random.default_rng([17, trial.index])
        effect = EFFECTS.get(trial.arm, 0.0)
        folder, windows = run.folder(trial), []
        if trial.kind == "switched":
            states = experiments.pattern(what.quadruples, trial.seed)
            attached = 0.0 if what.arm(trial.arm).against else ATTACHED_US
            on = scale * (effect + attached) if trial.arm != BASELINE else 0.0
            windows = rows(
                rng, len(states), seconds=what.window_seconds, states=states, effect_us=on
            )
            waits = not any("getsockopt" in spec for spec in what.arm(trial.arm).collectors)
            requests(folder / "requests.npz", windows, rng, effect * waits)
        run.append(TrialRecord(trial, "ok", values=tuple(values(what, trial, effect))), windows)
    return run


def requests(
    path: Path, windows: list[WindowRow], rng: np.random.Generator, effect_us: float
) -> None:
    """Latencies that grow by the effect in windows that are on."""
    due = np.arange(windows[0].window.start_ns, windows[-1].window.end_ns, int(1e9 / RATE))
    latency = (3e5 * np.exp(0.2 * rng.standard_normal(len(due)))).astype(np.int64)
    for row in windows:
        inside = (due >= row.window.start_ns) & (due <= row.window.end_ns)
        latency[inside] += int(1e3 * effect_us * row.window.on)
    np.savez(
        path, due_ns=due, start_ns=due, end_ns=due + latency, status=np.full(len(due), 200),
        route=np.zeros(len(due), np.uint8), route_names=np.array(["/"]), bytes=np.ones(len(due)),
    )  # fmt: skip


def values(what: Experiment, trial: Trial, effect_us: float) -> list[Measurement]:
    roles = ("candidate", "reference") if what.arm(trial.arm).against else ("",)

    def value(metric: str, number: float, role: str = "", **labels: str) -> Measurement:
        told = {**labels, **({"role": role} if role else {})}
        return Measurement(
            metric, number, "1", "go", trial.arm, trial.block, trial.name, None, told
        )

    n = RATE * what.switched_seconds / 2
    found = [value("rate_achieved", RATE), value("rate_asked", RATE)]
    if trial.arm == BASELINE:
        return found
    name = what.arm(trial.arm).collectors[0].replace(":", "-")
    if trial.kind == "metered":
        labels = {"collector": name, "program": "burn", "hook": "cgroup_skb"}
        run_us = effect_us + ATTACHED_US - 2 * ENTRY_NS / 1e3  # two runs a request
        found += [
            value("metered_requests", 1000.0),
            value("bpf_run_count", 2000.0, **labels),
            value("bpf_run_time_seconds", 1000 * run_us * 1e-6, **labels),
        ]
        return found
    agent = AGENT_US + (BURNT_US if trial.arm == "agent-5" else 0.0)
    for role in roles:
        burnt_us = CLOCK_US if role == "reference" else effect_us + CLOCK_US * bool(role)
        found += [
            value("injected_seconds", n * burnt_us * 1e-6, role, collector=name),
            value("injected_events", n, role, collector=name),
            value("injected_paused_seconds", 0.0, role, collector=name),
            value("injected_calm_seconds", n / 2 * burnt_us * 1e-6, role, collector=name),
            value("injected_calm_events", n / 2, role, collector=name),
            value("steady_requests", 1000.0, role),
            value("steady_agent_cpu_seconds", 1000 * agent * 1e-6, role, collector=name),
            value("agent_burnt_seconds", 1000 * (agent - AGENT_US) * 1e-6, role, collector=name),
        ]
    return [*found, value("injected_requests", n, roles[0], collector=name)]


def noise_run(path: Path) -> Run:
    asked = Asked(minutes=2.0, workload="go")
    what = replace(planned_calibration.noise_experiment(asked), switched_seconds=20.0)
    return write(path, what)


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "DRAWS", FEW)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole calibration, as its folder."""
    path = measured(tmp_path_factory.mktemp("reports") / "c")
    calibrate.certify(path)
    return path


def measured(path: Path) -> Path:
    """What a calibration measures, made up; its certificate is still to be written."""
    calibrate.create(path, Asked(minutes=2.0, command=["harness", "calibrate", "--minutes", "2"]))
    noise_run(path / "noise")
    write(path / "injected", injected_experiment())
    entry = {"cgroup_skb": {"entry_ns": ENTRY_NS, "low": 40.0, "high": 60.0, "n": 30}}
    (path / "entry.json").write_text(json.dumps(entry))
    return path


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
    assert wish(certificate, "false alarms")["met"]
    assert all(w["met"] for w in certificate["wishes"] if "smallest" in w["wish"])
    alarms = certificate["false_alarms"]
    assert alarms["both"]["n"] >= 100
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
    share = {"n": 100, "percent": 3.0}
    base: dict[str, Any] = {
        "coverage": {"cpu": {"percent": 95.0}, "latency": {"percent": 95.0}},
        "bias": {},
        "detectable": [],
        "residual": [],
    }
    for n, decides in ((100, 7.0), (99, 3.0)):
        alarms = {"real": {"n": n, "percent": 7.0}, "both": share}
        found = {"wishes": list(calibration._wishes({**base, "false_alarms": alarms}))}
        assert wish(found, "false alarms")["found_percent"] == decides


def test_latency_is_covered_where_it_grows_by_what_was_burnt(
    certificate: dict[str, Any], tmp_path: Path
) -> None:
    assert certificate["coverage"]["latency"]["k"] >= 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "EFFECTS", {"latency-1": 50.0})
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


# the plan, and the machine that it holds for


def test_a_plan_takes_the_time_that_it_was_given() -> None:
    for minutes in (22.0, 25.0, 35.0, 90.0):
        assert planned_calibration.expected_seconds(Asked(minutes)) == pytest.approx(
            60 * minutes, rel=0.02
        )
    assert planned_calibration.expected_seconds(Asked(2.0)) < 150
    with pytest.raises(InputError, match="between 2 and 600"):
        Asked(1.0)


def test_default_plan_has_enough_comparisons_of_nothing_with_nothing() -> None:
    assert sum(planned_calibration.nulls(Asked()).values()) >= planned_calibration.LEAST_NULLS
    assert Asked().workload == "plain"
    for found in (
        {},
        {"level_us": 40.0, "rate": 1300.0, "window_seconds": 0.1, "guard_seconds": 0.006},
    ):
        planned = planned_calibration.injected_experiment(Asked(), found)
        assert planned.switched_seconds >= 2 * planned_calibration.COMPARISON_SECONDS
        assert 3 <= planned.blocks <= 8


def test_service_is_driven_at_a_quarter_of_what_it_can_take() -> None:
    assert planned_calibration.noise_experiment(Asked()).load("plain").fraction == 0.25


def test_torn_cost_of_entry_is_measured_again(tmp_path: Path) -> None:
    cost = {"cgroup_skb": {"entry_ns": 44.0}}
    target: Any = SimpleNamespace(ask=lambda _what: cost)
    (tmp_path / "entry.json").write_text('{"cgroup_skb": {"entr')
    assert calibrate._entry(tmp_path, target) == cost
    assert json.loads((tmp_path / "entry.json").read_text()) == cost
    assert [p.name for p in tmp_path.iterdir()] == ["entry.json"]


def test_fuller_certificate_of_this_machine_is_not_replaced(tmp_path: Path) -> None:
    machine = certificates.machine(FACTS)

    def publish(name: str, minutes: float, **other: str) -> str:
        facts = {**machine, **other}
        certificates.publish(tmp_path, {"run": name, "minutes": minutes, "machine": facts})
        return certificates.run(tmp_path, facts)

    assert certificates.run(tmp_path, machine) == ""
    assert publish("full", 35.0) == "full"
    assert publish("short", 2.0) == "full"
    assert publish("again", 35.0) == "again"
    certificates.path_of(tmp_path, machine).write_text("{")
    assert publish("mended", 2.0) == "mended"


def test_each_machine_has_its_own_certificate(tmp_path: Path) -> None:
    here = certificates.machine(FACTS)
    machines = [here, {**here, "kernel": "6.19"}, {**here, "cpus_online": 4}]
    for number, machine in enumerate(machines):
        certificates.publish(tmp_path, {"run": str(number), "minutes": 2.0, "machine": machine})
    assert [certificates.run(tmp_path, machine) for machine in machines] == ["0", "1", "2"]
    assert len(list((tmp_path / "certificates").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["certificates"]


def test_the_certificate_that_earlier_versions_kept_is_still_read(tmp_path: Path) -> None:
    machine = certificates.machine(FACTS)
    certificates.save(tmp_path, {"run": "early", "minutes": 35.0, "machine": machine})
    assert certificates.run(tmp_path, FACTS) == "early"
    assert certificates.path_of(tmp_path, FACTS) == tmp_path / "certificate.json"
    assert certificates.load(tmp_path, {**FACTS, "kernel": "6.19"}) is None
    assert not certificates.publish(tmp_path, {"run": "short", "minutes": 2.0, "machine": machine})
    assert certificates.publish(tmp_path, {"run": "late", "minutes": 35.0, "machine": machine})
    assert certificates.run(tmp_path, FACTS) == "late"


def test_effects_are_sized_by_the_level() -> None:
    arms = planned_calibration.arms(200.0, True, "plain")
    full = {arm.name: arm.collectors for arm in arms}
    assert full["cpu-0-5"] == ("inject:ns=1100,at=getsockopt",)  # and the clock of the other
    assert full["latency-50"] == ("inject:ns=50100",)
    assert {arm.name: arm.against for arm in arms if arm.against}["cpu-0-5"] == (
        "inject:ns=0,at=getsockopt",
    )
    assert full["agent-5"] == ("inject:ns=0,agent_percent=5",)
    found = {"level_us": 200.0, "rate": 900, "window_seconds": 0.03, "guard_seconds": 0.007}
    planned = planned_calibration.injected_experiment(Asked(35.0), found)
    assert (planned.window_seconds, planned.guard_seconds) == (0.03, 0.007)
    assert planned.load("plain").rate == 900
    elsewhere = planned_calibration.arms(40.0, True, "go")  # which has no such place
    assert elsewhere[1].collectors == ("inject:ns=300",)


def test_a_certificate_holds_only_for_its_machine(made: Path, tmp_path: Path) -> None:
    assert certificates.load(tmp_path, FACTS) is None
    certificates.save(tmp_path, {**certificates.read(made / "certificate.json"), "odd": math.nan})
    found = certificates.load(tmp_path, FACTS)
    assert found is not None
    assert found["odd"] is None
    assert found["window_seconds"] > 0
    assert certificates.load(tmp_path, {**FACTS, "kernel": "6.19"}) is None
    (tmp_path / "certificate.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        certificates.load(tmp_path, FACTS)


def test_a_certificate_of_an_earlier_version_is_none_and_of_a_later_one_refused(
    made: Path, tmp_path: Path
) -> None:
    found = certificates.read(made / "certificate.json")
    for schema, is_old in ((certificates.SCHEMA - 1, True), (certificates.SCHEMA, False)):
        certificates.save(tmp_path, {**found, "schema": schema})
        assert certificates.outdated(tmp_path, FACTS) == is_old
        assert (certificates.load(tmp_path, FACTS) is None) == is_old
    certificates.save(tmp_path, {**found, "schema": certificates.SCHEMA + 1})
    assert not certificates.outdated(tmp_path, FACTS)
    with pytest.raises(StoreError, match="this version reads"):
        certificates.load(tmp_path, FACTS)


def test_a_certificate_written_again_renews_that_of_its_machine(made: Path) -> None:
    found = certificates.read(made / "certificate.json")
    certificates.publish(made.parent, found)
    kept = certificates.path_of(made.parent, found["machine"])
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "schema": certificates.SCHEMA - 1}))
    assert certificates.outdated(made.parent, found["machine"])
    done = CliRunner().invoke(app, ["calibrate", "--report", str(made)])
    assert done.exit_code == 0, done.output
    assert not certificates.outdated(made.parent, found["machine"])
    assert certificates.run(made.parent, found["machine"]) == made.name


def test_a_folder_that_is_no_calibration_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a calibration"):
        calibrate.certify(tmp_path)
