"""`harness submit`: what it writes, what it leaves out, what it refuses, and what is not taken."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.analysis import claimed, controls
from harness.cli import app
from harness.collectors import claim
from harness.errors import StoreError
from harness.model import Arm
from harness.plan import experiment as experiments
from harness.report import claims as texts
from harness.report import evidence, submission
from harness.results.run import Run
from tests.unit import synthetic

ROOT = Path(__file__).resolve().parents[2]
ARMS = (Arm("baseline"), Arm("secret-arm", ("http",)), Arm("policy", ("guard",)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with names of somebody's own in it."""
    what = synthetic.experiment(
        name="secret-experiment", workloads=("go", "secret-service"), arms=ARMS, blocks=3
    )
    truth = synthetic.Truth(
        cpu_us={**synthetic.Truth().cpu_us, "secret-service": 60.0},
    )
    told = ("harness", "evaluate", "--url", "http://secret.host:80/", "--target", "ssh:secret")
    about: dict[str, Any] = {"command": told, "target": "ssh:secret"}
    path: Path = synthetic.write(
        tmp_path_factory.mktemp("runs") / "secret-run", what, truth, **about
    ).path
    file = path / "run.json"  # a collector with an option that names a file of somebody's
    file.write_text(file.read_text().replace('"guard"', '"guard:policy=/home/me/p.toml"'))
    return path


@pytest.fixture(scope="module")
def whole(kept: Path) -> dict[str, Any]:
    return submission.make(Run.open(kept))


@pytest.fixture
def made(whole: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(whole)


def test_it_holds_figures_and_names_nobody(made: dict[str, Any]) -> None:
    text = json.dumps(made)
    assert "secret" not in text
    assert "/home" not in text
    assert made["target"] == "ssh"
    assert {arm["collectors"] for arm in made["arms"].values()} == {"", "http"}
    assert {figure["workload"] for figure in made["figures"]} == {"go", "own-service-2"}
    assert any("do not ship" in each for each in made["left_out"][2:])
    assert made["machine"]["kernel"] == "6.18.0"


def test_it_is_read_back_and_joins_the_table(made: dict[str, Any], tmp_path: Path) -> None:
    path = submission.write(made, tmp_path / "submissions")
    assert submission.read(path) == made
    (found,) = evidence.kept(tmp_path)
    said = claim.CheckableClaim(
        "c", "Mine", "> 95 %", "somebody", "2026", "none", quantity="coverage_percent",
        collectors=("http",), command="harness evaluate quick", least=95.0,
    )  # fmt: skip
    rows = claimed.table([said], [found], {})
    assert {each.workload for each in rows if each.evidence is not None} >= {"go"}
    assert "| submitted |" in texts.markdown(rows, [found])
    assert "Synthetic CPU" in texts.markdown(rows, [found])


def _copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "r"))


def _note(path: Path, **changes: Any) -> None:
    file = path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _tear(path: Path) -> None:
    """A window of the middle is lost: what is left can be read, and is no whole run."""
    file = min(path.glob("trials/*/windows.jsonl"))
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:5] + lines[6:]))


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: _note(path, complete=False), "It is not complete"),
        (lambda path: _note(path, schema=0), "has schema 0"),
        (_tear, "is damaged"),
        (lambda path: shutil.rmtree(path / "trials"), "only its report is kept"),
    ],
)
def test_a_run_that_is_unfit_is_refused(
    harm: Callable[[Path], None], what: str, kept: Path, tmp_path: Path
) -> None:
    path = _copy(kept, tmp_path)
    harm(path)
    done = CliRunner().invoke(app, ["submit", str(path), "--to", str(tmp_path)])
    assert done.exit_code == 2
    assert what in " ".join(done.output.split())
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("changes", "biased", "what"),
    [
        ({"blocks": 1}, False, "in 1 block(s)"),
        ({"arms": (Arm("baseline"),)}, False, "No arm with collectors that ship"),
        ({}, True, "Its A/A failed"),
    ],
)
def test_a_run_that_says_too_little_is_refused(
    changes: dict[str, Any], biased: bool, what: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if biased:  # whatever made the instrument so
        monkeypatch.setattr(controls, "excludes_zero", lambda row: True)
    keys = {"workloads": ("go",), "arms": ARMS[:2], "blocks": 2, **changes}
    run = synthetic.write(tmp_path / "r", synthetic.experiment(**keys))
    with pytest.raises(StoreError) as refused:
        submission.make(run)
    assert what in refused.value.why


def test_a_run_whose_null_was_not_measured_is_refused(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), arms=ARMS[:2], blocks=2)
    measured = [t.index for t in experiments.plan(what) if t.arm != "baseline"]
    run = synthetic.write(tmp_path / "r", what, only=measured)
    with pytest.raises(StoreError, match="no arm with nothing installed"):
        submission.make(run)


def _sign(found: dict[str, Any]) -> None:
    found["sha256"] = submission.checksum(found)


@pytest.mark.parametrize(
    ("edit", "signed", "what"),
    [
        (lambda d: d["figures"][0].update(estimate=0.0), False, "its checksum is of something"),
        (lambda d: d.update(schema=2), True, "its schema is 2"),
        (lambda d: d.update(host="x"), True, "has besides: host"),
        (lambda d: d.pop("rates"), True, "rates"),
        (lambda d: d.update(statistics=99), True, "its statistics are 99"),
        (lambda d: d.update(began="yesterday"), True, "no date"),
        (lambda d: d["machine"].update(hostname="x"), True, "more of the machine"),
        (lambda d: d["machine"].update(cpus_online=0), True, "has 0 CPUs"),
        (lambda d: d.update(version="<script>"), True, "text that is no name"),
        (lambda d: d["rates"].update(go=-1.0), True, "a rate"),
        (lambda d: d["figures"][0].update(low=9.0, high=1.0), True, "no interval"),
        (lambda d: d["figures"][0].update(low=None), True, "it lacks low"),
        (lambda d: d["figures"][0].update(metric="beauty"), True, "no figure of a submission"),
        (lambda d: d["figures"][0].update(arm="x"), True, "not among the arms"),
        (
            lambda d: d["figures"][0].update(metric="agent_us", unit="us/request", low=-1.0),
            True,
            "below zero",
        ),
        (lambda d: d["figures"][0].update(estimate=1e9), True, "no interval"),
        (lambda d: d["figures"][0].update(unit="kg"), True, "and not in kg"),
        (lambda d: d["figures"][0].update(metric="entry_ns[kprobe]"), True, "no figure of a"),
        (lambda d: d["figures"][0].update(metric="coverage_percent[a](b)"), True, "no figure of"),
        (lambda d: d["figures"][0].update(level="much"), True, "mde, level, p"),
        (lambda d: d["figures"][0].update(p=[]), True, "mde, level, p"),
        (lambda d: d["figures"][0].update(p=2), True, "a p of 2"),
        (lambda d: d["figures"][0].update(mde=10**400), True, "mde, level, p"),
        (lambda d: d["figures"][0].pop("mde"), True, "it lacks, or has besides: mde"),
        (lambda d: d["figures"][0].update(n=-1), True, "-1 measurements"),
        (lambda d: d["figures"].append(d["figures"][0]), True, "two figures of one service"),
        (lambda d: d["figures"].append("x"), True, "it lacks"),
        (lambda d: d["figures"].clear(), True, "no figures"),
        (lambda d: d.update(silent=[["go", ["x"]]]), True, "silent is no list"),
        (lambda d: d.update(harmed=[["go"]]), True, "harmed is no list"),
        (lambda d: d["machine"].update(kernel=["6.1"]), True, "kernel is no text"),
        (lambda d: d["trials"].update(ok="all"), True, "trials are no numbers"),
        (lambda d: d["versions"].update(http=1), True, "a version"),
        (lambda d: d["rates"].update(go=10**400), True, "a rate"),
        (lambda d: d["figures"].remove(_null(d)), True, "has no workload_cpu"),
        (
            lambda d: _null(d).update(method="pooled over trials, exact 95 % interval", n=0),
            True,
            "no share",
        ),
        (lambda d: _null(d).update(estimate=9.0, low=8.0, high=10.0, p=1e-6), True, "A/A failed"),
        (lambda d: d["arms"]["0-baseline"].update(collectors="http"), True, "no arm with nothing"),
        (lambda d: d.update(began="2025-11-99"), True, "no date"),
    ],
)
def test_a_submission_that_is_not_as_written_is_not_taken(
    edit: Callable[[dict[str, Any]], Any], signed: bool, what: str,
    made: dict[str, Any], tmp_path: Path,
) -> None:  # fmt: skip
    edit(made)
    if signed:
        _sign(made)
    path = tmp_path / f"x{submission.SUFFIX}"
    path.write_text(json.dumps(made))
    with pytest.raises(StoreError) as refused:
        submission.read(path)
    assert what in str(refused.value)


def _null(found: dict[str, Any]) -> dict[str, Any]:
    """The row that the A/A arm has of the service's CPU."""
    rows = (f for f in found["figures"] if f["arm"] == "0-baseline" and f["workload"] == "go")
    return next(row for row in rows if row["metric"] == "workload_cpu_percent")


def test_a_file_counts_once_by_the_name_that_it_was_given(
    made: dict[str, Any], tmp_path: Path
) -> None:
    path = submission.write(made, tmp_path)
    again = path.with_name(f"[x](y){submission.SUFFIX}")
    shutil.copy(path, again)
    with pytest.raises(StoreError, match="its name is not that"):
        submission.read(again)


def test_what_is_no_plain_file_or_too_large_is_not_taken(
    made: dict[str, Any], tmp_path: Path
) -> None:
    path = submission.write(made, tmp_path / "kept")
    link = tmp_path / path.name
    link.symlink_to(path)
    with pytest.raises(StoreError) as refused:
        submission.read(link)
    assert "no regular file" in refused.value.why
    path.write_text(json.dumps({**made, "left_out": ["x" * submission.MOST_BYTES]}))
    with pytest.raises(StoreError) as refused:
        submission.read(path)
    assert "1,000,000 are the most" in refused.value.why


def test_what_is_nested_deeply_is_told_in_a_sentence(made: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"x{submission.SUFFIX}"
    for depth in (500, 100_000):
        nested = "[" * depth + "]" * depth
        text = json.dumps({**made, "left_out": "NESTED"}).replace('"NESTED"', nested)
        path.write_text(text)
        with pytest.raises(StoreError):
            submission.read(path)


def test_what_is_no_json_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / f"x{submission.SUFFIX}"
    path.write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        submission.read(path)
    path.write_text("[]")
    with pytest.raises(StoreError, match="no JSON object"):
        submission.read(path)


def test_every_submission_of_this_project_is_taken() -> None:
    for path in sorted((ROOT / "reports/submissions").glob(f"*{submission.SUFFIX}")):
        submission.read(path)


def test_the_command_says_what_it_wrote_and_left_out(kept: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["submit", str(kept), "--to", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (file,) = tmp_path.glob(f"2025-11-02-*{submission.SUFFIX}")
    assert file.name in done.stdout.replace("\n", "")
    assert "Left out:" in done.stdout
    assert "Next: " in done.stdout
