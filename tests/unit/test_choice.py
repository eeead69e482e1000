"""What the options of `harness evaluate` make of an experiment, and its plan in words."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli import choice
from harness.controller import resolved
from harness.errors import InputError
from harness.linux import facts
from harness.model import Arm, Load
from harness.plan import allotment, workloads
from harness.plan.experiment import Experiment
from harness.plan.workloads import Workload
from harness.results import certificates
from harness.wire.spec import Found

OWN = Workload("mine", ("./server",), Path(), url="http://127.0.0.1:8080/")


def test_arms_replace_those_of_the_file_and_the_baseline_stays() -> None:
    e = choice.chosen("quick", arms=["web=http+flows", "fast=profile:frequency=99"])
    assert e.arms == (
        Arm("baseline", method="factorial"),
        Arm("web", ("http", "flows"), method="factorial"),
        Arm("fast", ("profile:frequency=99",), method="factorial"),
    )


def test_one_arm_alone_and_versions_of_a_collector_are_switched() -> None:
    for arms in (["web=http+flows"], ["slow=http", "all=http:sample=1"]):
        assert {arm.method for arm in choice.chosen("quick", arms=arms).arms} == {"switch"}


def test_an_arm_by_block_has_blocks_enough_for_an_interval() -> None:
    assert choice.chosen("quick", arms=["beyla", "http"]).blocks == 6
    assert choice.chosen("quick", arms=["otel-python", "http"], workloads=["flask"]).blocks == 4
    assert choice.chosen("standard", arms=["beyla"]).blocks == 12


@pytest.mark.parametrize(
    ("collector", "running", "words"),
    [
        (
            "py-spy",
            True,
            r"not ours to start a second time\. Give --command, with \{port\} in",
        ),
        ("otel-python", False, r"at one fixed address, http.*\. Say \{port\} in --command and in"),
    ],
)
def test_a_service_of_ones_own_with_one_address_has_no_twin(
    collector: str, running: bool, words: str
) -> None:
    own = replace(OWN, running=Found("mine", OWN.url, pid=7)) if running else OWN
    with pytest.raises(InputError, match=words):
        resolved.check(choice.chosen("quick", own=own, arms=[collector]), own)


def test_what_comes_and_goes_is_compared_with_a_service_that_runs() -> None:
    own = replace(OWN, running=Found("mine", OWN.url, pid=7))
    resolved.check(choice.chosen("quick", own=own, arms=["bpftrace"]), own)


def test_a_service_of_ones_own_that_is_given_ports_has_twins(tmp_path: Path) -> None:
    command, url = f"{sys.executable} server.py --port {{port}}", "http://127.0.0.1:{port}/"
    own = workloads.own(command, url)
    assert own.has_twins
    resolved.check(choice.chosen("quick", own=own, arms=["py-spy"]), own)
    by_environment = workloads.own(f"PORT={{port}} {sys.executable} server.py", url)
    assert by_environment.has_twins
    with pytest.raises(InputError, match=r"leaves the port open, and --command does not take it"):
        workloads.own(f"{sys.executable} server.py --port 8080", url)
    with pytest.raises(InputError, match="is not a URL of a service"):
        workloads.own(command, "http://127.0.0.1:{ports}/")
    for wrong in ("127.0.0.1:8080/{port}", "127.0.0.1:80{port}/", "{port}/", "{host}:{port}/"):
        with pytest.raises(InputError, match="leaves more or another thing open than the port"):
            workloads.own(command, f"http://u:p@{wrong}")
    for right in ("http://[::1]:{port}/", "https://u:p@localhost:{port}/x"):
        assert workloads.own(command, right).has_twins


def test_an_option_of_a_collector_is_no_name_of_its_arm() -> None:
    (_, arm) = choice.parse_arms(["http:sample=1"])
    assert (arm.name, arm.collectors) == ("http-sample-1", ("http:sample=1",))
    (_, half, tenth) = choice.parse_arms(["http:sample=0.5", "http:sample=0.1"])
    assert (half.name, tenth.name) == ("http-sample-0-5", "http-sample-0-1")
    (_, ruled) = choice.parse_arms(["guard:policy=/etc/My.toml"])
    assert ruled.name == "guard-policy-etc-my-toml"
    (_, both) = choice.parse_arms(["http:sample=1,drain=2+flows"])
    assert (both.name, both.collectors) == (
        "http-sample-1-drain-2-flows",
        ("http:sample=1,drain=2", "flows"),
    )


def test_trials_by_block_keep_their_time() -> None:
    """They are of parts, between which the collector comes and goes."""
    quick = choice.chosen("quick")
    assert choice.chosen("quick", arms=["bpftrace"]).switched_seconds == quick.switched_seconds
    alone = choice.chosen("quick", arms=["http"])
    assert alone.switched_seconds < quick.switched_seconds


def test_the_full_stack_takes_arms_one_by_one_in_about_the_same_time() -> None:
    shared, apart = choice.chosen("quick"), choice.chosen("quick", stack="full")
    assert {arm.method for arm in apart.arms} == {"switch"}
    assert len(apart.arms) * apart.switched_seconds <= shared.switched_seconds + 1
    chosen = choice.chosen("quick", arms=["a=http", "b=flows"], stack="full")
    assert {arm.method for arm in chosen.arms} == {"switch"}


def test_old_is_what_the_others_are_compared_against() -> None:
    arms = choice.parse_arms(["new=http:sample=1", "old=http", "other=http:drain=2"])
    assert arms == (
        Arm("baseline"),
        Arm("new", ("http:sample=1",), ("http",)),
        Arm("other", ("http:drain=2",), ("http",)),
    )


def test_version_may_be_held_against_itself() -> None:
    e = choice.chosen("quick", own=OWN, arms=["old=http+flows", "new=http:sample=1+flows"])
    assert e.arm("new") == Arm("new", ("http:sample=1", "flows"), ("http", "flows"))
    resolved.check(e, OWN)


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (["+http"], "cannot be read"),
        (["=http"], "cannot be read"),
        (["a="], "cannot be read"),
        (["a=http++flows"], "cannot be read"),
        (["baseline=http"], "is always there"),
        (["a=http", "a=flows"], "given twice"),
        (["old=http"], "nothing to be compared with"),
        (["A=http"], "cannot name an arm"),
    ],
)
def test_bad_arms_are_refused_in_words(arms: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choice.chosen("quick", arms=arms)


def test_services_and_time_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(
        'workloads = ["go", "java"]\narms = [{name = "baseline"}]\n'
        "loads = { go = { rate = 5 }, java = { rate = 6 } }"
    )
    e = choice.chosen(str(path), workloads=["java", "java"], minutes=2)
    assert e.workloads == ("java",)
    assert list(e.loads) == ["java"]
    assert e.budget_seconds == 120
    with pytest.raises(InputError, match="different services"):
        choice.chosen(str(path), own=OWN, workloads=["java"])


def test_certificate_sets_what_the_file_leaves_open(tmp_path: Path) -> None:
    found = {"window_seconds": 0.1, "guard_seconds": 0.01, "entry_ns": {}, "power": [1]}
    machine = certificates.machine(facts.facts())
    certificates.save(tmp_path, {"machine": machine, **found})
    defaults = choice.certified(tmp_path, facts.facts())
    assert "power" not in defaults
    assert choice.chosen("quick", defaults=defaults).window_seconds == 0.1
    path = tmp_path / "e.toml"
    path.write_text('workloads = ["go"]\nwindow_seconds = 0.05\narms = [{name = "baseline"}]')
    e = choice.chosen(str(path), defaults=defaults)
    assert (e.window_seconds, e.guard_seconds) == (0.05, 0.01)


def test_guard_of_a_quick_service_is_not_taken_for_others(tmp_path: Path) -> None:
    machine = certificates.machine(facts.facts())
    for found, used in ((0.001, 0.006), (0.009, 0.009)):
        certificates.save(
            tmp_path, {"machine": machine, "workload": "plain", "guard_seconds": found}
        )
        assert choice.certified(tmp_path, facts.facts()) == {
            "workload": "plain",
            "guard_seconds": used,
        }


def test_command_is_told_without_the_name_of_its_run() -> None:
    for given in (["--run", "c"], ["--run=c"]):
        said = choice.repeatable(["calibrate", *given, "--minutes", "2"])
        assert said == ["harness", "calibrate", "--minutes", "2"]


def test_command_is_told_without_a_login() -> None:
    url = "http://me:s3cret@h:1/"
    for given in (["--url", url], [f"--url={url}"]):
        said = choice.repeatable(["evaluate", *given, "--command", "mail a@b"])
        assert "s3cret" not in " ".join(said)
        assert said[-2:] == ["--command", "mail a@b"]
        assert "http://***@h:1/" in said[2].removeprefix("--url=") + said[3]


def test_certificate_of_another_machine_is_not_used(tmp_path: Path) -> None:
    assert choice.certified(tmp_path, facts.facts()) == {}
    other = {**certificates.machine(facts.facts()), "kernel": "1.0"}
    certificates.save(tmp_path, {"machine": other, "window_seconds": 0.1})
    assert json.loads((tmp_path / certificates.FILE).read_text())["window_seconds"] == 0.1
    assert choice.certified(tmp_path, facts.facts()) == {}


def test_arrivals_of_another_kind_are_refused() -> None:
    wrong: Any = "bursty"
    with pytest.raises(InputError, match="arrivals is periodic or poisson, not 'bursty'"):
        replace(choice.chosen("quick"), loads={"go": Load(arrivals=wrong)})


def test_plan_tells_how_arrivals_are_spaced() -> None:
    e = replace(choice.chosen("quick"), loads={"go": Load(arrivals="poisson")})
    text = "\n".join(choice.plan(e))
    assert "load of go: poisson arrivals" in text
    assert "load of java: periodic arrivals" in text


def test_plan_tells_what_is_compared_and_when_it_ends() -> None:
    e = choice.chosen("standard", arms=["old=http", "new=http:sample=1"], minutes=5)
    text = "\n".join(choice.plan(e))
    assert "arm new: http:sample=1 against http, method switch" in text
    assert "after 4 or more" in text
    assert "no block begins after 5 minutes" in text
    assert "arm old" not in text


def test_plan_tells_what_arms_share() -> None:
    text = "\n".join(choice.plan(choice.chosen("quick", workloads=["go"])))
    assert "the 6 factorial arms share one trial a block, of 25 cycles of 16 windows" in text
    assert "each of the 4 collectors is on or off by a pattern of its own" in text
    assert "arm baseline: a pattern of on and off that switches nothing (A/A)" in text
    assert "000-go-b0-factorial-switched" in text
    assert text.count("-factorial-") == 4  # of the pilot


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        (Arm("a", ("htp",)), "Arm 'a': The collector 'htp'"),
        (Arm("a", ("http",), ("htp",)), "Arm 'a': The collector 'htp'"),
        (Arm("a", ("http",), method="twin"), "two processes"),
    ],
)
def test_names_are_resolved_before_anything_is_touched(arm: Arm, words: str) -> None:
    e = Experiment("e", ("mine",), (Arm("baseline"), arm))
    with pytest.raises(InputError, match=words):
        resolved.check(e, OWN)


def test_the_stack_is_chosen_by_file_or_by_option(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text('workloads = ["go"]\nstack = "full"\narms = [{name = "baseline"}]')
    assert choice.chosen(str(path)).stack == "full"
    assert choice.chosen(str(path), stack="sink").stack == "sink"
    assert choice.chosen("quick").stack == "sink"
    with pytest.raises(InputError, match="its stack is sink or full, not 'both'"):
        choice.chosen("quick", stack="both")
    assert any("small sink" in line for line in choice.plan(choice.chosen("quick")))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"blocks": 1, "workloads": ("go",)}, "1 workload, 6 arms, 1 block, "),
        ({"blocks": 2}, "3 workloads, 6 arms, 2 blocks, "),
    ],
)
def test_a_plan_counts_in_words_that_fit(keys: dict[str, Any], words: str) -> None:
    assert words in next(choice.plan(replace(allotment.without(choice.chosen("quick")), **keys)))


def test_a_short_plan_is_told_in_seconds() -> None:
    e = allotment.without(choice.chosen("quick", arms=["a=http"], workloads=["go"]))
    short = replace(e, blocks=1, switched_seconds=1.0, steady_seconds=0.5, metered_seconds=0.0)
    assert re.search(r"; about \d\d seconds\. Nothing", next(choice.plan(short)))
