"""`harness calibrate` in its short form, on real BPF: everything runs, and effects come back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.linux import facts, processes
from harness.node import machine
from harness.results import certificates

pytestmark = pytest.mark.e2e

HARNESS = [sys.executable, "-m", "harness"]
ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str | Path, check: bool = True) -> processes.Completed:
    argv = [*HARNESS, "calibrate", *map(str, arguments)]
    return processes.run(argv, check=check, timeout=600, env={"COLUMNS": "200"}, cwd=ROOT)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a short calibration was run; the later tests read it."""
    path = tmp_path_factory.mktemp("reports")
    _run("--minutes", "2", "--reports", path, "--run", "c", "--quiet")
    assert machine.leftovers() == []
    return path


@pytest.fixture(scope="module")
def certificate(reports: Path) -> dict[str, Any]:
    return certificates.read(reports / "c/certificate.json")


def test_the_machine_has_a_certificate(reports: Path, certificate: dict[str, Any]) -> None:
    assert certificates.load(reports, facts.facts()) == certificate
    assert 0.01 <= certificate["window_seconds"] <= 1
    assert certificate["guard_seconds"] <= certificate["window_seconds"] / 4
    assert certificate["level_us"] > 1
    assert certificate["rate"] > 0
    assert certificate["workload"] == "plain"
    assert "--run" not in certificate["command"]
    assert certificate["entry_ns"]["cgroup_skb"]["entry_ns"] is not None
    for name in ("certificate.md", "noise.png", "recovered.png"):
        assert (reports / "c" / name).stat().st_size > 500


def test_what_was_injected_is_known_and_seen(certificate: dict[str, Any]) -> None:
    arms = {arm["arm"]: arm for arm in certificate["arms"]}
    assert set(arms) == {"cpu-3", "latency-100", "agent-5"}
    large = arms["latency-100"]
    assert large["asked_ns"] == 100_000
    assert large["event_us"] > 99  # less what the program without a burn tells
    assert 0.8 < large["events_per_request"] < 1.5
    cpu = next(row for row in large["recovered"] if row["metric"] == "workload_cpu_us")
    assert cpu["low"] > 0  # 100 us of about as many, over 60 quadruples
    assert arms["agent-5"]["injected_us"] < 10  # two readings of the clock
    assert cpu["estimate"] == pytest.approx(large["truth_us"], rel=0.3)
    assert list(certificate["coverage"]["latency_arms"]) == ["latency-100"]
    small = arms["cpu-3"]
    assert 0.8 < small["events_per_request"] < 1.5  # once a turn of the service's loop
    assert small["event_us"] > 0.8 * small["asked_ns"] / 1e3
    assert small["latency_us"] == 0
    assert certificate["coverage"]["cpu"]["n"] >= 1
    assert certificate["coverage"]["latency"]["n"] >= 1
    (agent,) = certificate["agents"]
    assert agent["estimate"] == pytest.approx(agent["truth_us"], rel=0.5)


def test_every_wish_is_answered(certificate: dict[str, Any]) -> None:
    assert [wish["wish"] for wish in certificate["wishes"]] == [
        "coverage, CPU per request",
        "coverage, latency p50",
        "false alarms",
        "CPU per request, bound on the bias",
        "latency p50, bound on the bias",
        "CPU per request, smallest effect",
        "latency p50, smallest effect",
        "residual",
    ]
    assert certificate["false_alarms"]["both"]["n"] >= 200


def test_it_is_written_again_offline(reports: Path, certificate: dict[str, Any]) -> None:
    done = _run("--report", reports / "c", "--json")
    assert json.loads(done.stdout) == certificate


def test_it_goes_on_where_it_stopped(reports: Path, certificate: dict[str, Any]) -> None:
    (reports / "c/certificate.json").unlink()
    _run("--resume", reports / "c", "--quiet")
    assert certificates.read(reports / "c/certificate.json") == certificate


def test_plan_starts_nothing(tmp_path: Path) -> None:
    done = _run("--plan", "--reports", tmp_path)
    assert "Nothing has been started" in done.stdout
    assert "latency-100  inject:ns=100000" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--minutes", "1"], "between 2 and 600 minutes"),
        (["--workload", "nothing"], "nothing"),
        (["--report", "nowhere"], "is not a calibration"),
    ],
)
def test_bad_input_is_one_clear_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = _run("--reports", tmp_path, *arguments, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
