"""What `harness evaluate --resume` refuses: other options, and to go on elsewhere."""

from __future__ import annotations

import dataclasses
import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app, asked
from harness.cli.options import Options
from harness.errors import InputError
from harness.plan import workloads
from harness.results import resume
from harness.results.about import About
from harness.results.certificates import MACHINE
from harness.results.run import Run
from harness.wire.spec import Placement


@pytest.mark.parametrize(
    "option",
    [("quick",), ("--command", "x"), ("--arm", "a=http"), ("--workload", "go"),
     ("--run", "name"), ("--minutes", "0"), ("--pid", "1"), ("--cgroup", "x"), ("--unit", "x"),
     ("--container", "x"), ("--service-cpus", "0"), ("--target", "ssh:x"), ("--stack", "sink"),
     ("--locustfile", "x"), ("--load-target", "ssh:x"), ("--load-url", "x")],
)  # fmt: skip
def test_a_resumed_run_takes_no_other_plan(
    option: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "open", lambda _: pytest.fail("it went on"))
    done = CliRunner().invoke(app, ["evaluate", *option, "--resume", str(tmp_path)])
    assert done.exit_code == 2, done.output
    assert "goes on as it was asked for" in done.output


def test_a_resumed_run_takes_the_login_that_it_did_not_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = workloads.own("true", "http://me:s3cret@127.0.0.1:1/")
    about = About({}, own_workload=begun.to_dict())
    run = SimpleNamespace(about=lambda: about, experiment=lambda: None)
    monkeypatch.setattr(Run, "open", lambda _: run)
    url = "http://me:s3cret@127.0.0.1:1/"
    with ExitStack() as ends:
        assert asked.asked(Options(resume=tmp_path, url=url), ends).own == begun
        with pytest.raises(InputError, match="with a login, which is not kept"):
            asked.asked(Options(resume=tmp_path), ends)
        about = About({})
        with pytest.raises(InputError, match="no service of your own"):
            asked.asked(Options(resume=tmp_path, url=url), ends)


FACTS = {"cpu_model": "A", "cpus_online": 4, "kernel": "6.1", "load_average": [0.1]}
PLACE = Placement((0,), (1,), (2,), (3,), "because")
HERE: dict[str, Any] = {
    "facts": FACTS, "placement": vars(PLACE), "version": "1.0", "idle_poll": True,
}  # fmt: skip
# as it is read again from run.json, where tuples are lists
BEGUN = About({}, **json.loads(json.dumps(HERE)))


def test_a_run_goes_on_where_it_was_begun() -> None:
    assert resume.check(BEGUN, **HERE) == ""
    elsewhere = {**FACTS, "load_average": [9.0], "steal_seconds": 3.0}
    assert resume.check(BEGUN, **{**HERE, "facts": elsewhere}) == ""
    told = dataclasses.replace(PLACE, why="in other words")
    assert resume.check(BEGUN, **{**HERE, "placement": vars(told)}) == ""


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "cpu_model": ({"facts": {**FACTS, "cpu_model": "B"}}, "the processor is B, it was A"),
    "cpus_online": ({"facts": {**FACTS, "cpus_online": 2}}, "number of CPUs is 2, it was 4"),
    "kernel": ({"facts": {**FACTS, "kernel": "6.2"}}, "the kernel is 6.2, it was 6.1"),
    "version": ({"version": "1.1"}, "the version is 1.1, it was 1.0"),
    "placement": (
        {"placement": vars(dataclasses.replace(PLACE, load=(2, 3)))},
        "the CPUs of role load are 2, 3, they were 1",
    ),
    "idle": (
        {"placement": vars(dataclasses.replace(PLACE, idle=(5,)))},
        "the CPUs of role idle are 5, they were none",
    ),
    "idle_poll": ({"idle_poll": False}, "idle CPUs halt, they poll before"),
}


@pytest.mark.parametrize("key", OTHER)
def test_a_run_does_not_go_on_elsewhere_unless_it_is_to(key: str) -> None:
    change, words = OTHER[key]
    with pytest.raises(InputError) as caught:
        resume.check(BEGUN, **{**HERE, **change})
    assert words in caught.value.what
    assert "--anyway" in caught.value.next_step
    assert words in resume.check(BEGUN, **{**HERE, **change}, anyway=True)


def test_whatever_tells_a_machine_from_another_is_compared() -> None:
    assert set(MACHINE) <= set(OTHER)


def test_all_that_differs_is_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        resume.check(BEGUN, {**FACTS, "kernel": "6.2"}, vars(PLACE), "1.1", True)
    assert "the kernel is 6.2, it was 6.1; the version is 1.1" in caught.value.what


def test_what_was_not_recorded_differs_from_nothing() -> None:
    assert resume.check(About({}), **HERE) == ""
    assert resume.check(About({}, facts={"kernel": "6.1"}), **HERE) == ""
