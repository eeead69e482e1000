"""What images are called in a registry, how they get there, and where a plan says they are from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.errors import ComponentError, InputError, NeedError
from harness.targets.kubernetes import helm, proof, registry, rollout, sources, values
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.proof import Proved
from tests.unit.dockered import DOCKER, NAMES, NODE, OWN, PREFIX, STACK, Machine, bundle, on_path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return on_path(tmp_path, monkeypatch)


@pytest.fixture
def written(machine: Machine, tmp_path: Path) -> Path:
    return bundle(tmp_path)


@pytest.mark.parametrize(
    ("image", "there"),
    [
        ("docker.io/prom/prometheus:v3", f"{PREFIX}/prom/prometheus:v3"),
        ("localhost/harness-node:1", f"{PREFIX}/harness-node:1"),
        ("registry.example:99/a/b/c:1", f"{PREFIX}/a/b/c:1"),
        ("prom/prometheus:v3", f"{PREFIX}/prom/prometheus:v3"),
        ("busybox:1.2", f"{PREFIX}/busybox:1.2"),
    ],
)
def test_an_image_keeps_its_name_below_a_prefix(image: str, there: str) -> None:
    assert registry.named(image, PREFIX) == there
    assert registry.named(image, "") == image


def test_no_two_images_get_the_same_name() -> None:
    assert len({registry.named(name, PREFIX) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("prefix", ["https://registry.example", "registry.example/", "a b", "a/B"])
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(InputError, match="cannot be what names"):
        registry.check(prefix)


@pytest.mark.parametrize("prefix", [PREFIX, "registry.example", "localhost:5000", "team"])
def test_what_is_a_prefix_is_taken(prefix: str) -> None:
    registry.check(prefix)


def test_only_what_is_asked_for_changes_the_values() -> None:
    plain = values.values(STACK, OWN)
    assert values.values(STACK, OWN, "", "") == plain
    assert "pullSecret" not in plain
    other = values.values(STACK, OWN, PREFIX, "key")
    assert other["pullSecret"] == "key"
    assert values.images(other) == sorted(registry.named(name, PREFIX) for name in NAMES)
    assert helm.fingerprint(other) != helm.fingerprint(plain)


def test_push_names_tags_and_takes_the_names_away_again(machine: Machine) -> None:
    kept = registry.named(NAMES[0], PREFIX)
    machine.has(*NAMES, kept)
    pushed = sources.push(PREFIX, None, print)
    assert pushed == [registry.named(name, PREFIX) for name in NAMES]
    assert machine.told("docker", "push") == [f"push --quiet {name}" for name in pushed]
    left = (machine.folder / "docker.has").read_text().split()
    assert set(left) == {*NAMES, kept}


def test_what_cannot_be_pushed_says_how_to_log_in(machine: Machine) -> None:
    machine.put("docker", DOCKER.replace("version)", "push) echo denied >&2; exit 1;;\nversion)"))
    machine.has(*NAMES)
    with pytest.raises(NeedError, match="denied") as caught:
        sources.push(PREFIX, None, print)
    assert "docker login registry.example:5000" in caught.value.next_step
    assert (machine.folder / "docker.has").read_text().split() == NAMES


def test_push_of_a_bundle_needs_no_image_here(machine: Machine, written: Path) -> None:
    script = DOCKER.replace('load) cat >"$0.loaded"', 'load) cat >/dev/null; cp "$0.all" "$0.has"')
    machine.put("docker", script)
    shutil.copy(machine.folder / "docker.has", machine.folder / "docker.all")
    machine.has()
    (machine.folder / "docker.done").unlink()
    assert sources.push(PREFIX, written, print) == [registry.named(n, PREFIX) for n in NAMES]
    assert not machine.told("docker", "pull")
    assert machine.told("docker", "load") == ["load --quiet"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options("kind", registry=PREFIX), "--registry does not go with --target kind"),
        (Options("kind", pull_secret="key"), "--pull-secret does not go with --target kind"),
        (Options("existing", bundle=Path("b.tar")), "images push --registry PREFIX --bundle b.tar"),
        (Options("existing", registry="https://x"), "cannot be what names"),
    ],
)
def test_what_does_not_go_together_is_told(options: Options, said: str) -> None:
    with pytest.raises(InputError) as caught:
        rollout.up(options, print)
    assert said in str(caught.value)


def test_a_plan_says_where_each_image_is_from(machine: Machine, written: Path) -> None:
    machine.has(NAMES[0])
    here = rollout.plan(Options("kind"))["images"]
    assert here[NAMES[0]] == "from the local docker"
    assert here[NAMES[1]] == "pulled by the nodes"
    assert here[OWN] == "built here"
    bundled = rollout.plan(Options("kind", bundle=written))["images"]
    assert bundled == {
        **dict.fromkeys(NAMES, f"from {written}"),
        NODE: f"for kind's nodes, from {written}",
    }
    there = rollout.plan(Options("existing"))["images"]
    assert there[OWN] == "has to be on the nodes"
    options = Options("existing", registry=PREFIX, pull_secret="key", bundle=written)
    assert rollout.plan(options)["images"] == {
        registry.named(name, PREFIX): "pulled by the nodes with the Secret key" for name in NAMES
    }


KUBECTL = """
case "$*" in
*get-contexts*) echo shop;;
*"get pods"*) echo '{"items": []}';;
*"get secret"*) %s;;
*"get namespace"*) echo NotFound >&2; exit 1;;
*) echo refused >&2; exit 1;;
esac
"""


def release(given: dict[str, object]) -> str:
    config = {**given, "fingerprint": helm.fingerprint(given)}
    told = {"info": {"status": "deployed"}, "version": 1, "config": config}
    return f"cat <<'told'\n{json.dumps(told)}\ntold"


def test_up_again_with_the_same_registry_changes_nothing_and_proves(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = [Proved(heard={"worker": 1.0})]

    def prove(*_: object, **__: object) -> Proved:
        if not proofs:
            raise ComponentError("Nothing was found.", "", "Look.")
        return proofs.pop()

    monkeypatch.setattr(proof, "prove", prove)
    machine.put("kubectl", KUBECTL % "exit 1")
    machine.put("helm", release(values.values(STACK, OWN, PREFIX, "key")))
    same = Options("existing", registry=PREFIX, pull_secret="key")
    again = rollout.up(same, print)
    assert (again.changed, again.proved.heard) == (False, {"worker": 1.0})
    with pytest.raises(ComponentError, match="Nothing was found"):  # it is up, and does not work
        rollout.up(same, print)
    with pytest.raises(NeedError, match="refused"):  # by the first thing that a change asks
        rollout.up(dataclasses.replace(same, registry="registry.example/other"), print)


@pytest.mark.parametrize("kind", ["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"])
def test_a_secret_that_nodes_can_pull_with_is_taken(machine: Machine, kind: str) -> None:
    machine.put("kubectl", KUBECTL % f"printf {kind}")
    sources.require_pull_secret(Cluster("shop", "harness"), "key")


def test_a_secret_that_is_not_there_says_how_to_make_it(machine: Machine) -> None:
    machine.put("kubectl", KUBECTL % "echo NotFound >&2; exit 1")
    with pytest.raises(NeedError, match="no Secret key") as caught:
        sources.require_pull_secret(Cluster("shop", "harness"), "key")
    first, second, third = caught.value.next_step.removeprefix("Make it: ").split("; ")
    assert first == "kubectl --context=shop create namespace harness"
    assert second.endswith("label namespace harness app.kubernetes.io/managed-by=harness")
    assert "-n harness create secret docker-registry key" in third


def test_a_secret_of_another_kind_is_refused(machine: Machine) -> None:
    machine.put("kubectl", KUBECTL % "printf Opaque")
    with pytest.raises(NeedError, match="of the type Opaque"):
        sources.require_pull_secret(Cluster("shop", "harness"), "key")


CARRYING = """
case "$*" in
*jsonpath*) printf kubernetes.io/dockerconfigjson;;
*"--namespace=tools get secret key"*) echo '%s';;
*apply*) (cat "${6#--filename=}"; echo) >> %s;;
*) echo refused >&2; exit 1;;
esac
"""


def test_a_secret_is_copied_to_where_an_evaluation_pulls(machine: Machine, tmp_path: Path) -> None:
    secret = {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "key", "namespace": "tools", "uid": "1", "ownerReferences": [{}]},
        "data": {".dockerconfigjson": "e30="},
    }  # fmt: skip
    log = tmp_path / "applied"
    machine.put("kubectl", CARRYING % (json.dumps(secret), log))
    sources.carry_pull_secret(Cluster("shop", "harness-evaluate"), "tools/key")
    made, account = map(json.loads, log.read_text().splitlines())
    assert made["data"] == secret["data"]
    assert made["metadata"].keys() == {"name", "labels"}
    assert account["kind"] == "ServiceAccount"
    assert account["imagePullSecrets"] == [{"name": "key"}]


def test_a_secret_that_cannot_be_copied_is_named_with_its_namespace(machine: Machine) -> None:
    machine.put("kubectl", KUBECTL % "echo NotFound >&2; exit 1")
    with pytest.raises(NeedError, match="in the namespace tools") as caught:
        sources.carry_pull_secret(Cluster("shop", "harness-evaluate"), "tools/key")
    assert "-n tools create secret docker-registry key" in caught.value.next_step


@pytest.fixture
def harness(machine: Machine) -> Callable[..., Result]:
    def command(*words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, done.output
        return done

    return command


def test_push_says_what_comes_next(harness: Callable[..., Result]) -> None:
    said = harness("images", "push", "--registry", PREFIX).stdout
    assert f"harness up --target existing --registry {PREFIX}" in said


@pytest.mark.parametrize("option", ["--bundle", "--registry", "--pull-secret"])
def test_what_is_for_clusters_does_not_go_with_this_machine(
    harness: Callable[..., Result], option: str
) -> None:
    said = harness("up", option, "x", code=2).output
    assert f"{option} does not go with --target local" in said


def test_a_plan_ends_with_the_command_that_it_is_of(
    harness: Callable[..., Result], written: Path
) -> None:
    said = harness("up", "--target", "kind", "--bundle", str(written), "--plan").stdout
    assert f"{OWN}, from {written}" in said
    assert f"Next: harness up --target kind --bundle {written}\n" in said
