"""Arms that share their trials, on real processes: who was on in which window, and who was not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.summary import Summary, summarize
from harness.collectors import resolve
from harness.load import record
from harness.plan import design
from harness.results.check import check
from harness.results.run import Run, TrialRecord
from tests.e2e.evaluating import completed, ended
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e

BURN_NS = 800_000  # longer than a whole request takes without it
COMMON = """
workloads = ["plain"]
blocks = 1
warmup_seconds = 0.5
warmup_limit_seconds = 2.0
settle_seconds = 0.3
switched_seconds = 4.0
steady_seconds = 0.5
metered_seconds = 0.5
replacements = 0
calibration_seconds = 0.5
seed = 3
loads = { plain = { rate = 200 } }
[[arms]]
name = "baseline"
[[arms]]
name = "http"
collectors = ["http"]
"""
KNOWN = f"inject:ns={BURN_NS}"
SLUG = resolve(KNOWN).slug
SHARED = f"""{COMMON}
[[arms]]
name = "flows"
collectors = ["flows"]
[[arms]]
name = "known"
collectors = ["{KNOWN}"]
[[arms]]
name = "all"
collectors = ["http", "flows", "{KNOWN}"]
"""
FAILING = (
    COMMON
    + """
[[arms]]
name = "lacking"
collectors = ["{folder}/lacking.toml"]
[[arms]]
name = "mortal"
collectors = ["{folder}/mortal.toml"]
[[arms]]
name = "all"
collectors = ["http", "{folder}/mortal.toml"]
"""
)
OUTSIDE = """
name = "{name}"
purpose = "to be a nuisance"
command = ["{{python}}", "{{here}}/agent.py", "{{control}}", "{name}", "{{cgroup}}"]
"""
AGENT = '''
"""A collector without programs: one that lacks something, and one that ends when it is busy."""
import json, socket, sys

path, name, _ = sys.argv[1:]
if name == "lacking":
    print(json.dumps({"ready": False, "what": "There is no moon.", "why": "It is day."}))
    sys.exit()
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
print(json.dumps({"ready": True, "programs": []}), flush=True)
stream, on = server.accept()[0].makefile("rw"), 0
for line in stream:
    cmd = json.loads(line)["cmd"]
    on += cmd == "on"
    if on > 5:
        sys.exit(9)
    more = {"events": 0, "lost": 0, "map_bytes": 0} if cmd in ("stats", "flush") else {}
    stream.write(json.dumps({"ok": True, "seconds": 0.0, **more}) + "\\n")
    stream.flush()
    if cmd == "stop":
        break
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return completed(SHARED, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def summary(run: Run) -> Summary:
    return summarize(run)


def switched(run: Run) -> TrialRecord:
    return next(r for r in run.records() if r.trial.kind == "switched")


def totals(record: TrialRecord, collector: str) -> Mapping[str, float]:
    return {v.metric: v.value for v in record.values if v.labels.get("collector") == collector}


def test_the_arms_share_one_trial_and_a_metered_one(run: Run) -> None:
    assert [(r.trial.arm, r.trial.kind) for r in run.records()] == [
        ("factorial", "switched"), ("factorial", "metered"),
    ]  # fmt: skip
    assert check(run) == []
    assert strangers(run) == []


def test_the_windows_have_the_states_that_the_design_drew(run: Run) -> None:
    e, trial = run.experiment(), switched(run).trial
    rows = run.windows(trial)
    drawn = design.states(4, design.cycles(e), trial.seed)
    assert [row.window.states for row in rows] == drawn
    assert [row.window.quadruple for row in rows] == [i // 16 for i in range(len(rows))]
    before: tuple[bool, ...] = (False,) * 4
    for row in rows:  # each collector was switched where its own state changed, and only there
        now = row.window.states
        changed = {n for i, n in enumerate(("http", "flows", SLUG)) if now[i] != before[i]}
        assert {f"switch_seconds[{n}]" for n in changed} == {m for m in row.meters if "[" in m}
        before = now


def test_what_a_collector_does_happens_in_its_own_windows_only(run: Run) -> None:
    """Each request within a window waits for the burn if, and only if, its collector is on."""
    trial, burning = switched(run).trial, []
    log = record.read(run.path / "trials" / trial.name / "requests.npz")
    took = log.end_ns - log.start_ns
    for row in run.windows(trial):
        window = row.window
        inside = (log.start_ns > window.start_ns) & (log.end_ns < window.end_ns)
        if not inside.any():  # the machine stood still
            continue
        if window.states[2]:
            assert took[inside].min() >= BURN_NS
        else:  # whatever else the machine did to some of them
            burning.append(took[inside].min() >= BURN_NS)
    assert len(burning) > len(run.windows(trial)) // 4
    assert np.mean(burning) < 0.25  # by another collector's states it would be half of them


def test_it_counts_the_requests_of_its_own_windows(run: Run) -> None:
    told = totals(switched(run), SLUG)
    assert told["injected_events"] == pytest.approx(told["injected_requests"], rel=0.1)
    every = sum(row.meters["requests"] for row in run.windows(switched(run).trial))
    assert 0.35 * every < told["injected_requests"] < 0.8 * every


def test_values_are_told_of_each_collector(run: Run, summary: Summary) -> None:
    for arm in ("http", "flows", "known", "all"):
        for metric in ("agent_us", "agent_memory_mb", "map_memory_mb", "bpf_us", "switch_ms"):
            assert summary.row("plain", arm, metric), (arm, metric)
    covered = summary.row("plain", "http", "coverage_percent[requests]")
    assert covered is not None
    assert covered.estimate == pytest.approx(100, abs=2)
    memory = {
        a: summary.row("plain", a, "agent_memory_mb") for a in ("http", "flows", "known", "all")
    }
    each = {arm: row.estimate for arm, row in memory.items() if row is not None}
    assert each["all"] == pytest.approx(each["http"] + each["flows"] + each["known"])
    metered = next(r for r in run.records() if r.trial.kind == "metered")
    for row in run.windows(metered.trial):
        parts = [value for name, value in row.meters.items() if name.startswith("bpf.runs[")]
        assert len(parts) == 3
        assert sum(parts) == row.meters["bpf.runs"]


def test_the_burn_is_the_known_arm_s_and_nobody_else_s(summary: Summary) -> None:
    us = {arm: summary.row("plain", arm, "workload_cpu_us") for arm in ("http", "known", "all")}
    known, other = us["known"], us["http"]
    assert known is not None
    assert other is not None
    assert 0.5 * BURN_NS < 1e3 * known.estimate < 1.5 * BURN_NS
    assert abs(other.estimate) < 0.5 * known.estimate


def test_a_collector_that_fails_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    for name in ("lacking", "mortal"):
        (tmp_path / f"{name}.toml").write_text(OUTSIDE.format(name=name))
    outcome = ended(FAILING.replace("{folder}", str(tmp_path)), tmp_path)
    run = outcome.run
    states = [(r.trial.kind, r.trial.attempt, r.status) for r in run.records()]
    assert states == [("switched", 0, "failed"), ("switched", 1, "ok"), ("metered", 0, "ok")]
    first, again, _ = run.records()
    assert first.extra["failed_collector"] == "mortal"
    assert "mortal" in first.reason
    assert set(again.extra["left_out"]) == {"lacking", "mortal"}
    assert [each["arm"] for each in run.about().skipped_arms] == ["lacking"]
    found = summarize(run)
    assert found.row("plain", "http", "workload_cpu_us") is not None
    assert found.row("plain", "baseline", "workload_cpu_us") is not None
    for arm in ("mortal", "all"):
        assert found.row("plain", arm, "workload_cpu_us") is None
        assert "mortal" in found.missing("plain", arm, "workload_cpu_us")
    assert "no moon" in found.missing("plain", "lacking", "workload_cpu_us")
    assert any("mortal was left out" in sentence for sentence in found.warnings)
    assert not any("lacking was left out" in sentence for sentence in found.warnings)
