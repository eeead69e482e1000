"""What the options of `harness evaluate` ask for, refuse, and hand on; nothing is measured here."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app, choice, evaluation
from harness.cli.asked import asked
from harness.cli.options import Options, taking
from harness.linux import processes, routes
from harness.node.__main__ import ANSWERS
from harness.plan import running
from harness.plan.running import Running
from harness.plan.workloads import Workload
from harness.targets.local import Local

URL = "http://127.0.0.1:8080/"


def _run(*words: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", *words])


def test_a_command_has_the_fields_of_its_record_as_options() -> None:
    parameters = inspect.signature(evaluation.evaluate_command).parameters
    assert list(parameters) == ["context"] + [field.name for field in dataclasses.fields(Options)]


def test_a_record_reaches_the_command_as_it_was_given() -> None:
    taken: list[Options] = []
    taking(Options)(taken.append)(name="standard", minutes=3.0, quiet=True)
    assert taken == [Options("standard", minutes=3.0, quiet=True)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pid", "1"), "--pid needs --url too"),
        (("--pid", "0", "--url", URL), "There is no process 0."),
        (("--pid", "1", "--url", "redis://x"), "is not a URL of a service"),
        (("--pid", "1", "--unit", "x", "--url", URL), "--pid and --unit each name"),
        (("--cgroup", "/x", "--url", URL, "--command", "x"), "--command starts a service"),
        (("--container", "x", "--url", URL, "--workload", "go"), "--workload starts a service"),
        (("--target", "moon"), "There is no target 'moon'"),
        (("--unit", "", "--url", URL), "--unit is given nothing"),
        (("--command", ""), "--command is given nothing"),
        (("--workload", "own"), "service of your own, and it is not said which"),
        (("--run", "../x", "--plan"), "'../x' cannot be the name of a run"),
        (("--run", "/tmp/x", "--plan"), "'/tmp/x' cannot be the name of a run"),
        (("--minutes", "nan", "--plan"), "budget_seconds must be a number"),
        (("--anyway",), "--anyway is for a run that is resumed"),
        (("--locustfile", "x.py"), "--locustfile drives a program of your own"),
        (("--command", "x"), "needs both --command and --url"),
        (("--load-target", "ssh:x"), "--load-target needs a service of your own"),
        (("--load-target", "moon", "--pid", "1", "--url", URL), "There is no target 'moon'"),
        (("--load-target", "local", "--pid", "1", "--url", URL), "are the same: local"),
        (("--load-url", URL), "--load-url is for load from another machine"),
        (
            ("--load-target", "ssh:x", "--pid", "1", "--url", URL, "--load-url", "http://a:b@x/"),
            "--load-url has a login",
        ),
        (
            ("--load-target", "ssh:x", "--pid", "1", "--url", URL, "--load-url", "x"),
            "x is not a URL of a service",
        ),
        (("--service-cpus", "-1"), "service_cpus must be a whole number"),
        (("--load-workers", "0"), "load_workers must be a whole number, 1 or more"),
        (("--load-workers", "99"), "99 load workers cannot share the 16 connections to"),
    ],
)
def test_what_contradicts_itself_is_refused_with_a_next_step(
    words: tuple[str, ...], said: str
) -> None:
    done = _run("--plan", *words)
    assert done.exit_code == 2, done.output
    text = " ".join(done.output.split())
    assert said in text
    assert len(done.stderr.strip().splitlines()) >= 2


def test_a_command_that_would_be_asked_for_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "leads_away", lambda *_: True)
    monkeypatch.setattr(Local, "ask", lambda _, question, *about: ANSWERS[question](*about))
    done = _run("--plan", "--command", "sh", "--url", "http://198.51.100.7/")
    assert done.exit_code == 2
    assert "http://198.51.100.7 is not on this machine" in done.stderr


@pytest.mark.parametrize("option", ["pid", "cgroup", "unit", "container"])
def test_a_service_that_runs_is_named_to_who_measures_it(option: str) -> None:
    value: Any = 7 if option == "pid" else "name"
    found = asked(Options(url=URL, plan=True, **{option: value}), ExitStack())
    assert found.own is not None
    assert found.own.running is not None
    assert vars(found.own.running) == {
        "name": "pid-7" if option == "pid" else "name", "url": URL.rstrip("/"),
        "pid": 0, "cgroup": "", "unit": "", "container": "", "workload": "", option: value,
    }  # fmt: skip
    assert found.experiment.workloads == (found.own.name,)


@pytest.mark.parametrize("url", [URL, f"{URL}shop/", f"{URL}shop"])
def test_the_paths_of_a_locustfile_follow_the_url_of_a_service_that_runs(
    url: str, tmp_path: Path
) -> None:
    locustfile = tmp_path / "load.py"
    locustfile.write_text("")
    own = running.service(Running(url, pid=1), locustfile)
    assert own.running is not None
    assert own.running.url == own.url == url.rstrip("/")  # which requests are made to
    alone = running.service(Running(f"{URL}shop/", pid=1)).running
    assert alone is not None
    assert alone.url == f"{URL}shop/"


@pytest.mark.parametrize("engine", ["", "containerd://", "cri-o://", "docker://"])
def test_a_container_is_called_by_its_id_whoever_runs_it(engine: str) -> None:
    one, other = (Running(URL, container=engine + 64 * digit).name() for digit in "ab")
    assert (one, other) == (12 * "a", 12 * "b")


def test_a_run_that_goes_on_measures_the_service_that_it_found_before() -> None:
    own = running.service(Running(URL, unit="web.service"))
    assert Workload.from_dict(json.loads(json.dumps(own.to_dict()))) == own


def test_the_plan_says_how_many_cpus_the_service_has() -> None:
    own = ("--command", f"{sys.executable} -m http.server", "--url", URL)
    done = _run("--plan", *own)
    assert done.exit_code == 0, done.output
    assert " CPUs: the service has " in done.stdout or "1 CPU: " in done.stdout


def test_the_plan_says_where_the_load_comes_from_and_how_well_its_clock_must_be_known() -> None:
    there = ("--load-target", "ssh:far", "--load-url", "http://192.0.2.7:8080/")
    done = _run("--plan", "--pid", "1", "--url", URL, *there)
    assert done.exit_code == 0, done.output
    assert "  the load comes from ssh:far to http://192.0.2.7:8080/; its clock" in done.stdout
    assert "to 0.6 ms" in done.stdout
    assert "the load comes" not in _run("--plan", "--pid", "1", "--url", URL).stdout


def test_load_from_another_machine_reaches_who_evaluates() -> None:
    found = asked(Options(url=URL, pid=1, load_target="ssh:far", plan=True), ExitStack()).load
    assert found is not None
    assert (found.target.name, found.url) == ("ssh:far", "")


def test_the_plan_is_of_the_machine_that_is_asked_and_keeps_the_limit() -> None:
    node = {"siblings": {str(cpu): [cpu] for cpu in range(8)}, "stack_up": False}
    for limit, has in ((0, "8 CPUs: the service has 6 (CPUs 0-5)"), (2, "has 2 (CPUs 0-1)")):
        e = choice.chosen("quick", service_cpus=limit)
        assert any(has in line for line in choice.plan(e, node))


def test_the_plan_warns_of_more_load_workers_than_cpus() -> None:
    node: dict[str, Any] = {"siblings": {"0": [0], "1": [1]}, "stack_up": False}
    said = ["\n".join(choice.plan(choice.chosen("quick", load_workers=n), node)) for n in (1, 2)]
    warning = "The 2 load workers share CPU 1: that many send no more than 1 would."
    assert [warning in text for text in said] == [False, True]
    assert "arrivals, made by 2 processes" in said[1]
    assert "made by" not in said[0]
    e = choice.chosen("quick", load_workers=2)
    elsewhere = "\n".join(choice.plan(e, node, load="from far"))
    assert warning not in elsewhere


def test_a_plan_needs_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Local, "check", lambda _: pytest.fail("root was asked for"))
    own: dict[str, Any] = {"command": f"{sys.executable} -m http.server", "url": URL}
    assert asked(Options(**own, plan=True), ExitStack()).described is not None


def test_options_reach_the_experiment() -> None:
    own: dict[str, Any] = {"command": f"{sys.executable} -m http.server", "url": URL}
    given = Options(
        "standard", **own, minutes=2, service_cpus=3, load_workers=2, run_name="mine", plan=True
    )
    found = asked(given, ExitStack())
    assert found.experiment.budget_seconds == 120
    assert found.experiment.service_cpus == 3
    assert found.experiment.load_workers == 2
    assert found.path == Path("reports/mine")
    assert found.own is not None
    assert found.run is None


def test_a_run_without_a_name_is_named_after_the_time_and_what_it_measures() -> None:
    own: dict[str, Any] = {"command": f"{sys.executable} -m http.server", "url": URL}
    found = asked(Options(**own, reports=Path("there"), plan=True), ExitStack())
    assert found.path.parent == Path("there")
    assert found.path.name.endswith("-" + found.experiment.name)
    assert found.path.name[:8].isdigit()


@pytest.mark.parametrize("words", [["--version"], ["gate", "--help"], ["doctor", "--help"]])
def test_no_command_waits_for_libraries_that_it_does_not_use(words: list[str]) -> None:
    code = (
        "import atexit, sys\n"
        "wanted = ('numpy', 'scipy', 'matplotlib', 'locust')\n"
        "atexit.register(lambda: print([w for w in wanted if w in sys.modules]))\n"
        "from harness.cli import main\n"
        "main()"
    )
    done = processes.run([sys.executable, "-c", code, *words])
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_workload_of_a_cluster_needs_no_url() -> None:
    options = Options(workload=["shop/checkout"], target="kind", plan=True)
    found = asked(options, ExitStack())
    assert found.own is not None
    assert found.own.running is not None
    assert (found.own.name, found.own.running.workload) == ("checkout", "shop/checkout")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--workload", "shop/checkout"), "is a workload of a cluster"),
        (("--workload", "a/b", "--workload", "c/d", "--target", "kind"), "2 services of your own"),
        (("--workload", "a/b", "--workload", "go", "--target", "kind"), "names one that runs"),
        (("--workload", "java", "--target", "kind"), "Our image has no Java"),
        (("--workload", "flask", "--arm", "ddtrace", "--target", "kind"), "a service is one pod"),
        (("--command", "x", "--url", URL, "--target", "kind"), "in a cluster programs run in pods"),
        (("--workload", "go", "--target", "kind,nod=x"), "cannot be read at 'nod=x'"),
    ],
)
def test_what_no_cluster_or_no_machine_measures_is_refused(
    words: tuple[str, ...], said: str
) -> None:
    done = _run("--plan", *words)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
