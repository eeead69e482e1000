"""Every example in README and docs is run: commands as they stand, with a run and files made up."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from harness.analysis import budgets
from harness.collectors import resolve
from harness.linux import processes
from harness.plan import experiment
from harness.report import build as report
from harness.results.run import Run
from tests.unit import calibrated, synthetic, test_ramp

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\S+\.toml)\n")  # the first line of a budget says which file it is
PUBLISHED = "reports/published/quick"


def _blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, body)
        for page in PAGES
        for kind, body in BLOCK.findall(page.read_text())
        if kind == language
    ]


BUDGETS = [block for block in _blocks("toml") if "[[budget]]" in block[1]]
COLLECTORS = [block for block in _blocks("toml") if "{control}" in block[1]]
SUBJECTS = [block for block in _blocks("toml") if "[source]" in block[1]]
CLAIMS = [
    block for block in _blocks("toml") if "[[claims]]" in block[1]
]  # tests/unit/test_claims.py
_OTHERS = BUDGETS + COLLECTORS + SUBJECTS + CLAIMS
EXPERIMENTS = [block for block in _blocks("toml") if block not in _OTHERS]
COMMANDS = sorted(
    {line for _, body in _blocks("sh") for line in body.splitlines() if line and line[0] != "#"}
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the examples' files are: a run, a program, a locustfile, an experiment."""
    path = tmp_path_factory.mktemp("docs")
    synthetic.write(path / "reports" / "RUN")
    calibrated.measured(path / "reports" / "CALIBRATION")
    test_ramp.measured(path / "reports" / "RAMP")
    server = path / "my-server"
    server.write_text("#!/bin/sh\nexec sleep 60\n")
    server.chmod(0o755)
    (locustfile,) = [body for _, body in _blocks("python") if "locust" in body]
    (path / "my_load.py").write_text(locustfile)
    shutil.copytree(ROOT / "experiments/collectors", path / "experiments/collectors")
    for number, (_, body) in enumerate(EXPERIMENTS):
        (path / ("my.toml" if number == 0 else f"my{number}.toml")).write_text(body)
    for _, body in BUDGETS:
        named = NAMED.match(body)
        assert named, body
        (path / named[1]).write_text(body)
    _publish(path)
    return path


def _publish(path: Path) -> None:
    """A repository with the published run in it."""
    shutil.copytree(ROOT / PUBLISHED, path / PUBLISHED, ignore=lambda *_: ["report.html"])
    processes.run(["git", "init", "-q", "-b", "main"], cwd=path)
    processes.run(["git", "add", PUBLISHED], cwd=path)
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    processes.run(["git", *who, "commit", "-q", "-m", "publish"], cwd=path)


def test_there_are_examples() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, place: Path) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert (
            processes.run(["make", "-n", "-C", str(ROOT), *words[1:]], check=False).returncode == 0
        )
    elif words[0].endswith("harness"):
        measures = words[1] in ("evaluate", "calibrate", "ramp") and "--report" not in words
        plan = ["--plan"] if measures and "--plan" not in words else []
        cluster = words[1] in ("up", "status", "down", "open") and "--target" in words
        cluster = cluster or "--host" in words  # of an inventory that is not there
        if cluster or words[1] in ("bundle", "images"):
            plan = ["--help"]  # says whether there are such options; tests/cluster runs them
        done = processes.run(
            [sys.executable, "-m", "harness", *words[1:], *plan],
            check=False, cwd=place, timeout=180,
        )  # fmt: skip
        fine = (0, 1, 3) if words[1] == "gate" else (0,)
        assert done.returncode in fine, done.stderr
    elif words[0] == "kubectl":  # needs a cluster: tests/cluster says the same to one
        assert words[1] in ("create", "label") or words[3] == "create"
    elif words[0] == "ansible-playbook":  # needs machines: tests/cluster runs them on some
        program = Path(sys.executable).with_name(words[0])
        argv = [str(program), *words[1:], "--syntax-check"]
        processes.run(argv, cwd=ROOT, env={"LC_ALL": "C.UTF-8"})
    elif words[1:3] == ["-m", "harness.stack.grafana"]:
        processes.run([sys.executable, *words[1:]], cwd=place)
    else:
        _agent(words, place)


def _agent(words: list[str], place: Path) -> None:
    """The one other kind: an agent by itself, on a cgroup of ours."""
    from harness.node.machine import Machine

    assert words[1:3] == ["-m", "harness.agent"]
    with Machine("docs") as target:
        words[words.index("--cgroup") + 1] = str(target.make("service"))
        control = words.index("--control") + 1
        words[control] = str(place / Path(words[control]).name)
        process = processes.spawn([sys.executable, *words[1:]], log=place / "log")
        try:
            told = processes.announced(process, 60)
            assert told is not None
            assert told["ready"], told
        finally:
            processes.stop(process)


def test_the_measurements_as_tables(place: Path) -> None:
    (example,) = [body for page, body in _blocks("python") if page == "data.md"]
    report.build(Run.open(place / "reports/RUN"))
    (place / "example.py").write_text(example)
    done = processes.run([sys.executable, "example.py"], cwd=place, timeout=180)
    for told in ("rate_achieved", "off", "0.99", "p_holm"):
        assert told in done.stdout.replace("False", "off"), done.stdout


@pytest.mark.parametrize(("page", "body"), EXPERIMENTS)
def test_experiment_file(page: str, body: str, tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(body)
    assert experiment.load(path).workloads


@pytest.mark.parametrize(("page", "body"), BUDGETS)
def test_budget_file(page: str, body: str, tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    path.write_text(body)
    assert budgets.load(path)


@pytest.mark.parametrize(("page", "body"), COLLECTORS)
def test_collector_file(page: str, body: str, tmp_path: Path) -> None:
    path = tmp_path / "collector.toml"
    path.write_text(body)
    assert resolve(str(path)).command


@pytest.mark.parametrize(("page", "body"), SUBJECTS)
def test_definition_of_a_subject(page: str, body: str, tmp_path: Path) -> None:
    (tmp_path / "mine.lock").write_text("mine==1.2.3 --hash=sha256:00\n")
    path = tmp_path / "subject.toml"
    path.write_text(body)
    assert resolve(str(path)).subject is not None


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "docs/adr").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
