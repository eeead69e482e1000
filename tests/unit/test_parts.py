"""A part of what a cluster runs: defined by data, turned in its pod, billed by the difference."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.analysis.account import PART, bill_rows
from harness.analysis.cell import Cell, value_rows
from harness.analysis.compare import Estimate
from harness.collectors import resolve, subject
from harness.collectors.spec import is_placed
from harness.controller import resolved
from harness.controller.nodes import Nodes
from harness.errors import CollectorError, ComponentError, InputError, NeedError, UnavailableError
from harness.model import Arm, Comparison, Measurement, Trial
from harness.node import always_on, install, loaded_programs, part_agent
from harness.node.install_halves import _Half
from harness.node.part_agent import PartAgent
from harness.node.testbed import TrialLog
from harness.plan import definitions, experiment, methods, trials, workloads
from harness.plan.experiment import Experiment
from harness.report import headline
from harness.results.run import TrialRecord
from harness.targets import target
from harness.targets.kubernetes import node_pod, options
from harness.targets.kubernetes.kubectl import Cluster
from harness.wire import codec
from harness.wire.driving import Answer, Call, Look, Turn
from harness.wire.spec import CollectorSpec, Found
from harness.wire.subject import Option

MINE = """
name = "mine"
purpose = "What an agent can be told to look at"
kind = "option"
method = "block"
reach = "host"
events = '^seen (\\d+)$'

[source]
way = "cluster"
name = "obs/agent"

[option]
container = "agent"
on = ["tell", "on"]
off = ["tell", "off"]
state = ["tell"]
is_on = '^state: on$'
seen = ["tell", "seen"]
"""
TELL = ("tell",)
OPTION = Option("agent", ("tell", "on"), ("tell", "off"), TELL, "^state: on$", ("tell", "seen"))
ON, OFF, LOOK = (
    Turn("obs/agent", OPTION, True), Turn("obs/agent", OPTION, False), Look("obs/agent", OPTION),
)  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.toml").write_text(MINE)
    return str(tmp_path / "mine.toml")


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


def test_a_machine_has_none() -> None:
    for ask in (
        lambda: target("local").turn("obs/agent", OPTION, True, lambda: None),
        lambda: target("local").look("obs/agent", OPTION, lambda: None),
    ):
        with pytest.raises(InputError, match="is one of a cluster"):
            ask()


CLUSTER = Cluster("shop", "harness-evaluate")
NODE = {"metadata": {"name": "worker"}}
DAEMONSET = {
    "metadata": {"name": "agent", "namespace": "obs"},
    "spec": {"selector": {"matchLabels": {"app": "agent"}}},
}


class Store:
    """A DaemonSet's pod on the node, and the option in it."""

    def __init__(self) -> None:
        self.on, self.obeys, self.commands = True, True, list[str]()
        self.pod: dict[str, Any] = {
            "metadata": {
                "name": "agent-x", "namespace": "obs", "labels": {"app": "agent"},
                "ownerReferences": [{"name": "agent", "controller": True}],
            },
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "agent", "containerID": "containerd://abc"}],
            },
        }  # fmt: skip

    def get(self, cluster: Cluster, *words: str) -> list[dict[str, Any]]:
        if words[0] == "pods" and "--all-namespaces" in words:
            turned = options.TURNED in self.pod["metadata"]["labels"]
            return [copy.deepcopy(self.pod)] if turned else []
        assert cluster.namespace == "obs"
        return [copy.deepcopy(self.pod)] if words[0] == "pods" else [copy.deepcopy(DAEMONSET)]

    def run(self, cluster: Cluster, *words: str, **_: Any) -> Any:
        if words[0] == "patch":
            assert words[1:3] == ("pod", "agent-x")
            for key, given in json.loads(words[4].removeprefix("--patch="))["metadata"].items():
                kept = self.pod["metadata"].setdefault(key, {})
                kept.update(given)
                for name in [name for name, value in kept.items() if value is None]:
                    del kept[name]
            return None
        assert words[:4] == ("exec", "agent-x", "--container=agent", "--")
        command = words[4:]
        self.commands.append(" ".join(command))
        if command in (OPTION.on, OPTION.off) and self.obeys:
            self.on = command == OPTION.on
        said = "seen 7\n" if command == OPTION.seen else f"state: {'on' if self.on else 'off'}\n"
        return SimpleNamespace(stdout=said)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(Cluster, "get", lambda self, *words: made.get(self, *words))
    monkeypatch.setattr(Cluster, "run", lambda self, *words, **more: made.run(self, *words, **more))
    return made


def _turn(on: bool, option: Option = OPTION) -> tuple[list[str], bool]:
    return options.turn(CLUSTER, NODE, "obs/agent", option, on, lambda: None)


def test_it_is_turned_off_and_on_and_is_what_it_was(store: Store) -> None:
    before = copy.deepcopy(store.pod)
    assert _turn(False) == (["containerd://abc"], True)
    assert not store.on
    assert _turn(False) == (["containerd://abc"], False)
    assert _turn(True) == (["containerd://abc"], False)
    assert store.commands.count("tell off") == 1
    _turn(False)
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert store.on
    assert store.pod["metadata"].pop("annotations") == {}
    assert store.pod == before
    store.commands.clear()
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert store.commands == []


def test_what_was_off_is_off_in_the_end(store: Store) -> None:
    store.on = False
    _turn(True)
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert not store.on


def test_two_options_of_one_pod_are_both_put_back(store: Store) -> None:
    other = dataclasses.replace(OPTION, on=("tell", "more"), off=("tell", "less"))
    _turn(False)
    _turn(False, other)
    store.commands.clear()
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert sorted(store.commands) == ["tell less", "tell on"]


def test_what_a_killed_evaluation_turned_is_turned_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _turn(False)
    options.restore_orphans(CLUSTER)
    assert not store.on  # its process, this one, is there
    monkeypatch.setattr(node_pod, "is_orphan", lambda _: True)
    options.restore_orphans(CLUSTER)
    assert store.on
    assert options.TURNED not in store.pod["metadata"]["labels"]


def test_what_a_killed_evaluation_kept_is_what_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is off by now, and was on."""
    _turn(False)
    store.pod["metadata"]["annotations"][node_pod.OWNER] = "another"
    monkeypatch.setattr(node_pod, "is_orphan", lambda _: True)
    _turn(False)
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert store.on


def test_what_another_evaluation_turns_is_left_to_it(store: Store) -> None:
    _turn(False)
    store.pod["metadata"]["annotations"][node_pod.OWNER] = "another"
    with pytest.raises(NeedError, match="another evaluation"):
        _turn(True)
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert not store.on


def test_what_does_not_obey_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "TURN_SECONDS", 0.0)
    store.obeys = False
    with pytest.raises(ComponentError, match="is not off though it was turned"):
        _turn(False)


def test_what_it_saw_is_what_its_command_prints(store: Store) -> None:
    found = options.look(CLUSTER, NODE, "obs/agent", OPTION, lambda: None)
    assert found == (["containerd://abc"], "seen 7\n")
    assert options.TURNED not in store.pod["metadata"]["labels"]


def test_it_is_off_before_each_block_and_asked_for_by_the_node(mine: str) -> None:
    asked = list[object]()

    def turn(*words: Any) -> tuple[list[str], bool]:
        asked.append(words[:3])
        return ["containerd://abc"], True

    fake: Any = SimpleNamespace(turn=turn, look=lambda *_: (["containerd://abc"], "seen 7"))
    nodes: Any = Nodes(fake, lambda _: None)  # type: ignore[arg-type,return-value]
    nodes.node = lambda: SimpleNamespace(ping=lambda: None)
    nodes.clear({"mine": resolve(mine)})
    assert asked == [("obs/agent", OPTION, False)]
    there: Any = SimpleNamespace(ping=lambda: None)
    found, _ = nodes._placed(there, Call(ON))
    assert found == {"containers": ["containerd://abc"], "was": True}
    assert nodes._placed(there, Call(LOOK))[0]["seen"] == "seen 7"


class Controller:
    """Answers by what it is asked; keeps that."""

    def __init__(self) -> None:
        self.asked, self.seen, self.was = list[object](), "seen 7", False

    def __call__(self, call: Call) -> Answer:
        self.asked.append(call.does)
        told: dict[str, Any] = {"containers": ["containerd://abc"]}
        return {**told, "seen": self.seen} if call.does == LOOK else {**told, "was": self.was}, b""


@pytest.fixture
def agent(
    tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Controller], PartAgent]:
    monkeypatch.setattr(loaded_programs, "calm", lambda *_, **__: frozenset())
    monkeypatch.setattr(part_agent.PartAgent, "_find", lambda self: None)
    monkeypatch.setattr(part_agent, "COUNTED_SECONDS", 0.0)

    def make(ask: Controller) -> PartAgent:
        testbed: Any = SimpleNamespace(
            service=SimpleNamespace(cgroup=tmp_path),
            machine=SimpleNamespace(socket=lambda name: tmp_path / name),
            ask=ask,
            attend=lambda: None,
        )
        return PartAgent(_spec(mine), testbed, tmp_path)

    return make


def _spec(mine: str) -> CollectorSpec:
    return trials.collector(resolve(mine))


def test_it_is_turned_on_for_a_trial_and_off_after_it(agent) -> None:
    ask = Controller()
    one = agent(ask)
    one.start()
    one.await_ready()
    assert one.flush() == {"events": 7.0}
    assert (one.pids(), one.ready["programs"], one.counts) == ([], [], False)
    one.kill()
    one.kill()
    assert ask.asked == [ON, LOOK, LOOK, OFF]


def test_one_that_counts_nothing_is_not_there(agent) -> None:
    """As where Cilium was installed without Hubble."""
    ask = Controller()
    ask.seen = "hubble: Disabled"
    one = agent(ask)
    one.start()
    with pytest.raises(UnavailableError, match="does not tell what it saw") as caught:
        one.await_ready()
    assert "enabled in obs/agent" in caught.value.next_step


def test_a_half_without_it_in_which_it_was_is_none(mine: str) -> None:
    ask, spec = Controller(), SimpleNamespace(candidates=(_spec(mine),))
    testbed: Any = SimpleNamespace(ask=ask)
    install.require_absent(testbed, spec)  # type: ignore[arg-type]
    ask.was = True
    with pytest.raises(CollectorError, match="in the half of a trial without it"):
        install.require_absent(testbed, spec)  # type: ignore[arg-type]
    assert ask.asked == [OFF, OFF]


def test_its_cost_is_what_its_pod_uses_more_and_not_what_our_command_does(
    agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.2 s a second without it; 5 s with it took 1.6 s, and the command at the end 3 s."""
    one = agent(Controller())
    notes = TrialLog(SimpleNamespace(timing=SimpleNamespace(switched=8.0)))
    half = _Half(None, Path(), notes, None)  # type: ignore[arg-type]
    half._beside = {one.name: 0.2}
    half.note_beside([one])
    group = f"agent-{one.name}"
    monkeypatch.setattr(PartAgent, "cgroups", property(lambda _: [Path("/x")]))
    before, after, flushed = ({group: used, "sink": 0.0} for used in (1.0, 2.6, 5.6))
    always_on._note_cpu([one], notes, 5.0, before, after, flushed)
    always_on._note_seen([one], [{"events": 7.0}], [{"events": 107.0}], notes)
    notes.add_counts(one, {"events": 107.0})
    found = {value.metric: value.value for value in notes.values}
    assert found.pop("steady_agent_cpu_seconds") == pytest.approx(0.6)
    assert found.pop("steady_sink_cpu_seconds") == 0
    assert found == {"beside_cpu_seconds": 0.8, "steady_events": 100}


def test_its_bill_is_the_difference_of_all_who_pay() -> None:
    """Of 100 requests: 200 flows, 5 ms more of its agent; service and load 30 us more a request."""
    trial = Trial(0, "go", 0, "a", "switched", 1)
    told = {
        "beside_cpu_seconds": 0.5, "steady_agent_cpu_seconds": 0.005, "steady_requests": 100,
        "steady_events": 200,
    }  # fmt: skip
    values = tuple(
        Measurement(name, each, "1", "go", "a", 0, trial.name, labels={"collector": "a"})
        for name, each in told.items()
    )
    arm = Arm("a", ("a",), (), "block")
    one = Cell("go", arm, ((TrialRecord(trial, "ok", values=values), ()),), ())

    def rows(microseconds: float) -> dict[str, float]:
        centre = Estimate(microseconds, microseconds - 20, microseconds + 20, 9)
        cost = one.row("context_cpu_us", centre, 600.0, "by halves")
        before = [*value_rows(one), cost]
        return {row.metric: row.estimate for row in (*before, *bill_rows(one, before, {}))}

    found = rows(30.0)
    assert found["agent_us"] == pytest.approx(50)
    assert found["bill_us"] == pytest.approx(80)
    assert found["events_per_request"] == 2
    assert found["bill_event_us"] == pytest.approx(40)
    assert not {"bpf_us", "agent_memory_mb", "map_memory_mb"} & set(found)
    assert "bill_us" not in rows(-90.0)  # chance


def test_a_bill_by_difference_is_not_called_metered() -> None:
    row = Comparison("go", "a", "bill_us", "us/request", 80.0, 60.0, 100.0, 6, 1.0, math.nan, PART)
    told: Any = SimpleNamespace(
        rows=[row],
        row=lambda *_: None,
        experiment=SimpleNamespace(arm=lambda _: Arm("a", ("hubble",))),
    )
    assert headline.bill(told).startswith("In all")
    told.rows = [dataclasses.replace(row, method="sum of bpf_us and agent_us")]
    assert headline.bill(told).startswith("Metered directly")


def test_hubble_is_counted_as_cilium_prints_it() -> None:
    """Whitespace is that of its JSON, indented or not."""
    found = resolve("hubble").subject
    assert found is not None
    assert found.option is not None
    for said in ('{"observer":{"current-flows":9,"max-flows":4095,"seen-flows":12}}',
                 '"max-flows": 4095,\n      "seen-flows": 12,'):  # fmt: skip
        assert re.findall(found.events, said) == ["12"]
    shown = "TraceNotification                 : Enabled\n"
    assert re.search(found.option.is_on, f"x\n{shown}", re.MULTILINE)
    assert not re.search(found.option.is_on, shown.replace("Enabled", "Disabled"), re.MULTILINE)
