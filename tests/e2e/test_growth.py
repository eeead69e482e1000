"""An agent that grows and one that does not, followed on real processes through the steady part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.growth import series
from harness.node.memory_log import SAMPLE_SECONDS
from harness.results.check import check
from harness.results.run import Run
from tests.e2e.evaluating import completed
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
GROWS = 4000  # kB a second
EXPERIMENT = """
workloads = ["plain"]
blocks = 1
warmup_seconds = 0.5
warmup_limit_seconds = 2.0
settle_seconds = 0.3
switched_seconds = 4.0
steady_seconds = {seconds}
metered_seconds = 0.0
replacements = 0
calibration_seconds = 0.5
loads = {{ plain = {{ rate = 100 }} }}
[[arms]]
name = "baseline"
[[arms]]
name = "leak"
collectors = ["{folder}/leak.toml"]
[[arms]]
name = "still"
collectors = ["{folder}/still.toml"]
[[arms]]
name = "http"
collectors = ["http"]
"""
OUTSIDE = """
name = "{name}"
purpose = "to have memory"
command = ["{{python}}", "{script}", "{{control}}", "{grows}", "{{cgroup}}"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("growth")
    for name, grows in (("leak", GROWS), ("still", 0)):
        text = OUTSIDE.format(name=name, grows=grows, script=HERE / "leaking.py")
        (folder / f"{name}.toml").write_text(text)
    return completed(EXPERIMENT.format(folder=folder, seconds=4 * SAMPLE_SECONDS), folder)


def samples(run: Run) -> list[dict[str, Any]]:
    (record,) = [r for r in run.records() if r.trial.arm == "factorial"]
    return run.memory(record.trial)


def grown(run: Run, collector: str) -> Mapping[str, float]:
    _, kinds = series(samples(run), {collector})
    return {name: float(values[-1] - values[0]) for name, values in kinds.items()}


def test_what_grows_is_seen_to_grow_and_what_does_not_is_not(run: Run) -> None:
    for kind in ("rss", "pss", "private_dirty"):
        assert grown(run, "leak")[kind] > 4e6  # 40 MB, on a machine that lets it
        assert abs(grown(run, "still")[kind]) < 1e6
    assert grown(run, "leak")["maps"] == 0


def test_every_agent_is_read_at_every_moment(run: Run) -> None:
    at, kinds = series(samples(run))
    assert len(samples(run)) == 3 * len(at) >= 3 * 2
    assert (kinds["rss"] >= kinds["private_dirty"]).all()
    assert {each["collector"] for each in samples(run)} == {"leak", "still", "http"}
    assert all(each["maps"] > 0 for each in samples(run) if each["collector"] == "http")


def test_the_peak_at_the_first_exports_is_told_beside_the_last(run: Run) -> None:
    (record,) = [r for r in run.records() if r.trial.arm == "factorial"]
    peaks = {
        (v.metric, v.labels["collector"]): v.value for v in record.values if "peak_rss" in v.metric
    }
    for name in ("leak", "still", "http"):
        first = peaks["agent_first_peak_rss_bytes", name]
        assert 1e6 < first <= peaks["agent_peak_rss_bytes", name]
    assert peaks["agent_peak_rss_bytes", "leak"] > peaks["agent_first_peak_rss_bytes", "leak"] + 4e6


def test_all_that_is_kept_is_described(run: Run) -> None:
    assert check(run) == []
    assert strangers(run) == []
