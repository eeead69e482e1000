"""Whether a roll-out has Grafana: asked for, there already or tried; and who says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.cli.dashboards import wanted
from harness.errors import CommandError, ComponentError, InputError, NeedError
from harness.stack.config.description import KEEPS
from harness.stack.grafana import shown
from harness.targets.kubernetes import (
    chosen,
    condition,
    dashboards,
    helm,
    meant,
    node_pod,
    pods,
    profiles,
    proof,
    rollout,
    sources,
    values,
    workloads,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.dashboards import Choice
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.proof import Proved
from harness.targets.kubernetes.rollout import RolledOut
from harness.targets.vm import rollout as machines
from tests.unit.dockered import DOCKER, NAMES, OWN, Machine, on_path

CLUSTER = Cluster("kind-shop", "harness")
STACK = values.stack("kind-shop", grafana=True)
COMPONENT = values.component(STACK, "grafana")
IMAGE = dashboards.image()
PASSWORD = "the secret of the test"


def test_what_is_asked_for_is_one_of_two_or_nothing() -> None:
    for asked in ("", "grafana", "none"):
        chosen.check(Options("kind", dashboards=asked))
    with pytest.raises(InputError, match="no dashboards 'kibana'"):
        chosen.check(Options("kind", dashboards="kibana"))
    with pytest.raises(InputError, match="--dashboards does not go with --profile production"):
        profiles.of(Options("kind", profile="production", dashboards="none"))


def test_require_asks_for_it_too_and_not_for_both() -> None:
    assert wanted("", ["grafana"]) == wanted("grafana", []) == "grafana"
    assert wanted("none", ["tempo"]) == "none"
    assert wanted("", []) == ""
    with pytest.raises(InputError, match="--require grafana does not go"):
        wanted("none", ["grafana"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--require", "tempo2"), "There is no component 'tempo2'"),
        (("--require", "grafana", "--dashboards", "none"), "--require grafana does not go"),
        (("--dashboards", "kibana"), "There are no dashboards 'kibana'"),
    ],
)
def test_the_command_refuses_before_anything(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["up", "--target", "kind", "--plan", *words])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def release(
    *components: str, status: str = "deployed", asked: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {"status": status, "components": list(components), "asked": list(asked)}


def test_what_is_asked_for_holds_whatever_is_there() -> None:
    for there in (None, release(), release("grafana")):
        taken = dashboards.settled("grafana", there, None)
        assert taken is not None
        assert (taken.taken, taken.asked, taken.kind) == (True, True, "grafana")
        assert dashboards.settled("none", there, [IMAGE]) == Choice(False, "It was asked for.")


def test_a_stack_that_is_there_stays_as_it_is() -> None:
    had = dashboards.settled("", release("grafana", "jaeger"), None)
    assert had is not None
    assert (had.taken, had.asked) == (True, False)
    once = release("grafana", asked=("grafana",))
    kept = dashboards.settled("", once, None)
    assert kept is not None
    assert kept.asked  # whoever asked for it once is told of what is amiss, until it is taken away
    assert dashboards.settled("none", once, None) == Choice(False, "It was asked for.")
    bare = dashboards.settled("", release("jaeger"), None)
    assert bare is not None
    assert bare.told.startswith("Dashboards: none. The stack that is there has none. --dashboards")
    assert dashboards.settled("", release("grafana", status="failed"), None) is None


def test_a_bundle_that_lacks_it_decides_and_must_have_what_is_asked_for() -> None:
    assert dashboards.settled("", None, None) is None
    assert dashboards.settled("", None, [IMAGE, OWN]) is None  # whether it starts is to be seen
    assert dashboards.settled("", None, [OWN]) == Choice(False, "The bundle lacks its image.")
    with pytest.raises(NeedError, match="The bundle has no image of Grafana"):
        dashboards.settled("grafana", None, [OWN])


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is applied and removed, in order."""
    seen: list[Any] = []
    monkeypatch.setattr(Cluster, "apply", lambda _, manifest: seen.append(manifest))
    monkeypatch.setattr(node_pod, "remove", lambda _, *what: seen.append(what[0]))
    return seen


def test_it_is_tried_in_a_pod_that_goes_again(
    applied: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_pod, "await_ready", lambda *_, **__: {})
    choice = dashboards.tried(CLUSTER, COMPONENT, "key")
    assert (choice.taken, choice.asked) == (True, False)
    assert IMAGE in choice.why
    before, pod, after = applied
    assert before == after == f"pod/{dashboards.TRIAL}"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "key"}]
    assert "app.kubernetes.io/part-of" not in pod["metadata"]["labels"]  # never taken for the stack
    (container,) = pod["spec"]["containers"]
    assert container["image"] == IMAGE
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    told = {each["name"]: each["value"] for each in container["env"]}
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in told
    json.dumps(pod)


def stuck(name: str, reason: str) -> dict[str, Any]:
    waiting = {"reason": reason, "message": f"no such host {'again ' * 200}"}
    one = {"name": "grafana", "restartCount": 0, "state": {"waiting": waiting}}
    metadata = {"name": name, "labels": {}}
    return {"metadata": metadata, "spec": {}, "status": {"containerStatuses": [one]}}


def test_an_image_that_cannot_be_pulled_is_left_out_and_says_why(
    applied: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboards, "_PATIENCE_SECONDS", -1.0)
    pod = stuck(dashboards.TRIAL, "ErrImagePull")
    monkeypatch.setattr(Cluster, "get", lambda _, what, *__: [pod] if what == "pods" else [])
    choice = dashboards.tried(CLUSTER, COMPONENT)
    assert not choice.taken
    assert choice.told.startswith(
        "Dashboards: none. It cannot be had: grafana-trial does not start"
    )
    assert "no such host" in choice.why
    assert len(choice.why) < 600, "nobody asked: the cluster's words are cut"
    assert choice.why.endswith(dashboards._NEXT)
    assert applied[-1] == f"pod/{dashboards.TRIAL}"


def test_what_the_api_does_not_take_fails_no_roll_out(
    applied: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise CommandError("`kubectl apply` failed.", "pods is forbidden", "Ask for it.")

    monkeypatch.setattr(Cluster, "apply", refuse)
    choice = dashboards.tried(CLUSTER, COMPONENT)
    assert not choice.taken
    assert "pods is forbidden" in choice.why


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return on_path(tmp_path, monkeypatch)


def unreachable(machine: Machine) -> None:
    """Docker cannot pull Grafana, and all else."""
    failing = (
        f'pull) test "$3" = {IMAGE} && {{ echo no route >&2; exit 1; }}; echo "$3" >>"$0.has";;'
    )
    machine.put("docker", DOCKER.replace('pull) echo "$3" >>"$0.has";;', failing))


def test_a_bundle_without_it_is_written_where_it_cannot_be_had_and_told(
    machine: Machine, tmp_path: Path
) -> None:
    unreachable(machine)
    told: list[str] = []
    made = sources.bundle(tmp_path / "b.tar", told.append)
    assert made.names == [name for name in NAMES if name != IMAGE]
    assert any("Grafana is left out" in line and "no route" in line for line in told)
    made.require()
    with pytest.raises(NeedError, match=IMAGE):
        sources.bundle(tmp_path / "c.tar", print, asked="grafana")
    assert not (tmp_path / "c.tar").exists()
    plan = rollout.plan(Options("existing", bundle=tmp_path / "b.tar", registry="r.example"))
    assert plan["dashboards"] == "Dashboards: none. The bundle lacks its image."


def test_none_is_pulled_packed_and_pushed_if_none_is_asked_for(
    machine: Machine, tmp_path: Path
) -> None:
    sources.bundle(tmp_path / "b.tar", print, asked="none")
    sources.push("r.example", None, print, "none")
    assert not [line for line in machine.told("docker") if "grafana" in line]


def test_a_plan_says_what_would_decide(machine: Machine) -> None:
    assert rollout.plan(Options("kind"))["dashboards"] == rollout.UNSETTLED
    assert IMAGE in rollout.plan(Options("kind"))["images"]
    none = rollout.plan(Options("kind", dashboards="none"))
    assert none["dashboards"] == "Dashboards: none. It was asked for."
    assert IMAGE not in none["images"]


BUNDLED = "--bundle", "b.tar"


def test_what_a_bundle_has_was_said_when_it_was_written() -> None:
    words = ["images", "push", "--registry", "r.example", *BUNDLED, "--dashboards", "none"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "--dashboards does not go with --bundle" in " ".join(done.stderr.split())


def test_status_asks_grafana_where_the_release_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def told(*asked: Any, **_: Any) -> dict[str, Any]:
        seen.append("grafana" in asked[4].hosts)
        return {"ready": True}

    monkeypatch.setattr(condition, "told", told)
    monkeypatch.setattr(chosen, "found", lambda _: CLUSTER)
    monkeypatch.setattr(workloads, "amiss", lambda _: [])
    monkeypatch.setattr(pods, "ours", lambda _: [])
    for there, kind in ((release("grafana"), "grafana"), (release(), "none"), (None, "none")):
        monkeypatch.setattr(helm, "state", lambda _, there=there: there)
        assert condition.status(Options("kind"))["dashboards"] == kind
    assert seen == [True, False, False]


AMISS = "Grafana does not show what it should. It is not healthy: 503."


@pytest.mark.parametrize("asked", [(), ("grafana",)])
def test_what_is_amiss_of_grafana_is_not_ready_only_if_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]
) -> None:
    """As `up`: it goes on and says it, or ends with it."""

    def prove(*_: Any, shows: bool) -> Proved:
        if shows:
            raise ComponentError(AMISS)
        return Proved(unshown=AMISS)

    pod = {
        "metadata": {"name": "grafana-1", "labels": {}},
        "spec": {"containers": []},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    monkeypatch.setattr(proof, "prove", prove)
    monkeypatch.setattr(chosen, "found", lambda _: CLUSTER)
    monkeypatch.setattr(workloads, "amiss", lambda _: [])
    monkeypatch.setattr(pods, "ours", lambda _: [pod])
    monkeypatch.setattr(Cluster, "get", lambda *_: [])
    monkeypatch.setattr(helm, "state", lambda _: release("grafana", asked=asked))
    found = condition.status(Options("kind"))
    assert found["ready"] == (not asked)
    assert found["unproved" if asked else "unshown"].startswith(AMISS)
    assert ("unproved" in found) == bool(asked)


def test_a_release_keeps_that_it_was_asked_for(machine: Machine) -> None:
    given = {
        choice.asked: meant.described(Options("kind"), "shop", OWN, {}, choice)[1]
        for choice in (Choice(True, "", asked=True), Choice(True, ""))
    }
    assert given[True]["asked"] == ["grafana"]
    assert "asked" not in given[False]
    assert helm.fingerprint(given[True]) != helm.fingerprint(given[False])  # `up` takes it in


def said(monkeypatch: pytest.MonkeyPatch, *words: str, **does: Any) -> str:
    """What a command says of a roll-out that does as it is told here."""
    profile = replace(profiles.PROFILES["poc"], **{k: lambda *_, v=v: v for k, v in does.items()})
    monkeypatch.setattr(machines, "of", lambda _: profile)
    done = CliRunner().invoke(app, [*words, "--target", "existing", "--context", "shop"])
    assert not isinstance(done.exception, AssertionError | TypeError | KeyError), done.exception
    return done.stdout


SHOWN = shown.Shown("13.2.0", ["prometheus", "jaeger"], ["harness-flows"], "It shows no logs.")


def test_up_says_what_it_took_why_and_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice(True, "It could be had.")
    up = RolledOut(CLUSTER, True, {"proof": 1.0}, Proved(shown=SHOWN), {}, choice)
    text = said(monkeypatch, "up", up=up)
    assert "Dashboards: grafana. It could be had." in text
    assert "Grafana 13.2.0 has 1 dashboards, answers from prometheus, jaeger. It shows no" in text
    told = json.loads(said(monkeypatch, "up", "--json", up=up))["dashboards"]
    assert (told["taken"], told["why"]) == ("grafana", "It could be had.")
    assert told["shown"]["dashboards"] == ["harness-flows"]
    amiss = replace(up, proved=Proved(unshown="Grafana does not show what it should."))
    unproved = "Grafana, which nobody asked for, was not proved: Grafana does not show"
    assert unproved in said(monkeypatch, "up", up=amiss)
    of_a_chart = replace(up, proved=Proved(), dashboards=None)
    assert "Dashboards" not in said(monkeypatch, "up", up=of_a_chart)
    assert "dashboards" not in json.loads(said(monkeypatch, "up", "--json", up=of_a_chart))


def test_status_names_its_page_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {
        "target": "existing", "context": "shop", "namespace": "harness", "ready": True,
        "nodes": [], "pods": [], "troubles": [], "dashboards": "grafana", "shown": vars(SHOWN),
        "keeps": KEEPS,
    }  # fmt: skip
    text = said(monkeypatch, "status", status=there)
    assert "Grafana 13.2.0 has" in text
    assert "victorialogs, grafana." in text
    amiss = {k: v for k, v in there.items() if k != "shown"} | {"unshown": AMISS}
    text = said(monkeypatch, "status", status=amiss)
    assert f"Grafana, which nobody asked for, was not proved: {AMISS}" in text
    assert "It is ready." in text
    bare = {k: v for k, v in there.items() if k != "shown"} | {"dashboards": "none"}
    assert "grafana" not in said(monkeypatch, "status", status=bare)


def test_the_plan_says_it_too(machine: Machine) -> None:
    words = ["up", "--target", "kind", "--plan", "--dashboards", "grafana"]
    more = ["--nodes", "5", "--retention", "48", "--keep"]
    text = " ".join(CliRunner().invoke(app, [*words, *more]).stdout.split())
    assert "--nodes 5 --retention 48 --dashboards grafana --keep" in text
    text = CliRunner().invoke(app, words).stdout
    assert "Dashboards: grafana. It was asked for." in text
    assert "Next: harness up --target kind --dashboards grafana" in text
