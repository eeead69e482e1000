"""The CI templates: both parse, and the script that both call runs, with a harness made up."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from harness.analysis import budgets
from harness.linux import processes
from harness.linux.processes import Completed

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "ci"
PUBLISHED = ROOT / "reports/published/quick"
ACTION: dict[str, Any] = yaml.safe_load((CI / "action.yml").read_text())
GITLAB: dict[str, Any] = yaml.safe_load((CI / "gitlab.yml").read_text())
EXAMPLES = [
    yaml.safe_load(body)
    for body in re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / "docs/gate.md").read_text(), re.M | re.S
    )
]
READ = set(re.findall(r"^#   ([A-Z]+)  ", (CI / "gate.sh").read_text(), re.M))

# Evaluating is made up: it lays the published run where a new one would be. Judging is real.
HARNESS = f"""\
#!{sys.executable}
import json, os, shutil, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1:3] == ["evaluate", "--resume"]:
    sys.exit(int(os.environ.get("RESUME", "0")))
if sys.argv[1] == "evaluate":
    code = int(os.environ.get("EVALUATE", "0"))
    if code in (0, 3) or "RESUME" in os.environ:
        at = sys.argv.index
        run = os.path.join(sys.argv[at("--reports") + 1], sys.argv[at("--run") + 1])
        shutil.copytree({str(PUBLISHED)!r}, run)
    sys.exit(code)
if sys.argv[1] == "gate" and "--check" not in sys.argv and "GATE" in os.environ:
    sys.exit(int(os.environ["GATE"]))
sys.path.insert(0, {str(ROOT)!r})
from harness.cli import main
main()
"""
PASSING = '[[budget]]\nmetric = "coverage_percent[requests]"\narm = "http"\nmin = 99\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose PATH has a `harness` and a `make` that do nothing dear."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("harness", HARNESS), ("make", '#!/bin/sh\necho "$@" >>"$MADE"\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for name in (*READ, "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "EVALUATE", "RESUME", "GATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS", str(programs / "harness"))  # the checkout's is the real one
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    (tmp_path / "budget.toml").write_text(PASSING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*argv: str, **env: str) -> Completed:
    return processes.run(argv or (str(CI / "gate.sh"),), check=False, env=env, timeout=120)


def calls(place: Path) -> list[list[str]]:
    return [json.loads(line) for line in (place / "calls").read_text().splitlines()]


def test_the_script_evaluates_judges_and_writes(place: Path) -> None:
    done = run(
        BUDGET="budget.toml", ARMS="\n  old=http\nnew=http:a=1,b=2  \n", WORKLOADS="go",
        EXPERIMENT="my.toml", LINK="https://ci.example.org/7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    checked, evaluated, judged = calls(place)
    assert checked == ["gate", "--check", "--budget", "budget.toml"]
    assert evaluated[:8] == [
        "evaluate", "my.toml", "--arm", "old=http", "--arm", "new=http:a=1,b=2",
        "--workload", "go",
    ]  # fmt: skip
    assert judged[0] == "gate"
    assert "[report](https://ci.example.org/7)" in (place / "overhead-gate/comment.md").read_text()
    assert ElementTree.parse(place / "overhead-gate/gate.xml").getroot().get("tests") == "3"
    assert json.loads((place / "overhead-gate/gate.json").read_text())["exit_code"] == 0


@pytest.mark.parametrize(
    ("budget", "env", "code"),
    [
        (PASSING, {}, 0),
        (PASSING.replace("min = 99", "max = 90"), {}, 1),
        (PASSING.replace("99", "99.99"), {}, 3),
        (PASSING.replace("99", "99.99"), {"INCONCLUSIVE": "pass"}, 0),
        (PASSING.replace("99", "99.99"), {"INCONCLUSIVE": "fail"}, 1),
        (PASSING.replace("min", "mni"), {}, 2),
        (PASSING, {"EVALUATE": "3"}, 0),
        (PASSING, {"EVALUATE": "2"}, 2),
        (PASSING, {"EVALUATE": "130"}, 130),
        (PASSING, {"EVALUATE": "1"}, 2),
        (PASSING, {"EVALUATE": "137"}, 2),
        (PASSING, {"GATE": "1"}, 2),
        (PASSING, {"GATE": "0"}, 2),
        (PASSING, {"GATE": "137"}, 2),
        (PASSING, {"OUTPUT": "/dev/null/nothing"}, 2),
    ],
)
def test_the_exit_code_is_the_gates(
    budget: str, env: dict[str, str], code: int, place: Path
) -> None:
    (place / "budget.toml").write_text(budget)
    done = run(BUDGET="budget.toml", **env)
    assert done.returncode == code, done.stderr
    assert (place / "overhead-gate/comment.md").exists() == (code in (0, 1, 3))


def test_a_mistake_in_the_budget_is_told_before_anything_is_measured(place: Path) -> None:
    (place / "budget.toml").write_text(PASSING.replace("min", "mni"))
    assert run(BUDGET="budget.toml").returncode == 2
    assert [call[0] for call in calls(place)] == ["gate"]


@pytest.mark.parametrize(("resumed", "code"), [("0", 0), ("2", 2), ("1", 2), ("130", 130)])
def test_trials_that_failed_get_one_more_chance(resumed: str, code: int, place: Path) -> None:
    outputs = place / "outputs"
    done = run(
        BUDGET="budget.toml", EVALUATE="2", RESUME=resumed, GITHUB_OUTPUT=str(outputs)
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    _, first, again, *judged = calls(place)
    name = first[first.index("--run") + 1]
    assert again == ["evaluate", "--resume", f"overhead-gate/{name}", "--quiet"]
    assert len(judged) == (code != 130)
    if judged:
        text = (place / "overhead-gate/comment.md").read_text()
        assert ("could not be measured" in text) == (code == 2)
        assert f"exit-code={code}\n" in outputs.read_text()


def test_what_is_shown_to_be_broken_stays_so_if_other_trials_failed(place: Path) -> None:
    (place / "budget.toml").write_text(PASSING.replace("min", "max"))
    outputs = place / "outputs"
    done = run(BUDGET="budget.toml", EVALUATE="2", RESUME="2", GITHUB_OUTPUT=str(outputs))
    assert done.returncode == 1, done.stderr
    assert "could not be measured" in (place / "overhead-gate/comment.md").read_text()
    assert "exit-code=1\n" in outputs.read_text()


def test_what_an_earlier_run_wrote_is_not_announced(place: Path) -> None:
    (place / "overhead-gate").mkdir()
    for name in ("comment.md", "gate.xml", "gate.json"):
        (place / "overhead-gate" / name).write_text("old")
    outputs = place / "outputs"
    assert run(BUDGET="budget.toml", GATE="1", GITHUB_OUTPUT=str(outputs)).returncode == 2
    assert not list((place / "overhead-gate").glob("*.*"))
    found = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    assert set(found) == {"exit-code", "run"}
    assert found["exit-code"] == "2"


def test_the_certificate_is_where_the_evaluation_looks(place: Path) -> None:
    (place / "mine.json").write_text("{}")
    assert run(BUDGET="budget.toml", CERTIFICATE="mine.json").returncode == 0
    kept = place / "overhead-gate/certificate.json"
    assert kept.read_text() == "{}"
    assert run(BUDGET="budget.toml", CERTIFICATE=str(kept)).returncode == 0
    (place / "calls").unlink()
    assert run(BUDGET="budget.toml", CERTIFICATE="nowhere.json").returncode == 2
    assert [call[0] for call in calls(place)] == ["gate"]  # nothing was measured


def test_the_checkouts_own_harness_comes_first(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS")
    script = place / "checkout/ci/gate.sh"
    script.parent.mkdir(parents=True)
    script.write_text((CI / "gate.sh").read_text())
    assert run("bash", str(script), BUDGET="budget.toml").returncode == 0  # that on PATH
    own = place / "checkout/.venv/bin/harness"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\necho own >&2\nexit 1\n")
    own.chmod(0o755)
    done = run("bash", str(script), BUDGET="budget.toml")
    assert (done.returncode, done.stderr) == (2, "own\n")


def test_a_stored_run_is_passed_on(place: Path) -> None:
    (place / "budget.toml").write_text(PASSING.replace("min = 99", "max_increase = 1"))
    done = run(BUDGET="budget.toml", AGAINST=str(PUBLISHED), OUTPUT="a folder/deep")
    assert done.returncode == 0, done.stderr
    assert "another time" in (place / "a folder/deep/comment.md").read_text()


def test_without_root_only_evaluating_is_done_as_root(place: Path) -> None:
    logging = '#!/bin/sh\n[ "$1" = -n ] || exit 9\nshift\necho "$1" "$2" >>sudo.log\nexec "$@"\n'
    for name, text in (("id", "#!/bin/sh\necho 1000\n"), ("sudo", logging), ("chown", "#!/bin/sh")):
        (place / "bin" / name).write_text(text)
        (place / "bin" / name).chmod(0o755)
    done = run(BUDGET="budget.toml")
    assert done.returncode == 0, done.stderr
    assert (place / "sudo.log").read_text().splitlines() == [
        f"{place}/bin/harness evaluate",
        "chown -R",
    ]


@pytest.mark.parametrize("refused", ["*", "chown"])
def test_a_sudo_that_refuses_is_an_error(refused: str, place: Path) -> None:
    sudo = f'#!/bin/sh\nshift\ncase "$1" in {refused}) exit 1 ;; esac\nexec "$@"\n'
    for name, text in (("id", "#!/bin/sh\necho 1000\n"), ("sudo", sudo), ("chown", "#!/bin/sh")):
        (place / "bin" / name).write_text(text)
        (place / "bin" / name).chmod(0o755)
    assert run(BUDGET="budget.toml").returncode == 2


def test_what_root_wrote_is_given_back_however_it_ends(place: Path) -> None:
    sudo = '#!/bin/sh\nshift\necho "$1" >>sudo.log\nexec "$@"\n'
    for name, text in (("id", "#!/bin/sh\necho 1000\n"), ("sudo", sudo), ("chown", "#!/bin/sh")):
        (place / "bin" / name).write_text(text)
        (place / "bin" / name).chmod(0o755)
    (place / "bin/harness").write_text(
        '#!/bin/sh\n[ "$1" = gate ] || { kill -TERM $PPID; sleep 1; }\n'
    )
    done = run(BUDGET="budget.toml")
    assert done.returncode == 130, done.stderr
    assert (place / "sudo.log").read_text().splitlines()[-1] == "chown"


def test_the_budget_is_needed(place: Path) -> None:
    done = run()
    assert done.returncode == 2
    assert "BUDGET must name" in done.stderr
    assert not (place / "calls").exists()


def test_the_action_runs(place: Path) -> None:
    """Its steps as a runner would run them: inputs by environment, outputs by a file."""
    given = {"budget": "budget.toml", "arms": "old=http\nnew=http"}
    outputs, summary = place / "outputs", place / "summary.md"
    for step in ACTION["runs"]["steps"]:
        env = {name: _filled(text, given) for name, text in step.get("env", {}).items()}
        done = run(
            "bash", "-eo", "pipefail", "-c", step["run"], GITHUB_ACTION_PATH=str(CI),
            GITHUB_OUTPUT=str(outputs), GITHUB_STEP_SUMMARY=str(summary), **env,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (place / "made").read_text() == f"-C {CI}/.. setup\n"
    found = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    assert set(found) == set(ACTION["outputs"])
    assert found["exit-code"] == "0"
    assert all((place / found[name]).exists() for name in ("comment", "junit", "json", "run"))
    assert summary.read_text() == (place / found["comment"]).read_text()


def _filled(text: str, given: dict[str, str]) -> str:
    (name,) = re.fullmatch(r"\$\{\{ inputs\.([a-z]+) }}", text).groups()  # type: ignore[union-attr]
    return given.get(name, str(ACTION["inputs"][name].get("default", "")))


def test_the_action_reaches_the_script_by_environment_only() -> None:
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    for step in steps:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
    (env,) = [step["env"] for step in steps if "env" in step]
    assert set(env) == READ - {"HARNESS"}
    assert {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]} == set(env.values())
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.gate.outputs.{name} }}}}"


def test_the_gitlab_job_runs(place: Path) -> None:
    job = GITLAB[".overhead-gate"]
    given = {"HARNESS_DIR": str(ROOT), "BUDGET": "budget.toml", "OUTPUT": "else/where"}
    variables = {**job["variables"], **given}
    for line in job["script"]:
        done = run("bash", "-eo", "pipefail", "-c", line, **variables)
        assert done.returncode == 0, done.stderr
    assert (place / "made").read_text() == f"-C {ROOT} setup\n"
    reports, (path,) = job["artifacts"]["reports"], job["artifacts"]["paths"]
    assert (place / reports["junit"].replace("$OUTPUT", "else/where")).is_file()
    assert (place / path.replace("$OUTPUT", "else/where")).is_dir()


def test_the_gitlab_job_knows_every_variable_and_warns_of_3() -> None:
    job = GITLAB[".overhead-gate"]
    assert set(job["variables"]) == (READ - {"HARNESS"}) | {"HARNESS_DIR"}
    assert job["allow_failure"] == {"exit_codes": [3]}
    assert job["artifacts"]["when"] == "always"


def test_the_documented_workflows_use_what_there_is() -> None:
    github, gitlab = EXAMPLES
    steps = github["jobs"]["gate"]["steps"]
    (gate,) = [step for step in steps if step.get("uses", "").startswith("OWNER/REPOSITORY/ci@")]
    assert set(gate["with"]) <= set(ACTION["inputs"])
    assert {name for name, item in ACTION["inputs"].items() if item.get("required")} <= set(
        gate["with"]
    )
    text = json.dumps(github)
    assert set(re.findall(r"steps\.overhead\.outputs\.([a-z-]+)", text)) <= set(ACTION["outputs"])
    job = gitlab["overhead"]
    assert job["extends"] in GITLAB
    assert set(job["variables"]) <= set(GITLAB[job["extends"]]["variables"])


@pytest.mark.parametrize("path", sorted(CI.rglob("*budget*/*.toml")), ids=lambda path: path.name)
def test_the_budgets_that_ship_can_be_judged(path: Path, place: Path) -> None:
    assert budgets.load(path)
    done = run("harness", "gate", str(PUBLISHED), "--budget", str(path))
    assert done.returncode in (0, 1, 3), done.stderr
