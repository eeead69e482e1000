"""Who keeps each signal in a cluster: what was asked for, what is there, what a bundle has."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.cli import keepers as options
from harness.errors import InputError, NeedError
from harness.stack import catalog
from harness.stack.config.description import KEEPS
from harness.targets.kubernetes import (
    chosen,
    condition,
    keepers,
    meant,
    node_check,
    profiles,
    rollout,
    values,
)
from harness.targets.kubernetes.chosen import Options
from tests.unit import dockered, helmed
from tests.unit.dockered import Machine
from tests.unit.helmed import Told

WITH = {**KEEPS, "profiles": "parca"}
ANOTHER = {**KEEPS, "traces": "tempo", "logs": "loki"}
THERE = Options("existing", context="shop", dashboards="none")
KUBERNETES = Path(__file__).parents[2] / "docs/kubernetes.md"
PARCA = catalog.known()["parca"].image


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return dockered.on_path(tmp_path, monkeypatch)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(node_check, "require", lambda *_: None)
    return helmed.on_path(tmp_path, monkeypatch)


def installed(told: Told) -> dict[str, Any]:
    """The values that the release has."""
    found: dict[str, Any] = json.loads((told.folder / "helm.harness.config").read_text())
    return found


def release(*names: str, size: str = "") -> dict[str, Any]:
    return {"components": list(names), "storage": {"size": size} if size else {}}


@pytest.mark.parametrize(
    ("asked", "there", "kept"),
    [
        ({}, None, KEEPS),
        ({"profiles": "parca"}, None, WITH),
        ({"profiles": "none"}, None, KEEPS),
        ({}, release("otelcol", *WITH.values()), WITH),  # as with volumes: nothing goes unasked
        ({"profiles": "none"}, release("otelcol", *WITH.values()), KEEPS),
        ({}, release(*ANOTHER.values(), "grafana"), ANOTHER),
        ({"traces": "jaeger"}, release(*ANOTHER.values()), {**KEEPS, "logs": "loki"}),
        ({}, release(), KEEPS),  # agents send to somebody else's receiver
    ],
)
def test_what_is_asked_for_holds_then_what_is_there(
    asked: Mapping[str, str], there: Mapping[str, Any] | None, kept: Mapping[str, str]
) -> None:
    assert keepers.settled(asked, there) == kept
    assert keepers.settled(keepers.settled(asked, there)) == kept


def test_a_bundle_has_who_is_asked_for_or_is_the_choice_itself() -> None:
    def images(names: Mapping[str, str]) -> list[str]:
        return [catalog.known()[name].image for name in names.values()]

    assert keepers.settled({}, None, images(WITH)) == WITH
    assert keepers.settled({"profiles": "none"}, None, images(WITH)) == KEEPS
    assert keepers.settled({}, None, images(ANOTHER)) == ANOTHER
    # where nobody was to keep profiles a bundle brings nobody
    assert keepers.settled({}, release("otelcol", *KEEPS.values()), images(WITH)) == KEEPS
    assert keepers.settled({}, release(), images(WITH)) == WITH
    with pytest.raises(NeedError, match="The bundle has no image of Parca") as lacking:
        keepers.settled({"profiles": "parca"}, None, images(KEEPS))
    assert "harness bundle FILE --profiles parca;" in lacking.value.next_step
    assert lacking.value.next_step.endswith("take what it has: --profiles none.")
    with pytest.raises(NeedError, match="no image of Jaeger") as lacking:
        keepers.settled({}, release(*KEEPS.values()), images(ANOTHER))
    assert lacking.value.next_step.endswith("take what it has: --traces tempo.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--profiles", "perf"), "nothing called 'perf' that keeps profiles"),
        (("--profiles", "pyroscope"), "It is under the AGPL"),
        (("--traces", "none"), "Take --traces tempo or jaeger"),
        (("--require", "tempo", "--require", "jaeger"), "One component keeps the traces"),
        (("--require", "tempo", "--traces", "jaeger"), "--require tempo does not go with --traces"),
        (("--profile", "production", "--profiles", "parca"), "--profiles does not go with --pro"),
        (
            ("--profile", "production", "--require", "prometheus"),
            "--require does not go with --pro",
        ),
        (
            ("--otlp", "http://a.b:4318", "--profiles", "parca"),
            "--profiles does not go with --otlp",
        ),
        (("--otlp", "http://a.b:4318", "--require", "loki"), "--require loki does not go"),
        (("--otlp", "http://a.b:4318", "--require", "otelcol"), "--require otelcol does not go"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["up", "--target", "kind", "--plan", *words])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_whom_is_required_keeps_its_signal_on_a_machine_and_in_a_cluster() -> None:
    asked = options.wanted("", "loki", "none", ["tempo", "grafana"])
    assert asked == {"traces": "tempo", "logs": "loki", "profiles": "none"}
    assert options.required(asked, ["tempo", "grafana"]) == ["tempo", "grafana", "loki"]
    chosen.check(Options("existing", keepers=asked))
    chosen.check(Options("kind", otlp="http://a.b:4318", keepers={"profiles": "none"}))
    with pytest.raises(InputError, match="nothing called 'x' that keeps traces"):
        chosen.check(Options("kind", keepers={"traces": "x"}))
    with pytest.raises(InputError, match="--profiles does not go with --profile production"):
        profiles.of(Options("kind", profile="production", keepers={"profiles": "parca"}))


def test_parca_is_a_pod_as_others_that_agents_write_to_themselves() -> None:
    stack = values.stack("kind-shop", keeps=WITH)
    made = values.values(stack, "localhost/node:1", of_agents={"namespaces": ["shop"]})
    assert made["agents"] == {
        "namespaces": ["shop"], "collectors": {"profile": ["--parca=http://parca:7070"]},
    }  # fmt: skip
    assert "agents" not in values.values(values.stack("kind-shop"), "localhost/node:1")
    own = made["components"]["parca"]
    assert (own["command"], own["hears"], own["inMemory"]) == (["/parca"], ["agents"], True)
    assert own["ready"] == {"path": "/metrics", "port": 7070}
    assert "--http-address=0.0.0.0:7070" in own["args"]
    (file,) = own["files"].values()
    assert own["data"] == json.loads(file)["object_storage"]["bucket"]["config"]["directory"]
    jobs = json.loads(made["components"]["prometheus"]["files"]["prometheus.yaml"])
    targets = {each["job_name"]: each["static_configs"] for each in jobs["scrape_configs"]}
    assert targets["parca"] == [{"targets": ["parca:7070"]}]
    assert PARCA in values.images(made)
    assert made["components"]["prometheus"]["hears"] == ["otelcol"]


def test_tempo_and_loki_are_configured_by_the_modules_of_one_machine() -> None:
    made = values.values(values.stack("kind-shop", keeps=ANOTHER), "localhost/node:1")["components"]
    assert set(made) == {"otelcol", *ANOTHER.values()}
    tempo, loki = (json.loads(made[n]["files"][f"{n}.yaml"]) for n in ("tempo", "loki"))
    for one, name in ((tempo, "tempo"), (loki, "loki")):
        assert one["server"]["http_listen_address"] == "0.0.0.0"
        assert one["server"]["grpc_listen_address"] == "127.0.0.1"  # its own parts alone
        assert made[name]["user"] == 10001
        assert made[name]["image"].startswith(f"docker.io/grafana/{name}:")
    assert tempo["querier"]["frontend_worker"]["frontend_address"] == "127.0.0.1:9095"
    assert loki["frontend"]["scheduler_address"] == "127.0.0.1:9096"
    otlp = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert otlp == "0.0.0.0:14317"
    (to,) = tempo["metrics_generator"]["storage"]["remote_write"]
    assert to["url"] == "http://prometheus:9090/api/v1/write"
    assert made["prometheus"]["hears"] == ["otelcol", "tempo"]
    exporters = json.loads(made["otelcol"]["files"]["otelcol.yaml"])["exporters"]
    assert exporters["otlp_grpc/tempo"]["endpoint"] == "tempo:14317"
    assert exporters["otlp_http/loki"]["logs_endpoint"].startswith("http://loki:3100/")


def plan(*words: str) -> str:
    done = CliRunner().invoke(app, ["up", "--target", "kind", "--plan", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_plan_says_who_would_keep_what(machine: Machine) -> None:
    said = plan("--profiles", "parca", "--storage", "10Gi")
    assert (
        "Kept are traces by Jaeger, metrics by Prometheus, logs by VictoriaLogs, profiles by "
        in said
    )
    assert f"  {PARCA}, " in said
    assert "Their data would be in 5 volumes" in said  # what is in memory has none
    assert "Next: harness up --target kind --storage 10Gi --profiles parca" in said
    assert json.loads(plan("--profiles", "parca", "--json"))["keeps"] == WITH
    bare = plan()
    assert "profiles" not in bare
    assert PARCA not in bare
    said = plan("--require", "tempo", "--logs", "loki")
    assert "Kept are traces by Tempo, metrics by Prometheus, logs by Loki." in said
    assert "harness up --target kind --logs loki --traces tempo" in said


def test_each_choice_that_is_documented_can_be_planned(machine: Machine) -> None:
    section = (
        KUBERNETES.read_text().partition("### Who keeps each signal\n")[2].partition("\n### ")[0]
    )
    block = section.partition("```sh\n")[2].partition("```")[0]
    told = [line for line in block.splitlines() if line.startswith("harness up --target kind ")]
    assert len(told) == 3
    for line in told:
        assert "Kept are " in plan(*shlex.split(line, comments=True)[4:])
    for component in catalog.known().values():
        if component.signal and (option := keepers.option(component)):
            assert f"`{option}`" in section or f"or `{component.name}`" in section


def test_a_plan_of_a_cluster_that_cannot_be_asked_says_what_is_not_known(machine: Machine) -> None:
    done = CliRunner().invoke(app, ["up", "--target", "existing", "--plan"])
    assert "What was not said stays as a stack that is there has it." in done.stdout
    assert "stays as a stack" not in plan()


def test_what_was_chosen_stays_until_something_else_is(told: Told) -> None:
    asked = replace(THERE, keepers={"profiles": "parca"})
    assert rollout.up(asked, print).changed
    assert installed(told)["agents"]["collectors"] == {"profile": ["--parca=http://parca:7070"]}
    assert not rollout.up(asked, print).changed
    assert not rollout.up(THERE, print).changed
    found = condition.status(THERE)
    assert found["keeps"] == WITH
    assert rollout.up(replace(THERE, keepers={"profiles": "none"}), print).changed
    assert "parca" not in installed(told)["components"]
    assert "agents" not in installed(told)
    assert not rollout.up(THERE, print).changed


def test_what_is_settled_is_settled_though_another_release_is_there() -> None:
    """As on machines: before the images, and again by what takes the cluster."""
    there = release("otelcol", *WITH.values())
    once = meant.settled(replace(THERE, keepers={"profiles": "none"}), there, None)
    again = meant.settled(once, there, None)
    assert again.keepers == once.keepers
    assert keepers.settled(again.keepers, there) == KEEPS
    chosen.check(again)


def test_pages_are_those_of_what_is_there(told: Told) -> None:
    done = rollout.up(replace(THERE, keepers={"profiles": "parca", "traces": "tempo"}), print)
    assert {"Parca", "Tempo", "Prometheus", "VictoriaLogs"} == set(done.pages)
    known = rollout.pages_of(THERE)
    assert {*ANOTHER.values(), *WITH.values(), "grafana"} == set(known)
    assert known["parca"].added == "--profiles parca"
    assert known["jaeger"].added == "--traces jaeger"
    assert known["prometheus"].added == ""


@pytest.mark.parametrize(("traces", "page"), [("jaeger", "jaeger"), ("tempo", "prometheus")])
def test_the_page_that_is_to_be_opened_next_is_there(told: Told, traces: str, page: str) -> None:
    words = ["up", "--target", "existing", "--context", "shop", "--dashboards", "none"]
    done = CliRunner().invoke(app, [*words, "--traces", traces])
    assert f"Next: harness open {page} --target existing" in done.stdout


def test_the_collectors_that_write_to_it_are_tried_on_the_nodes(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[list[str]] = []
    monkeypatch.setattr(node_check, "require", lambda *asked: tried.append(list(asked[2])))
    rollout.up(THERE, print)
    rollout.up(replace(THERE, keepers={"profiles": "parca"}), print)
    assert tried == [[*node_check.COLLECTORS], [*node_check.COLLECTORS, "profile"]]


def test_data_in_a_volume_do_not_go_in_passing(told: Told) -> None:
    rollout.up(replace(THERE, storage="10Gi", keepers={"profiles": "parca"}), print)
    told.forget()
    with pytest.raises(NeedError, match="keeps its traces in a volume of Jaeger, which") as refused:
        rollout.up(replace(THERE, keepers={"traces": "tempo"}), print)
    assert refused.value.why == "Tempo would keep them then."
    assert told.helm == []
    rollout.up(replace(THERE, keepers={"profiles": "none"}), print)  # these are in memory
    keepers.require_no_data(KEEPS, release(*ANOTHER.values()))
    keepers.require_no_data(KEEPS, None)


@pytest.mark.parametrize("status", ["pending-install", "failed", "uninstalling"])
def test_what_never_ran_or_goes_has_chosen_nothing(told: Told, status: str) -> None:
    parca = {"profiles": "parca"}
    rollout.up(replace(THERE, storage="10Gi", keepers={**parca, "traces": "tempo"}), print)
    (told.folder / "helm.harness.status").write_text(status)
    assert rollout.plan(replace(THERE, keepers={"traces": "jaeger"}))["keeps"] == KEEPS
    (told.folder / "helm.harness.status").unlink()
    with pytest.raises(NeedError, match="in a volume of Tempo"):
        rollout.plan(replace(THERE, keepers={"traces": "jaeger"}))
    assert rollout.plan(THERE)["keeps"] == {**WITH, "traces": "tempo"}


def test_status_says_who_keeps_what(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    rollout.up(replace(THERE, keepers={"profiles": "parca"}), print)
    arrived = {"proof": {"profiles": ["parca", 2.5]}, "keeps": WITH}
    there = {
        "target": "existing", "context": "shop", "namespace": "harness", "ready": True,
        "nodes": [], "pods": [], "troubles": [], "dashboards": "none", **arrived,
    }  # fmt: skip
    poc = replace(profiles.PROFILES["poc"], status=lambda _: there)
    monkeypatch.setitem(profiles.PROFILES, "poc", poc)
    words = ["status", "--target", "existing", "--context", "shop"]
    said = CliRunner().invoke(app, words).stdout
    assert "profiles by Parca." in said
    assert "One request's profiles: found in parca after 2.5 s" in said
    assert said.rstrip().endswith("a page: jaeger, prometheus, victorialogs, parca.")


def test_the_proof_is_told_who_keeps_what(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mapping[str, str]] = []

    def noted(*about: Any, **_: Any) -> dict[str, Any]:
        asked.append(about[4].keeps)
        return {"ready": True}

    rollout.up(replace(THERE, keepers={"profiles": "parca"}), print)
    monkeypatch.setattr(condition, "told", noted)
    condition.status(THERE)
    assert asked == [WITH]
