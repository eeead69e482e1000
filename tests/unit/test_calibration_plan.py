"""What a calibration measures by its plan, and the machine that its certificate holds for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.controller import calibrate
from harness.errors import InputError, StoreError
from harness.plan import calibration as planned_calibration
from harness.plan.calibration import Asked
from harness.results import certificates
from tests.unit import calibrated
from tests.unit.calibrated import FACTS


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    yield from calibrated.few_draws()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated.certified(tmp_path_factory.mktemp("reports") / "c")


def test_a_plan_takes_the_time_that_it_was_given() -> None:
    for minutes in (22.0, 25.0, 35.0, 90.0):
        assert planned_calibration.expected_seconds(Asked(minutes)) == pytest.approx(
            60 * minutes, rel=0.02
        )
    assert planned_calibration.expected_seconds(Asked(2.0)) < 150
    with pytest.raises(InputError, match="between 2 and 600"):
        Asked(1.0)


def test_default_plan_has_enough_comparisons_of_nothing_with_nothing() -> None:
    assert planned_calibration.LEAST_NULLS >= 200
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
    assert [name for name in full if name.startswith("cpu")] == [
        "cpu-0-3", "cpu-0-5", "cpu-1", "cpu-3", "cpu-50",
    ]  # fmt: skip
    assert full["cpu-0-3"] == ("inject:ns=600,at=getsockopt",)
    assert full["latency-50"] == ("inject:ns=50000",)
    assert {arm.name: arm.against for arm in arms if arm.against}["cpu-0-5"] == (
        "inject:ns=0,at=getsockopt",
    )
    assert full["agent-5"] == ("inject:ns=0,agent_percent=5",)
    found = {"level_us": 200.0, "rate": 900, "window_seconds": 0.03, "guard_seconds": 0.007}
    planned = planned_calibration.injected_experiment(Asked(35.0), found)
    assert (planned.window_seconds, planned.guard_seconds) == (0.03, 0.007)
    assert planned.load("plain").rate == 900
    elsewhere = planned_calibration.arms(40.0, True, "go")  # which has no such place
    assert elsewhere[1].collectors == ("inject:ns=120",)


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
