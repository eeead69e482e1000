"""A part of what a cluster runs is defined by data, and planned as what is there without it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from harness.collectors import resolve, subject
from harness.collectors.spec import is_placed
from harness.controller import resolved
from harness.errors import InputError
from harness.linux import processes
from harness.model import Arm
from harness.plan import definitions, experiment, methods, trials, workloads
from harness.plan.experiment import Experiment
from harness.wire import codec
from harness.wire.driving import Call
from harness.wire.spec import Found
from tests.unit.optioned import LOOK, MINE, OFF, ON, OPTION, written


@pytest.fixture
def mine(tmp_path: Path) -> str:
    return written(tmp_path)


def test_a_definition_is_all_it_takes(mine: str) -> None:
    found = resolve(mine)
    assert (found.daemonset, found.method) == ("obs/agent", "block")
    assert found.subject is not None
    assert found.subject.option == OPTION
    assert is_placed(mine)
    assert definitions.from_dict(json.loads(json.dumps(definitions.to_dict(found)))) == found
    for does in (ON, OFF, LOOK):
        assert codec.load(Call, json.loads(json.dumps(codec.dump(Call(does))))).does == does


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "option"', 'kind = "process"', 'kind = "option"'),
        ('name = "obs/agent"', 'name = "agent"', "NAMESPACE/NAME"),
        ('way = "cluster"', 'way = "path"', "NAMESPACE/NAME"),
        ('method = "block"', 'method = "twin"', "its method is block"),
        ('method = "block"', "", "its method is block"),
        ("events = ", 'temporality = "delta"\nevents = ', "temporality is of the numbers"),
        ("events = ", "ready = ", "no ready"),
        ('on = ["tell", "on"]\n', "", "option lacks on"),
        ('off = ["tell", "off"]', 'off = "tell off"', "option.off is a list"),
        ("is_on = '^state", "is_on = '(", "no regular expression"),
        ("events = '^seen (\\d+)$'\n", "", "lacks events"),
        ('container = "agent"', 'pod = "agent"', "unknown keys: pod"),
        ("[option]", "[telemetry]", "unknown keys"),
    ],
)
def test_what_is_wrong_with_one_is_said(mine: str, old: str, new: str, said: str) -> None:
    assert old in MINE
    Path(mine).write_text(MINE.replace(old, new))
    subject.read.cache_clear()
    with pytest.raises(InputError, match=said):
        resolve(mine)


def test_it_is_a_block_without_metered_trials(mine: str) -> None:
    """Its programs are those of what goes on without it."""
    arms = methods.chosen([Arm("baseline"), Arm("part", (mine,)), Arm("both", (mine, "http"))])
    assert [arm.method for arm in arms] == ["switch", "block", "block"]
    e = Experiment("e", ("go",), tuple(arms), blocks=1)
    known = definitions.resolve_all(e)
    kinds = {(t.arm, t.kind) for t in experiment.plan(e)}
    assert ("part", "metered") not in kinds
    metered = next(t for t in experiment.plan(e) if (t.arm, t.kind) == ("both", "metered"))
    assert [each.name for each in trials.trial(e, metered, known).candidates] == ["http"]


def test_a_service_that_runs_there_may_be_measured_with_it(mine: str) -> None:
    own = dataclasses.replace(
        workloads.load("go"), running=Found("own", "http://pod:1/", workload="shop/own")
    )
    e = Experiment("e", ("go",), (Arm("baseline"), Arm("part", (mine,), (), "block")), blocks=1)
    assert resolved.check(e, own).definitions[mine].daemonset == "obs/agent"


def test_hubble_is_counted_as_cilium_prints_it() -> None:
    """Whitespace is that of its JSON, indented or not."""
    found = resolve("hubble").subject
    assert found is not None
    assert found.option is not None
    for said in ('{"observer":{"current-flows":9,"max-flows":4095,"seen-flows":12}}',
                 '"max-flows": 4095,\n      "seen-flows": 12,'):  # fmt: skip
        assert re.findall(found.events, said) == ["12"]


AGENT = """#!/bin/sh
case "$*" in
config) printf 'PolicyAuditMode : Disabled\\n%s' "$CONFIG" ;;
"endpoint list --output jsonpath={[*].status.state}") echo "$STATES" ;;
esac
"""


@pytest.mark.parametrize(
    ("trace", "drop", "verdict", "states", "expected"),
    [
        ("Enabled", "Enabled", "Enabled", "ready ready", (True, False)),
        ("Disabled", "Disabled", "Disabled", "ready", (False, True)),
        ("Disabled", "Enabled", "Enabled", "ready", (False, False)),
        ("Enabled", "Enabled", "Disabled", "ready", (False, False)),
        ("Enabled", "Enabled", "Enabled", "ready waiting-to-regenerate", (False, False)),
    ],
)
def test_hubble_is_on_or_off_only_if_all_of_it_is(
    trace: str, drop: str, verdict: str, states: str, expected: tuple[bool, bool], tmp_path: Path
) -> None:
    """By a program that prints what cilium-dbg does."""
    found = resolve("hubble").subject
    assert found is not None
    assert found.option is not None
    (tmp_path / "cilium-dbg").write_text(AGENT)
    (tmp_path / "cilium-dbg").chmod(0o755)
    told = {"DropNotification": drop, "PolicyVerdictNotification": verdict,
            "TraceNotification": trace}  # fmt: skip
    config = "".join(f"{name:<34}: {each}\n" for name, each in told.items())
    shell = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CONFIG": config, "STATES": states}
    said = processes.run(found.option.state, env=shell).stdout
    option = found.option
    assert expected == tuple(
        bool(re.search(each, said, re.MULTILINE)) for each in (option.is_on, option.is_off)
    )


DAEMONSET = """
name = "whole"
purpose = "A DaemonSet by a name of its own"
kind = "daemonset"
job = "tracing"
method = "block"
reach = "host"

[source]
way = "cluster"
name = "obs/agent"
why = "No registry has it."
"""


def test_a_daemonset_has_a_definition_too_and_is_moved_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "whole.toml"
    path.write_text(DAEMONSET)
    found = resolve(str(path))
    assert (found.name, found.daemonset, found.method) == ("whole", "obs/agent", "block")
    assert found.subject is not None
    assert found.subject.option is None
    assert is_placed(str(path))
    (_, arm) = methods.chosen([Arm("baseline"), Arm("whole", (str(path),))])
    e = Experiment("e", ("go",), (Arm("baseline"), arm), blocks=1)
    kinds = {(t.arm, t.kind) for t in experiment.plan(e)}
    assert ("whole", "metered") in kinds  # its programs come and go with it
    assert definitions.from_dict(json.loads(json.dumps(definitions.to_dict(found)))) == found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('method = "block"', 'method = "twin"', "its method is block"),
        ('way = "cluster"', 'way = "path"', "NAMESPACE/NAME"),
        ('reach = "host"', "events = '(1)'", "what it sees is not known here"),
        ('reach = "host"', 'command = ["x"]', "it runs already"),
    ],
)
def test_what_is_wrong_with_a_daemonset_s_is_said(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in DAEMONSET
    path = tmp_path / "whole.toml"
    path.write_text(DAEMONSET.replace(old, new))
    with pytest.raises(InputError, match=said):
        resolve(str(path))


def test_pixie_is_the_daemonset_of_its_documentation() -> None:
    found = resolve("pixie")
    assert (found.name, found.daemonset) == ("pixie", "pl/vizier-pem")
    assert is_placed("pixie")
