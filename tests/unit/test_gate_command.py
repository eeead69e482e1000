"""`harness gate` on a published run: exit codes, outputs, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from harness.analysis import gates
from harness.cli import app, screen
from tests.unit.gated import PUBLISHED


def run_gate(tmp_path: Path, budget: str, *options: str, run: Path = PUBLISHED) -> Any:
    path = tmp_path / "budget.toml"
    path.write_text(budget)
    return CliRunner().invoke(app, ["gate", str(run), "--budget", str(path), *options])


COVERED = '[[budget]]\nmetric = "coverage_percent[requests]"\narm = "http"\n'


@pytest.mark.parametrize(
    ("limit", "options", "code"),
    [
        ("min = 99", (), 0),
        ("min = 99.99", (), 3),
        ("min = 99.99", ("--inconclusive", "pass"), 0),
        ("min = 99.99", ("--inconclusive", "fail"), 1),
        ("max = 90", (), 1),
        ("maxi = 90", (), 2),
        ("max_increase = 1", (), 2),
        ("min = 99", ("--inconclusive", "maybe"), 2),
        ("min = 99", ("--against", "nowhere.json"), 2),
    ],
)
def test_exit_codes_on_a_published_run(
    limit: str, options: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    done = run_gate(tmp_path, COVERED + limit, *options)
    assert done.exit_code == code, done.output
    if code != 2:
        assert "Next: " in done.stdout.splitlines()[-1]


def test_every_output_of_one_call(tmp_path: Path) -> None:
    comment, suite, said = (tmp_path / "out" / name for name in ("c.md", "j.xml", "g.json"))
    done = run_gate(
        tmp_path, COVERED + "min = 99", "--markdown", str(comment), "--junit", str(suite),
        "--json-file", str(said), "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(said.read_text())
    assert "✅" in comment.read_text()
    assert ElementTree.parse(suite).getroot().get("tests") == "3"


def test_a_run_against_itself_has_no_increase(tmp_path: Path) -> None:
    budget = '[[budget]]\nmetric = "coverage_percent[requests]"\narm = "http"\nworkload = "go"\n'
    done = run_gate(
        tmp_path, budget + "max_increase = 10", "--against", str(PUBLISHED / "report.json"),
        "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["verdicts"][0]["estimate"] == 0
    assert document["against"]["differences"] == []


def test_an_earlier_run_is_pooled_and_named(tmp_path: Path) -> None:
    before = PUBLISHED.with_name("standard")
    budget = COVERED + 'workload = "go"\nmin = 99'
    done = run_gate(tmp_path, budget, "--earlier", str(before), "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["earlier"] == [json.loads((before / "report.json").read_text())["run"]]
    (verdict,) = document["verdicts"]
    assert verdict["confidence"] == 0.975
    alone = json.loads(run_gate(tmp_path, budget, "--json").stdout)["verdicts"][0]
    assert verdict["n"] > alone["n"]
    assert run_gate(tmp_path, budget, "--earlier", str(PUBLISHED)).exit_code == 2


def test_an_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_gate(tmp_path, COVERED + "min = 99", "--junit", str(tmp_path / "file/j.xml"))
    assert done.exit_code == 2


def test_the_budget_alone_can_be_checked(tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    for text, code in ((COVERED + "min = 99", 0), (COVERED + "mni = 99", 2),
                       (COVERED + "max_increase = 1", 2)):  # fmt: skip
        path.write_text(text)
        done = CliRunner().invoke(app, ["gate", "--budget", str(path), "--check"])
        assert done.exit_code == code, done.output
    path.write_text(COVERED + "min = 99")
    done = CliRunner().invoke(app, ["gate", "--budget", str(path)])
    assert done.exit_code == 2
    assert "No run was named" in done.output


def test_the_help_says_the_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(app, ["gate", "--help"]).output.split())
    assert "0 pass, 1 fail, 2 error (nothing was judged), 3 inconclusive" in text


def test_a_defect_is_an_error_and_never_a_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "judge", lambda *_: 1 / 0)
    done = run_gate(tmp_path, COVERED + "min = 99")
    assert done.exit_code == screen.ERROR == 2
    assert "ZeroDivisionError" in done.output
