"""Requests that fail with one collector of a shared trial take its windows, and no more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis import blame
from harness.analysis.summary import Summary, summarize
from harness.controller.due import replacement
from harness.model import WindowRow
from harness.results import requests
from harness.results.run import Run
from tests.unit import synthetic
from tests.unit.costed import COSTS, LOUD, row
from tests.unit.test_factorial import NAMES, experiment

States = tuple[bool, ...]
Share = Callable[[States], float]
FACTORS = (*NAMES, "baseline")


def flows(states: States) -> float:
    return 0.02 * states[1]


def broken(path: Path, share: Share, *, dearer: bool = True, **changes: Any) -> Run:
    """A run in which so many requests of a window fail, and what fails costs the service more."""
    what = experiment(**changes)
    run = synthetic.write(path, what, LOUD)
    random = np.random.default_rng(4)
    for record in run.records():
        if record.trial.kind != "switched":
            continue
        rows = run.windows(record.trial)
        folder = run.path / "trials" / record.trial.name
        found = dict(np.load(folder / requests.NAME))
        failing = np.zeros(len(found["due_ns"]))
        for each in rows:
            window, due = each.window, found["due_ns"]
            its = share(window.states)
            failing[(due >= window.start_ns) & (due <= window.end_ns)] = its
            if dearer:  # with others on as well, so that the whole trial would tell them wrong
                extra = 900e-6 * its * each.meters["requests"] * window.states[0]
                each.meters["cpu.workload"] += extra  # type: ignore[index]
        failed = random.random(len(failing)) < failing
        found["failed"], found["status"] = failed, np.where(failed, 0, 200).astype(np.int16)
        np.savez(folder / requests.NAME, **found)
        told = {"errors_total": float(failed.sum()), "requests_total": float(len(failed))}
        values = tuple(
            dataclasses.replace(v, value=told.get(v.metric, v.value)) for v in record.values
        )
        run.append(dataclasses.replace(record, values=values), rows)
    return run


def windows(run: Run) -> tuple[requests.Requests, list[WindowRow]]:
    record = next(r for r in run.records() if r.trial.kind == "switched")
    path = run.path / "trials" / record.trial.name / requests.NAME
    return requests.read(path), list(run.windows(record.trial))


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return broken(tmp_path_factory.mktemp("runs") / "run", flows)


@pytest.fixture(scope="module")
def summary(spoilt: Run) -> Summary:
    return summarize(spoilt)


@pytest.mark.parametrize(
    ("share", "blamed"),
    [
        (flows, ["flows"]),
        (lambda s: 0.02 * (s[0] and s[2]), ["http", "profile"]),  # only both together
        (lambda s: 0.02 * s[0] + 0.01 * s[2], ["http", "profile"]),
        (lambda _: 0.01, []),  # whatever is on
        (lambda s: 0.01 + 0.02 * s[1], []),  # more with it, and too many without
        (lambda s: 0.02 * s[-1], []),  # the null factor switches nothing
    ],
)  # fmt: skip
def test_failures_go_with_what_was_on(share: Share, blamed: list[str], tmp_path: Path) -> None:
    run = broken(tmp_path / "run", share, blocks=1, min_blocks=1)
    assert sorted(blame.found(*windows(run), FACTORS)) == blamed


def test_a_burst_is_nobodys(tmp_path: Path) -> None:
    """Failures of half a second lie in few windows, which chance may have given to anyone."""
    log, rows = windows(broken(tmp_path / "run", lambda _: 0.0, blocks=1, min_blocks=1))
    begin = rows[40].window.start_ns
    burst = (log.due_ns >= begin) & (log.due_ns < begin + 500_000_000)
    assert blame.found(dataclasses.replace(log, failed=burst), rows, FACTORS) == {}


def test_the_others_are_told_from_the_windows_without_it(summary: Summary) -> None:
    """No bias: what fails costs 18 us more where `http` is on too, and is in no figure of it."""
    assert {j.status for j in summary.trials if j.record.trial.kind == "switched"} == {"invalid"}
    for arm in ("http", "profile", "baseline"):
        found = row(summary, arm, "workload_cpu_us")
        assert found.estimate == pytest.approx(COSTS.get(arm, 0.0), abs=0.6)
        assert found.high - found.low < 2.4
        assert np.isfinite(row(summary, arm, "latency_p50_us").low)


def test_what_it_is_in_is_not_told_and_says_why(summary: Summary) -> None:
    for arm in ("flows", "two", "all"):
        assert summary.row("go", arm, "workload_cpu_us") is None
        why = summary.missing("go", arm, "workload_cpu_us")
        assert "with flows on, 0.00% with it off" in why
    assert summary.row("go", "http", "agent_us") is None  # of a part in which all are on
    assert "told of all together" in summary.missing("go", "http", "agent_us")
    told = [text for text in summary.warnings if "windows without flows" in text]
    assert len(told) == 2  # blocks
    assert any(harm.arm == "flows" and harm.kind == "errors" for harm in summary.harms)


def test_a_whole_trial_of_the_same_block_is_preferred(spoilt: Run, tmp_path: Path) -> None:
    """One that was run again without the collector stands for it."""
    run = broken(tmp_path / "run", flows)
    first = next(r for r in run.records() if r.trial.kind == "switched")
    rows = run.windows(first.trial)
    values = tuple(v for v in first.values if v.metric != "errors_total")
    again = dataclasses.replace(
        first, trial=dataclasses.replace(first.trial, attempt=1), values=values,
        extra={"left_out": {"flows": "It failed requests."}},
    )  # fmt: skip
    folder = run.folder(again.trial)
    log = run.path / "trials" / first.trial.name / requests.NAME
    (folder / requests.NAME).write_bytes(log.read_bytes())
    run.append(again, rows)
    found = summarize(run)
    assert row(found, "http", "agent_us").estimate > 0
    assert len([text for text in found.warnings if "windows without flows" in text]) == 1


def test_a_trial_is_run_again_while_somebody_is_left(spoilt: Run) -> None:
    record = next(r for r in spoilt.records() if r.trial.kind == "switched")
    rows, what = spoilt.windows(record.trial), dataclasses.replace(experiment(), replacements=1)
    for blamed, is_due in ((NAMES[:1], True), (NAMES, False)):
        extra = {**record.extra, blame.BLAMED: dict.fromkeys(blamed, "It failed requests.")}
        told = dataclasses.replace(record, extra=extra)
        assert (replacement(what, told, rows) is not None) == is_due
