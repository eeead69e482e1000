"""Which receiver a run gets, what is refused before it begins, and what it is told at the end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from harness.collectors import REGISTRY
from harness.controller import evaluate, telemetry
from harness.errors import ComponentError, InputError, NeedError
from harness.linux import processes
from harness.linux.placement import beside
from harness.model import Arm, Comparison, Part
from harness.node import freshness, receivers
from harness.node.testbed import TrialLog
from harness.plan import trials
from harness.plan.definitions import resolve_all
from harness.plan.experiment import Experiment, plan
from harness.results.run import Run
from harness.stack import affinity, ledger, lifecycle, results
from harness.stack.config import Stack
from harness.stack.config.description import KEEPS
from harness.stack.full import Full
from harness.stack.ledger import Running, State
from harness.wire.spec import Placement
from harness.wire.telemetry import SPREAD
from tests.waiting import PATIENCE_SECONDS

FULL = Experiment("e", ("go",), (Arm("baseline"), Arm("http", ("http",))), stack="full")
SINK = replace(FULL, stack="sink")
UP = State(
    "", "", tuple(Running(name, "1", 1, "", "", ()) for name in (*KEEPS.values(), "otelcol"))
)


def test_a_collector_that_does_not_say_who_it_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "state", lambda: UP)
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\npurpose = "p"\ncommand = ["./a", "{cgroup}", "{otlp}", "{control}"]\n'
    )
    arms = (Arm("baseline"), Arm("new", ("http",), (str(path),)))
    telemetry.check(FULL, resolve_all(FULL))
    mine = replace(SINK, arms=arms)
    telemetry.check(mine, resolve_all(mine))
    with pytest.raises(InputError, match=r"mine.toml' cannot be found .*\{instance\}"):
        telemetry.check(replace(FULL, arms=arms), resolve_all(mine))


def test_a_stack_that_cannot_be_had_is_an_error_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(components: Any) -> None:
        assert {role.name for role in components} >= {*KEEPS, "otelcol"}
        raise NeedError("Tempo cannot be had here.")

    monkeypatch.setattr(lifecycle, "require_all", refuse)
    monkeypatch.setattr(ledger, "state", lambda: None)
    receivers.check("sink")
    with pytest.raises(NeedError, match="Tempo cannot be had"):
        receivers.check("full")


def test_a_stack_that_lacks_a_backend_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "state", lambda: replace(UP, components=UP.components[2:-1]))
    with pytest.raises(NeedError, match="has no traces and no metrics and no otelcol"):
        receivers.check("full")


def test_the_plan_says_where_telemetry_goes() -> None:
    assert "small sink" in telemetry.plan(SINK, False)
    assert "started for the run, then taken down: 20 s more" in telemetry.plan(FULL, False)
    assert "the one that is up" in telemetry.plan(FULL, True)


def test_trials_of_the_full_stack_take_longer_where_there_are_collectors() -> None:
    assert FULL.expected_seconds() - SINK.expected_seconds() == pytest.approx(2 * 20)


@pytest.mark.parametrize("stays", [True, False])
def test_the_stack_that_is_up_is_borrowed_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    one = Running("tempo", "2.8.0", 1, str(tmp_path / "cgroup"), str(tmp_path / "log"), ())
    state = State(str(tmp_path), "127.0.0.1", (one,))
    up: list[bool] = [stays]
    said: list[str] = []

    @contextmanager
    def borrowed(tell: Any) -> Iterator[Stack]:
        tell("tempo is ready after 1.0 s")
        up[0] = True
        yield Stack(tmp_path)
        up[0] = stays

    monkeypatch.setattr(lifecycle, "borrowed", borrowed)
    monkeypatch.setattr(ledger, "state", lambda: state if up[0] else None)
    (tmp_path / "log").write_text("out of luck")
    place = Placement((0,), (0,), (0,), (0,), "")
    machine: Any = SimpleNamespace(work=tmp_path / "work")
    machine.work.mkdir()
    with ExitStack() as ends:
        started = receivers.start("full", machine, place, ends, said.append)
        assert isinstance(started.receiver, Full)
        assert started.receiver.url == "http://127.0.0.1:4318"
        assert started.receiver.cgroups == {"tempo": tmp_path / "cgroup"}
        assert (started.stays, started.components) == (stays, {"tempo": "2.8.0"})
        started.failed = True  # a trial, whose reader is sent to the logs
    assert up == [stays]
    assert said == ["tempo is ready after 1.0 s"]
    kept = machine.work / "logs/tempo.log"
    assert kept.exists() == (not stays)  # where the stack's own goes


def test_figures_go_out_as_one_gauge_a_row_and_bound() -> None:
    row = Comparison("go", "http", "coverage_percent[requests]", "%", 99.5, 98.0, float("nan"), 3,
                     0.1, 0.0, "m")  # fmt: skip
    request = ParseDict(results.payload("r", [row], 17), ExportMetricsServiceRequest())
    (resource,) = request.resource_metrics
    assert _attributes(resource.resource) == {"service.name": "harness"}
    (metric,) = resource.scope_metrics[0].metrics
    assert (metric.name, metric.unit) == ("harness.result", "")
    told = {
        _attributes(point)["harness.bound"]: point.as_double for point in metric.gauge.data_points
    }
    assert told == {"estimate": 99.5, "low": 98.0}
    assert _attributes(metric.gauge.data_points[0]) == {
        "harness.run": "r", "harness.workload": "go", "harness.arm": "http", "harness.unit": "%",
        "harness.metric": "coverage_percent[requests]", "harness.bound": "estimate",
    }  # fmt: skip


def _attributes(holder: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in holder.attributes}


def test_a_collector_that_is_gone_does_not_spoil_the_run(tmp_path: Path) -> None:
    def refuse(*_: Any) -> None:
        raise ComponentError("The Collector did not take them.")

    nodes: Any = SimpleNamespace(node=lambda: SimpleNamespace(send_results=refuse))
    run = Run.create(tmp_path / "r", FULL)
    for stays in (False, True):
        outcome = evaluate.Outcome(run)
        hello: Any = SimpleNamespace(stays=stays)
        evaluate._send_results(outcome, nodes, hello)
        assert len(outcome.warnings) == stays
    assert "The Collector did not take them." in outcome.warnings[0]


@pytest.fixture
def threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Of a process in the cgroup `tmp_path`, the only component of the stack that is up."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one CPU")
    code = (
        "import threading, time\n"
        "for _ in 'ab': threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print('{\"ready\": 1}', flush=True); time.sleep(600)"
    )
    process = processes.spawn([sys.executable, "-c", code], log=tmp_path / "log")
    try:
        assert processes.announced(process, PATIENCE_SECONDS) == {"ready": 1}
        (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n999999999\n")
        monkeypatch.setattr(ledger, "DIRECTORY", tmp_path / "stack")
        component = Running("tempo", "", process.pid, str(tmp_path), "", ())
        state = State(str(tmp_path), "", (component,))
        ledger.DIRECTORY.mkdir()
        (ledger.DIRECTORY / "state.json").write_text(json.dumps(asdict(state)))
        found = [int(path.name) for path in Path(f"/proc/{process.pid}/task").iterdir()]
        assert len(found) == 3
        yield found
    finally:
        process.send_signal(signal.SIGKILL)
        processes.stop(process)


def _allowed(threads: list[int]) -> set[frozenset[int]]:
    return {frozenset(os.sched_getaffinity(each)) for each in threads}


def test_running_processes_are_kept_on_some_cpus_and_let_go_again(
    threads: list[int], tmp_path: Path
) -> None:
    cpus = os.sched_getaffinity(0)
    with affinity.held([tmp_path], [min(cpus)]):
        assert _allowed(threads) == {frozenset({min(cpus)})}
        assert affinity.free() == []  # its owner lives
        assert _allowed(threads) == {frozenset({min(cpus)})}
    assert _allowed(threads) == {frozenset(cpus)}
    assert affinity.free() == []


HOLDER = """
import os, signal, sys
from pathlib import Path
from harness.stack import affinity, ledger

ledger.DIRECTORY = Path(sys.argv[1]) / "stack"
with affinity.held([Path(sys.argv[1])], [int(sys.argv[2])]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("by", ["clean", "the next"])
def test_cpus_that_a_killed_evaluation_took_are_given_back(
    threads: list[int], tmp_path: Path, by: str
) -> None:
    cpus = os.sched_getaffinity(0)
    argv = [sys.executable, "-c", HOLDER, str(tmp_path), str(min(cpus))]
    assert processes.run(argv, check=False).returncode == -signal.SIGKILL
    assert _allowed(threads) == {frozenset({min(cpus)})}
    if by == "clean":
        assert affinity.free() == ["The stack may use all its CPUs again."]
    else:
        with affinity.held([tmp_path], [max(cpus)]):
            assert _allowed(threads) == {frozenset({max(cpus)})}
    assert _allowed(threads) == {frozenset(cpus)}
    assert [path.name for path in ledger.DIRECTORY.iterdir()] == ["state.json"]


def test_what_is_beside_workload_and_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    assert beside(Placement((0,), (1,), (2,), (3,), "", idle=(4,))) == (2, 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert beside(Placement((0,), (1,), (1,), (1,), "")) == (1,)


class Watched:
    """A receiver whose arrivals are what a test says."""

    poll_seconds = 0.2

    def __init__(self, delays: dict[str, int]) -> None:
        self.delays, self.asked = delays, list[tuple[str, float]]()

    def watch(self, parts: Any, seconds: float, complete: Any) -> None:
        self.asked = [(kind, seconds) for _, kind in parts]
        self.complete = complete()

    def data_latency(self, part: Part, kind: str) -> Any:
        return np.linspace(0, 1, self.delays[kind])


@pytest.fixture
def testbed() -> Any:
    driver = SimpleNamespace(
        start=lambda rate, requests: None, wait=lambda path: path.write_text("")
    )
    service = SimpleNamespace(check=lambda: None)
    return SimpleNamespace(driver=driver, service=service, rate=100.0, scope="w")


def _notes() -> TrialLog:
    e = replace(FULL, watched_seconds=1.0)
    return TrialLog(trials.trial(e, plan(e)[0], resolve_all(e)))


def test_too_few_records_are_told_in_a_sentence(testbed: Any, tmp_path: Path) -> None:
    testbed.receiver = Watched({"spans": 19, "metrics": 2 * len(SPREAD)})
    agent, notes = http(19), _notes()
    freshness.run(testbed, [agent], tmp_path, notes, 0)
    assert testbed.receiver.complete
    assert testbed.receiver.asked == [("metrics", 7.0), ("spans", 7.0)]
    told = {(v.metric, v.labels.get("signal")): v.value for v in notes.values}
    assert told["data_latency_records", "spans"] == 19
    assert told["data_latency_records", "metrics"] == 2
    assert ("data_latency_p99_seconds", "spans") not in told
    assert told["data_latency_p99_seconds", "metrics"] == 1.0  # of few records the latest
    assert told["data_latency_resolution_seconds", None] == 0.2
    (warning,) = notes.details["warnings"]
    assert warning == (
        "http: 19 spans were found while the backends were watched; "
        "a percentile of their data latency takes 20."
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_found_counts_as_late(testbed: Any, tmp_path: Path) -> None:
    """98 of 100 spans: without the other two the 99th percentile would look well."""
    testbed.receiver = Watched({"spans": 98, "metrics": 2 * len(SPREAD)})
    notes = _notes()
    freshness.run(testbed, [http(100)], tmp_path, notes, 0)
    assert not testbed.receiver.complete
    told = {(v.metric, v.labels.get("signal")): v.value for v in notes.values}
    assert told["data_latency_missing", "spans"] == 2
    assert told["data_latency_p50_seconds", "spans"] < 1
    assert told["data_latency_p99_seconds", "spans"] == freshness.LATE_SECONDS
    assert notes.details["warnings"] == ["http: 2 spans were not found 30 s after the rest."]


def test_backends_that_answer_slowly_are_told_of(testbed: Any, tmp_path: Path) -> None:
    testbed.receiver = Watched({"spans": 100, "metrics": 2 * len(SPREAD)})
    testbed.receiver.poll_seconds = 3.3
    notes = _notes()
    freshness.run(testbed, [http(100)], tmp_path, notes, 0)
    (warning,) = notes.details["warnings"]
    assert "took 3.3 s to say what is new" in warning


def http(sent: int) -> Any:
    """An agent of the http collector that says to have sent so many spans since it was watched."""
    told = [0, *[sent] * 9]
    return SimpleNamespace(
        spec=trials.collector(REGISTRY["http"]), name="http", instance="http-1",
        stats=lambda: {"spans": told.pop(0)},
    )  # fmt: skip


def test_nothing_is_watched_where_nothing_is_installed(testbed: Any, tmp_path: Path) -> None:
    freshness.run(testbed, [], tmp_path, _notes(), 0)


def test_every_collector_says_what_kinds_it_sends() -> None:
    assert {name: freshness.kinds(trials.collector(each)) for name, each in REGISTRY.items()} == {
        "http": ["metrics", "spans"], "flows": ["metrics"], "profile": ["metrics"],
        "guard": ["logs"], "inject": [], "sham": [],
    }  # fmt: skip


def test_the_bill_of_the_small_sink_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it was waited for something"))
    sink: Any = SimpleNamespace(cgroups={}, read=dict, poll_seconds=0.0)
    notes = _notes()
    freshness.Bill(SimpleNamespace(receiver=sink)).note(notes)  # type: ignore[arg-type]
    assert notes.values == []
