"""What crosses the seam comes out as it went in, and nothing else gets through."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model import Arm, Load
from harness.plan import design, trials, workloads
from harness.plan.definitions import changed, from_dict, resolve, resolve_all, to_dict
from harness.plan.experiment import Experiment, plan
from harness.wire import codec, spec
from harness.wire.spec import BlockSpec, Found, Spawn, TrialResult, TrialSpec

E = Experiment(
    "e",
    ("go",),
    (
        Arm("baseline"),
        Arm("http", ("http",)),
        Arm("new", ("http:sample=1", "flows"), ("http",)),
        Arm("twin", ("profile",), method="twin"),
        Arm("block", ("guard",), method="block"),
    ),
    blocks=2,
    loads={"go": Load(rate=100.0)},
)
SPECS = [each for each in vars(spec).values() if dataclasses.is_dataclass(each)]


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_spec_comes_back_from_json_as_it_was(kind: type, data: st.DataObject) -> None:
    value = data.draw(_built(kind))
    assert codec.load(kind, json.loads(json.dumps(codec.dump(value)))) == value


def _built(kind: type) -> st.SearchStrategy[Any]:
    import typing

    hints = typing.get_type_hints(kind)
    return st.builds(
        kind, **{field.name: _of(hints[field.name]) for field in dataclasses.fields(kind)}
    )


def _of(kind: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _built(kind)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(_of, arguments))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return st.lists(_of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(_of, arguments))
    if origin in (dict, Mapping):
        return st.dictionaries(st.text(max_size=3), _of(arguments[1]), max_size=2)
    plain = {
        str: st.text(max_size=5), int: st.integers(), bool: st.booleans(), type(None): st.none(),
        float: st.floats(allow_nan=False), Any: st.one_of(st.integers(), st.text(max_size=3)),
    }  # fmt: skip
    return plain[kind]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": 3}, "name"),
        ({"method": "magic"}, "method"),
        ({"swapped": 1}, "swapped"),
        ({"windows": [{"on": True}]}, "collectors"),
        ({"more": 1}, "unknown fields: more"),
        ({"timing": {"is": "Spawn"}}, "timing"),
    ],
)
def test_what_is_not_a_spec_is_refused_with_its_place(change: dict[str, Any], match: str) -> None:
    good = codec.dump(trials.trial(E, plan(E)[0], resolve_all(E)))
    with pytest.raises(codec.MalformedError, match=match):
        codec.load(TrialSpec, {**good, **change})


def test_a_service_is_told_from_one_that_is_found_by_its_name() -> None:
    found = Found("nginx", "http://127.0.0.1/", pid=7)
    assert codec.load(Found, codec.dump(found)) == found
    block = trials.block(E, workloads.load("go"), 1, 100.0)
    for service in (found, Spawn("go", ("./server",), "/")):
        told = codec.dump(dataclasses.replace(block, service=service))
        assert codec.load(BlockSpec, told).service == service


def test_a_block_is_told_how_its_arrivals_are_spaced() -> None:
    drawn = dataclasses.replace(E, loads={"go": Load(arrivals="poisson")})
    told = [trials.block(each, workloads.load("go"), 0, None).arrivals for each in (E, drawn)]
    assert told == ["periodic", "poisson"]


def _specs(arm: str, kind: str = "switched") -> list[TrialSpec]:
    known = resolve_all(E)
    mine = [each for each in plan(E) if (each.arm, each.kind) == (arm, kind)]
    return [trials.trial(E, each, known) for each in mine]


def test_references_are_on_while_the_candidates_are_off() -> None:
    first, second = _specs("new")
    assert [each.name for each in first.candidates] == ["http-sample-1", "flows"]
    assert [each.name for each in first.references] == ["http-reference"]
    assert {(w.on, w.collectors) for w in first.windows} == {
        (True, (True, True, False)), (False, (False, False, True)),
    }  # fmt: skip
    assert (first.swapped, second.swapped) == (False, True)


def test_a_metered_trial_leaves_its_collectors_on_unless_they_take_turns() -> None:
    (alone, _) = _specs("http", "metered")
    assert {w.collectors for w in alone.windows} == {(True,)}
    assert len(alone.windows) >= trials.LEAST_SLICES
    (turns, _) = _specs("new", "metered")
    assert {w.on for w in turns.windows} == {True, False}


def test_an_installation_has_five_parts_turned_round_with_each_block() -> None:
    first, second = _specs("block")
    assert first.method == "install"
    on = first.windows[0].on
    assert [w.on for w in first.windows] == [on, not on, on, not on, on]
    assert [w.on for w in first.windows] == [not w.on for w in second.windows]


def test_services_that_ship_are_named_by_the_place_where_each_node_has_them() -> None:
    told = trials.block(E, workloads.load("go"), 0, None)
    assert str(workloads.SHIPPED) not in json.dumps(codec.dump(told))
    assert told.locustfile is not None
    assert "{workloads}/go" in told.locustfile.path


@pytest.mark.parametrize("name", ["http:sample=10", "profile:frequency=99,drain=0.5", "inject"])
def test_a_collector_is_kept_with_the_run_as_it_was_resolved(name: str) -> None:
    definition = resolve(name)
    assert from_dict(json.loads(json.dumps(to_dict(definition)))) == definition


def test_a_result_carries_its_windows() -> None:
    told = {"status": "ok", "windows": [
        {"window": {"index": 0, "quadruple": 0, "on": True, "start_ns": 1, "end_ns": 2},
         "meters": {"cpu.workload": 0.5, "requests": 3}},
    ]}  # fmt: skip
    (row,) = codec.load(TrialResult, told).windows
    assert (row.window.on, row.meters) == (True, {"cpu.workload": 0.5, "requests": 3.0})


def test_a_collector_whose_program_was_built_anew_is_noticed(tmp_path: Path) -> None:
    program, file = tmp_path / "agent", tmp_path / "mine.toml"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file.write_text(
        'name = "mine"\npurpose = "p"\n'
        f'command = ["{program}", "{{cgroup}}", "{{otlp}}", "{{control}}"]\n'
    )
    kept = {str(file): to_dict(resolve(str(file))), "http": to_dict(resolve("http"))}
    assert changed(kept) == []
    program.write_text("#!/bin/sh\n# better\n")
    assert changed(kept) == [str(file)]
    program.unlink()
    assert changed(kept) == []  # that is told when it is to be started


SHARED = Experiment(
    "e",
    ("go",),
    (
        Arm("baseline", method="factorial"),
        Arm("http", ("http",), method="factorial"),
        Arm("all", ("flows", "http", "guard"), method="factorial"),
    ),
    blocks=2,
)


def _shared(kind: str, without: Sequence[str] = ()) -> list[TrialSpec]:
    known, mine = resolve_all(SHARED), [each for each in plan(SHARED) if each.kind == kind]
    return [trials.trial(SHARED, each, known, without) for each in mine]


def test_a_shared_trial_switches_each_collector_by_its_own_column() -> None:
    first, second = _shared("switched")
    assert [each.name for each in first.candidates] == ["http", "flows", "guard"]
    assert (first.shared, first.cycle, first.method) == (True, 16, "switch")
    assert len(first.windows) == design.cycles(SHARED) * 16
    for window in first.windows:
        assert window.collectors == window.states[:3]
        assert window.on == any(window.collectors)
        assert len(window.states) == 4
    assert [w.states for w in first.windows] != [w.states for w in second.windows]


def test_who_is_left_out_takes_no_state_from_the_others() -> None:
    whole, part = _shared("switched")[0], _shared("switched", without=["flows"])[0]
    assert [each.name for each in part.candidates] == ["http", "guard"]
    assert [w.states for w in part.windows] == [w.states for w in whole.windows]
    assert all(w.collectors == (w.states[0], w.states[2]) for w in part.windows)


def test_a_shared_metered_trial_leaves_all_of_them_on() -> None:
    first, _ = _shared("metered")
    assert (first.shared, first.method) == (True, "bpf_time")
    assert {(w.on, w.collectors, w.states) for w in first.windows} == {(True, (True,) * 3, ())}


def test_other_trials_share_nothing() -> None:
    assert not any(each.shared for arm in ("http", "new", "twin") for each in _specs(arm))
