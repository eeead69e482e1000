"""A signal is one record: what coverage counts, where, beside what, and how that is told."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.analysis import coverage
from harness.analysis.coverage import Count
from harness.collectors import resolve
from harness.errors import InputError
from harness.meters.coverage import Sink, count
from harness.model import Comparison, Part
from harness.node import always_on, freshness
from harness.node.known_events import Known
from harness.node.testbed import TrialLog
from harness.plan import trials
from harness.report import table
from harness.stack import backends, full
from harness.stack.full import Full
from harness.wire.telemetry import SIGNALS, Signal, countable
from tests.unit.test_coverage import SECOND, Spool

PACKAGE = Path(__file__).resolve().parents[2] / "harness"
LOOKUPS = Signal("lookups", "metrics", "dns.lookups", made="connects", probe="network.peer.address")
FILE = """
name = "mine"
purpose = "Counts lookups"
signal = "lookups"
scope = "harness.flows"
command = ["{here}/mine", "{cgroup}", "{control}"]
"""


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Signal:
    """Nothing but this is done to add a signal."""
    monkeypatch.setitem(SIGNALS, LOOKUPS.name, LOOKUPS)
    return LOOKUPS


@pytest.fixture
def agent(tmp_path: Path) -> Any:
    """A collector of one's own that counts the signal."""
    (tmp_path / "mine.toml").write_text(FILE)
    spec = trials.collector(resolve(str(tmp_path / "mine.toml")))
    return SimpleNamespace(name=spec.name, spec=spec)


def test_without_its_record_a_signal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FILE)
    with pytest.raises(InputError, match="requests, connections, executions, samples, not 'look"):
        resolve(str(tmp_path / "mine.toml"))


def test_what_is_sent_is_no_signal_that_a_collector_names(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FILE.replace("lookups", "spans"))
    with pytest.raises(InputError, match="signal is one of"):
        resolve(str(tmp_path / "mine.toml"))


@pytest.mark.usefixtures("added")
def test_a_signal_that_is_added_is_counted_at_the_sink(agent: Any, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.counter(1, "dns.lookups", 9, peer="127.0.0.2")
    spool.counter(2, "dns.lookups", 400, peer="10.0.0.1")
    sink = Sink("http://127.0.0.1:1", spool.path, {})
    notes = TrialLog(spec=agent)
    made: Any = {"connects": Known(10, "127.0.0.2", "the next one failed")}
    testbed: Any = SimpleNamespace(receiver=sink)
    part = Part("harness.flows")
    always_on._coverage(testbed, agent, made, part, notes)
    told = {value.metric: value.value for value in notes.values}
    assert told == {"signal_seen": 9, "signal_made": 10}
    assert {value.labels["signal"] for value in notes.values} == {"lookups"}
    assert notes.details["warnings"] == [
        "mine: of its coverage of lookups only 10 of them is known: the next one failed."
    ]
    assert count(spool.path, part, "lookups") == 409


@pytest.mark.usefixtures("added")
def test_a_signal_that_is_added_is_found_in_the_full_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counters(instance: str, metric: str, since: int) -> list[Any]:
        asked.append(metric)
        return []

    receiver = Full(SimpleNamespace(), {})  # type: ignore[arg-type]
    receiver._backends = SimpleNamespace(counters=counters)  # type: ignore[assignment]
    monkeypatch.setattr(full, "COMPLETE_SECONDS", 0.0)
    assert receiver.count(Part("harness.flows", instance="x", flushed_ns=SECOND), "lookups", 1) == 0
    assert asked == [backends.metric("dns.lookups")]


@pytest.mark.usefixtures("added")
def test_a_signal_that_is_added_is_told_in_the_report(agent: Any) -> None:
    assert freshness.kinds(agent.spec) == ["metrics"]
    share = coverage.share(Count(9, 10), "lookups")
    assert coverage.method(Count(9, 10), "lookups").endswith("(Clopper-Pearson)")
    row = Comparison(
        "go", "mine", "coverage_percent[lookups]", "%", share.estimate, share.low, share.high,
        share.n, 0.0, 0.0, "",
    )  # fmt: skip
    assert table._arrived(row) == ("9 of 10 probes", "for lookups")


def test_no_other_module_names_a_signal() -> None:
    """A table that repeats them would have to be changed for each that is added."""
    names = {name for name in SIGNALS if name not in ("requests", "spans")}  # which meters share
    assert names
    allowed = {PACKAGE / "wire/telemetry.py", PACKAGE / "collectors/included.py"}
    for folder in ("analysis", "collectors", "meters", "node", "plan", "report", "wire"):
        for path in set((PACKAGE / folder).rglob("*.py")) - allowed:
            found = {
                each.value
                for each in ast.walk(ast.parse(path.read_text()))
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            }
            others = {"executions"} if path.name == "known_events.py" else set()  # how it is made
            assert not names & found - others, path


def test_the_guide_tells_what_each_is_counted_by() -> None:
    guide = (PACKAGE.parent / "docs/guide.md").read_text()
    rows = {line.split("`")[1]: line for line in guide.splitlines() if line.startswith("| `")}
    for name in countable():
        assert SIGNALS[name].counted_by in rows[name]
        assert SIGNALS[name].probe in rows[name]
