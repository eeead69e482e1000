"""Whether a run's hour is unlike that of its machine's certificate: told with figures, or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import hour, summary, trust
from harness.analysis.capacity import SEEN
from harness.analysis.summary import Summary
from harness.model import Arm, Load
from harness.results import certificates
from tests.unit import calibrated, synthetic

LIKE = {
    "others_share": {"low": 0.015, "middle": 0.017, "high": 0.02},
    "request_us[go]": {"low": 25.0, "middle": 32.0, "high": 40.0},
}


def measured(path: Path, known: Any, loads: Any = None, **about: Any) -> Summary:
    """A made-up run on a machine with this certificate: others use 1.7 %, a request takes 32 us."""
    arms = (Arm("baseline"), Arm("http", ("http",)))
    what = synthetic.experiment(workloads=("go",), arms=arms, loads=loads or {})
    instrument = {**synthetic.INSTRUMENT, "workload": "go", "made": "2025-11-01T09:30:00+00:00"}
    run = synthetic.write(path, what, instrument={**instrument, hour.KEY: known}, **about)
    return summary.summarize(run)


def told(found: Summary) -> list[str]:
    return [text for text in found.warnings if "This hour is unlike" in text]


def test_nothing_is_said_of_a_like_hour_nor_of_a_certificate_that_kept_none(tmp_path: Path) -> None:
    assert told(measured(tmp_path / "like", LIKE)) == []
    assert told(measured(tmp_path / "old", {})) == []


def test_an_unlike_hour_is_one_sentence_with_the_figures_of_both(tmp_path: Path) -> None:
    other = {
        "others_share": {"low": 0.2, "middle": 0.21, "high": 0.25},
        "request_us[go]": {"low": 9.4, "middle": 9.6, "high": 10.3},
    }
    (said,) = told(measured(tmp_path / "run", other))
    assert said.startswith(
        "This hour is unlike that of the machine's certificate (2025-11-01 09:30): others used 1.7 "
        "% of the CPUs (20 % to 25 % then); a request of go took 3"
    )
    assert "µs of CPU (9.4 µs to 10.3 µs then)" in said


def test_a_share_that_is_small_in_both_hours_is_not_worth_a_word(tmp_path: Path) -> None:
    trifle = {"others_share": {"low": 0.001, "middle": 0.001, "high": 0.001}}
    assert told(measured(tmp_path / "run", trifle)) == []
    assert hour._is_beyond(0.06, trifle["others_share"], SEEN)


def test_a_request_counts_only_of_the_certificates_service(tmp_path: Path) -> None:
    other = {"request_us[plain]": {"low": 9.4, "middle": 9.6, "high": 10.3}}
    assert told(measured(tmp_path / "run", other)) == []


def test_a_request_counts_only_of_the_certificates_load(tmp_path: Path) -> None:
    """Requests cost more where fewer come: that is no other hour."""
    other = {"request_us[go]": {"low": 9.4, "middle": 9.6, "high": 10.3}}
    assert told(measured(tmp_path / "usual", other)) != []
    slow = {"go": Load(fraction=0.15)}
    assert told(measured(tmp_path / "slow", other, loads=slow)) == []
    named = {f"request_us[go, {slow['go']}]": other["request_us[go]"]}
    assert told(measured(tmp_path / "alike", named, loads=slow)) != []


@pytest.mark.parametrize(
    ("now", "beyond"),
    [(1.0, False), (2.0, False), (2.9, False), (3.1, True), (0.1, False), (-0.1, True)],
)
def test_the_bound_is_what_the_certificates_trials_lie_apart(now: float, beyond: bool) -> None:
    assert hour._is_beyond(now, {"low": 1.0, "high": 2.0}) is beyond


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A made-up calibration, in which nobody used a CPU but the service and its client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "DRAWS", calibrated.FEW)
        yield calibrated.certified(tmp_path_factory.mktemp("reports") / "c")


def test_a_certificate_keeps_what_its_trials_met(made: Path) -> None:
    found = certificates.read(made / certificates.FILE)[hour.KEY]
    nothing = {"low": 0.0, "middle": 0.0, "high": 0.0}
    assert found["others_share"] == pytest.approx(nothing, abs=1e-9)
    request = found["request_us[go]"]
    assert request["low"] <= request["middle"] <= request["high"]
    assert request["middle"] == pytest.approx(calibrated.LEVEL_US, rel=0.02)


def test_one_trial_has_no_range() -> None:
    assert hour.of_certificate({"steal_share": [0.1]}) == {}
    assert hour.of_certificate({"steal_share": [0.1, 0.3]}) == {
        "steal_share": {"low": 0.1, "middle": 0.2, "high": 0.3}
    }


def test_the_certificate_shows_what_its_trials_met(made: Path) -> None:
    text = (made / "certificate.md").read_text()
    assert "## The hour" in text
    assert "| CPUs that somebody else used, % | " in text
    assert "| request_us[go], µs |" in text
