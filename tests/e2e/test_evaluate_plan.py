"""What `harness evaluate` leaves out, and what it tells of that before anything is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.collectors import REGISTRY
from harness.errors import NeedError
from harness.linux import processes
from harness.model import Arm
from harness.plan import experiment
from harness.results.run import Run
from tests.e2e.evaluating import HARNESS, ROOT, SMALL, clean_machine, command, evaluated, words

pytestmark = pytest.mark.e2e

PLAN = ("evaluate", "--plan", "--workload", "go", "--arm", "http=http")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test here, however bad its day, leaves the machine as it was."""
    yield from clean_machine()


def test_collector_that_cannot_attach_is_skipped(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other arms are measured, and the report says why this one was not."""
    from harness.report import build

    broken = replace(REGISTRY["http"], options={"bpf": str(tmp_path)})
    monkeypatch.setitem(REGISTRY, "http", broken)
    chosen = experiment.load(small)
    outcome = evaluated(chosen, tmp_path / "r")
    run = outcome.run
    assert outcome.error is None
    assert [r.status for r in run.records() if r.trial.arm == "http"] == ["skipped"] * 2
    assert [r.status for r in run.records() if r.trial.arm == "baseline"] == ["ok"]
    built = build.build(Run.open(run.path))
    assert "cannot run here" in built.html.read_text()


def test_an_arm_whose_hook_is_refused_is_skipped_before_anything_of_it_is_started(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = replace(REGISTRY["profile"], hooks=("perf_event", "telepathy"))
    monkeypatch.setitem(REGISTRY, "profile", refused)
    arms = (Arm("baseline"), Arm("http", ("http",)), Arm("both", ("http", "profile")))
    outcome = evaluated(replace(experiment.load(small), arms=arms), tmp_path / "r")
    assert outcome.error is None
    status = {(r.trial.arm, r.trial.kind): r.status for r in outcome.run.records()}
    assert status == {
        ("baseline", "switched"): "ok", ("http", "switched"): "ok", ("http", "metered"): "ok",
        ("both", "switched"): "skipped", ("both", "metered"): "skipped",
    }  # fmt: skip
    (skipped,) = outcome.run.about().skipped_arms
    assert skipped["arm"] == "both"
    assert "the kernel refuses telepathy" in skipped["reason"]
    trials = outcome.run.path / "trials"
    assert not [path for path in trials.glob("*-both-*/*") if path.name.startswith("agent-")]
    assert list(trials.glob("*-http-*/agent-http.log"))


def test_where_no_collector_can_run_there_is_no_run(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRY, "http", replace(REGISTRY["http"], hooks=("telepathy",)))
    with pytest.raises(NeedError, match="No arm of the experiment can run here"):
        evaluated(experiment.load(small), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_plan_tries_the_hooks_as_root_and_says_so() -> None:
    assert "each was tried" in words(command(*PLAN).stdout)


def test_a_plan_without_root_says_that_it_did_not_look() -> None:
    argv = ["unshare", "--user", "--map-user=1000", *HARNESS, *PLAN]
    done = processes.run(argv, cwd=ROOT)
    assert "was not looked at: that takes root" in words(done.stdout)


def test_a_plan_where_the_kernel_refuses_everything_is_an_error() -> None:
    argv = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *HARNESS, *PLAN]
    done = processes.run(argv, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "arm http would be skipped: Collector 'http' cannot run here" in words(done.stdout)
    assert "No arm of the experiment can run here" in done.stderr
    assert "Operation not permitted" in words(done.stderr)


def test_plan_starts_nothing() -> None:
    done = command("evaluate", "--plan")
    assert "Nothing has been started" in " ".join(done.stdout.split())
    assert "go-b0-factorial-switched" in done.stdout
