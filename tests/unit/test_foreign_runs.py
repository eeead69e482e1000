"""Runs of root, as somebody sees them who is not: what may be read is told, nothing is written."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from harness.analysis.summary import summarize
from harness.cli import screen
from harness.errors import StoreError
from harness.report import headline
from harness.results import ended
from harness.results.run import Run
from tests.unit import synthetic

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
WHAT = synthetic.experiment(workloads=("go",), blocks=2, switched_seconds=1.2)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to be somebody else")


@pytest.fixture(scope="module")
def reports() -> Iterator[Path]:
    """Root's, where everybody may look: pytest's own folders are closed to others."""
    before = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(prefix="harness-foreign-") as made:
            path = Path(made)
            path.chmod(0o755)
            synthetic.write(path / "run", WHAT)
            yield path
    finally:
        os.umask(before)


@pytest.fixture
def open_folder(reports: Path) -> Iterator[Path]:
    """A folder into which everybody may write."""
    path = reports / "open"
    path.mkdir()
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def harness(*words: object) -> subprocess.CompletedProcess[str]:
    """`harness` as nobody, who may read its source wherever it lies, and write nothing."""
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed (util-linux)")
    may = "-all,+dac_read_search"
    argv = [
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        f"--inh-caps={may}", f"--ambient-caps={may}", sys.executable, "-m", "harness",
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return subprocess.run(
        [*argv, *map(str, words)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def words(text: str) -> str:
    return " ".join(text.split())


def test_its_report_is_printed_and_where_the_page_can_be_had(reports: Path) -> None:
    run, before = reports / "run", snapshot(reports)
    done = harness("report", run)
    assert done.returncode == 0, done.stderr
    assert words(headline.verdict(summarize(Run.open(run)))) in words(done.stdout)
    assert words(done.stderr) == (
        f"Note: You may not write into {run}: the report is printed, and no file of it was "
        f"written. Next: harness report {run} --to FOLDER"
    )
    assert "Report:" not in done.stdout
    assert snapshot(reports) == before


def test_its_report_as_json_is_whole(reports: Path) -> None:
    done = harness("report", reports / "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "run"


def test_its_page_can_be_had_elsewhere(reports: Path, open_folder: Path) -> None:
    there = open_folder / "new"
    done = harness("report", reports / "run", "--to", there)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"Report: {there}/report.html" in done.stdout
    assert {path.name for path in there.iterdir()} == {
        "report.html", "report.md", "report.json", "measurements.jsonl.gz",
    }  # fmt: skip


def test_a_folder_that_may_not_be_written_is_an_error(reports: Path) -> None:
    done = harness("report", reports / "run", "--to", reports / "new")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"Cannot write {reports}/new: Permission denied." in done.stderr
    assert f"harness report {reports}/run --to FOLDER" in done.stderr


def test_a_gate_judges_it(reports: Path) -> None:
    budget = reports / "budget.toml"
    budget.write_text('[[budget]]\nmetric = "agent_memory_mb"\nmax = 100000\narm = "http"\n')
    before = snapshot(reports / "run")
    done = harness("gate", reports / "run", "--budget", budget)
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
    assert "Traceback" not in done.stderr
    assert snapshot(reports / "run") == before
    refused = harness("gate", reports / "run", "--budget", budget, "--junit", reports / "gate.xml")
    assert refused.returncode == 2
    assert f"Cannot write {reports}/gate.xml: Permission denied." in refused.stderr


@pytest.mark.skipif(
    not (importlib.util.find_spec("pandas") and importlib.util.find_spec("pyarrow")),
    reason="pandas and pyarrow are not installed (make data)",
)
def test_its_export_goes_elsewhere(reports: Path, open_folder: Path) -> None:
    refused = harness("export", reports / "run")
    assert refused.returncode == 2
    assert "Permission denied" in refused.stderr
    assert f"`harness export {reports}/run --to FOLDER`" in refused.stderr
    done = harness("export", reports / "run", "--to", open_folder)
    assert done.returncode == 0, done.stderr
    assert (open_folder / "trials.parquet").exists()


def test_it_is_listed(reports: Path) -> None:
    done = harness("runs", "--reports", reports)
    assert done.returncode == 0, done.stderr
    assert "run " in done.stdout
    assert "damaged" not in done.stdout


@contextmanager
def nobody() -> Iterator[None]:
    """This process is, and may not even read what is root's alone."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed(reports: Path) -> Iterator[Path]:
    path = shutil.copytree(reports / "run", reports / "closed")
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


@pytest.mark.parametrize("part", ["", "run.json", "trials"])
def test_what_may_not_be_read_is_no_damage_and_no_empty_run(
    reports: Path, closed: Path, part: str
) -> None:
    (closed / part).chmod(0o600)
    with nobody():
        with pytest.raises(StoreError, match=r"cannot be read: Permission denied") as refused:
            Run.open(closed).records()
        found = {each.name: each.how for each in ended.runs(reports)}
    assert refused.value.next_step
    assert found["closed"] == "you may not read it: ask its owner, or root"
    assert found["run"] == "complete"
    (closed / part).chmod(0o755)


@pytest.mark.parametrize("name", ["trial.json", "windows.jsonl"])
def test_a_closed_file_of_a_trial_is_told_too(closed: Path, name: str) -> None:
    run = Run.open(closed)
    trial = run.records()[0].trial
    (closed / "trials" / trial.name / name).chmod(0o600)
    asks: dict[str, Callable[[], object]] = {
        "trial.json": run.records,
        "windows.jsonl": lambda: run.windows(trial),
    }
    with nobody(), pytest.raises(StoreError, match=r"cannot be read: Permission denied"):
        asks[name]()


def test_a_folder_of_runs_that_may_not_be_seen_is_not_empty(reports: Path) -> None:
    shut = reports / "shut"
    shut.mkdir(mode=0o700)
    with nobody(), pytest.raises(StoreError, match=r"shut cannot be read: Permission denied"):
        ended.runs(shut)
    shut.rmdir()
    assert ended.runs(shut) == []


@pytest.mark.parametrize(("user", "is_defect"), [(NOBODY, False), (0, True)])
def test_any_other_file_that_is_refused_is_named_and_no_defect(
    user: int, is_defect: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root is refused nothing by the owner of a file."""

    @screen.errors
    def command() -> None:
        raise PermissionError(13, "Permission denied", "/root/x")

    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(typer.Exit) as ends:
        command()
    assert ends.value.exit_code == 2
    said = capsys.readouterr().err
    assert ("This is a defect of the harness" in said) == is_defect
    assert ("/root/x: Permission denied. Ask its owner" in words(said)) != is_defect
