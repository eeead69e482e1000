"""What `harness up` says, with a stack that is only noted and not started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.stack import ledger, lifecycle
from harness.stack.config import Stack
from harness.stack.ledger import Running
from harness.stack.lifecycle import Role, Started, Tell
from harness.stack.readback import Arrival
from tests.unit.stacked import GRAFANAS

NAMES = ("prometheus", "tempo", "loki", "otelcol")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Stack]:
    """The stacks that `up` was asked to start; all components but Grafana can be had."""
    stacks: list[Stack] = []

    def up(stack: Stack, roles: Sequence[Role], tell: Tell) -> Started:
        stacks.append(stack)
        ledger.claim(stack.folder, stack.bind)
        for pid, name in enumerate(NAMES, 100):
            log = str(stack.folder / "logs" / f"{name}.log")
            ledger.note(Running(name, "1.2", pid, f"/cgroup/{name}", log, ("program",)))
        tell("all is ready")
        arrivals = [Arrival("traces", "tempo", 0.5), Arrival("logs", "loki", 0.25)]
        return Started(replace(stack, keeps=GRAFANAS), dict.fromkeys(NAMES, 1.5), arrivals, 4.0)

    monkeypatch.setattr(lifecycle, "up", up)
    monkeypatch.setattr(lifecycle, "require_all", lambda _: None)
    monkeypatch.setattr(ledger, "DIRECTORY", tmp_path / "run" / "stack")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return stacks


def test_it_says_where_everything_is_and_what_is_next(asked: list[Stack], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["up", "--retention", "48"])
    assert done.exit_code == 0, done.output
    assert asked == [Stack(tmp_path / "harness" / "stack", retention_hours=48)]
    for said in (
        "traces: found in tempo after 0.50 s",
        "logs: found in loki after 0.25 s",
        "http://127.0.0.1:4318",
        "http://127.0.0.1:9090",
        f"tempo 1.2: ready after 1.5 s, process 101, log {asked[0].folder}/logs/tempo.log",
        "Grafana was not taken: on PATH: no grafana.",
        "harness down takes it down",
    ):
        assert said in done.stdout
    assert ":3000" not in done.stdout
    assert "all is ready" in done.stderr


def test_the_same_for_machines(asked: list[Stack]) -> None:
    done = CliRunner().invoke(app, ["up", "--json", "--bind", "192.0.2.1"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["endpoints"]["OTLP/gRPC"] == "http://192.0.2.1:4317"
    assert [one["name"] for one in told["components"]] == list(NAMES)
    assert told["components"][1]["ready_seconds"] == 1.5
    assert told["components"][1]["unit"] == ""
    assert told["queryable"][0] == {"signal": "traces", "backend": "tempo", "seconds": 0.5}
    assert told["left_out"]["Grafana"] == "on PATH: no grafana."
    assert set(told["left_out"]) <= {"Grafana", "Jaeger", "VictoriaLogs"}
    assert told["keeps"] == GRAFANAS


def test_grafana_is_left_out_or_required_if_so_asked(
    asked: list[Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, bool]] = []
    up = lifecycle.up

    def noted(stack: Stack, roles: Sequence[Role], tell: Tell) -> Started:
        seen.append({role.name: role.optional for role in roles})
        return up(stack, roles, tell)

    monkeypatch.setattr(lifecycle, "up", noted)
    done = CliRunner().invoke(app, ["up", "--dashboards", "none"])
    assert done.exit_code == 0, done.output
    assert "Grafana was not taken: --dashboards none." in done.stdout
    ledger.forget()
    assert CliRunner().invoke(app, ["up", "--dashboards", "grafana"]).exit_code == 0
    without, required = seen
    assert "grafana" not in without
    assert required["grafana"] is False  # not optional any more
    refused = CliRunner().invoke(app, ["up", "--dashboards", "none", "--require", "grafana"])
    assert refused.exit_code == 2


def test_the_plan_changes_nothing(asked: list[Stack]) -> None:
    done = CliRunner().invoke(app, ["up", "--plan", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["components"]
    assert rows[0]["component"] == "OpenTelemetry Collector"
    assert rows[-1]["how"] == "left out"
    assert asked == []
