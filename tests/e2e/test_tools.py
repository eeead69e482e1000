"""What people trace a service with by hand, as Debian has it, measured as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.results.run import Run, TrialRecord
from tests.e2e.evaluating import beside_a_service, clean_machine, completed
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    yield from clean_machine()


def _metered(run: Run) -> TrialRecord:
    (found,) = [r for r in run.records() if (r.trial.arm, r.trial.kind) == ("theirs", "metered")]
    return found


def _sum(record: TrialRecord, metric: str) -> float:
    return sum(each.value for each in record.values if each.metric == metric)


def test_a_table_of_each_second_is_added_up(tmp_path: Path) -> None:
    """The system calls of the service, of which each request needs two at least."""
    run = completed(beside_a_service("go", "libbpf-syscount"), tmp_path)
    assert [r.status for r in run.records()] == ["ok"] * len(run.records())
    record = _metered(run)
    requests, events = _sum(record, "counted_requests"), _sum(record, "metered_events")
    assert requests > 0
    # its program runs for the system calls of everybody
    assert 2 * requests < events < _sum(record, "bpf_run_count")
    assert strangers(run) == []


def test_a_line_for_each_connection_is_counted(tmp_path: Path) -> None:
    """Those that ended: a few requests in a hundred end theirs, or one to the upstream."""
    run = completed(beside_a_service("go", "libbpf-tcplife"), tmp_path)
    assert [r.status for r in run.records()] == ["ok"] * len(run.records())
    record = _metered(run)
    assert 0 < _sum(record, "metered_events") < _sum(record, "counted_requests") / 4
    assert strangers(run) == []
