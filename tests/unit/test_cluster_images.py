"""Where images come from: bundles, registries; docker, kind and kubectl are the test's own."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.errors import CommandError, InputError, NeedError
from harness.targets.kubernetes import archive, helm, images, registry, rollout, sources, values
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind
from harness.targets.kubernetes.kubectl import Cluster

OWN = "localhost/harness-node:1"
NODE = "kindest/node:v1.34.0"
PREFIX = "registry.example:5000/team"
STACK = values.stack("shop")
NAMES = values.images(values.values(STACK, OWN))

DOCKER = """
has() { grep -qxF "$1" "$0.has" 2>/dev/null; }
echo "$@" >>"$0.done"
case "$1" in
image)
    shift 2
    if [ "$1" = --format ]; then
        has "$3" && echo "sha256:$3" && exit
        echo "No such image: $3" >&2
        exit 1
    fi
    between='['
    for each; do
        has "$each" || exit 1
        printf '%s{"Id": "sha256:%s", "RepoDigests": ["x@y"], "Size": 3}' "$between" "$each"
        between=', '
    done
    echo ']';;
pull) echo "$3" >>"$0.has";;
tag) has "$2" || exit 1; echo "$3" >>"$0.has";;
save) shift; echo "saved $*"; head -c 300000 /dev/zero;;
load) cat >"$0.loaded";;
rmi) grep -vxF "$2" "$0.has" >"$0.rest"; mv "$0.rest" "$0.has";;
exec)
    test "$2" = full || test -e "${0%docker}kind.$2" && cat "$0.has"
    exit 0;;
version) echo 28;;
esac
"""
KIND = """
echo "$@" >>"$0.done"
case "$1 $2" in
"get nodes") echo full; echo bare;;
"load image-archive") cat "$7" >"$0.$6";;
esac
"""


@dataclasses.dataclass
class Machine:
    """What is on PATH, what the docker there has, what it was told."""

    folder: Path

    def put(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def has(self, *names: str) -> None:
        (self.folder / "docker.has").write_text("".join(f"{each}\n" for each in names))

    def told(self, name: str, word: str = "") -> list[str]:
        file = self.folder / f"{name}.done"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(word)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/path:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(images, "name", lambda: OWN)
    made = Machine(tmp_path / "path")
    made.put("docker", DOCKER)
    made.put("kind", KIND)
    for name in ("helm", "kubectl"):
        made.put(name, 'echo "$@" >>"$0.done"; exit 1')
    made.has(OWN)
    return made


@pytest.fixture
def written(machine: Machine, tmp_path: Path) -> Path:
    file = tmp_path / "harness.tar"
    sources.bundle(file, print, node_image=NODE)
    return file


def part(file: Path, name: str) -> bytes:
    with tarfile.open(file) as outer:
        found = outer.extractfile(name)
        assert found is not None
        return found.read()


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


def test_a_bundle_holds_every_image_and_says_which(machine: Machine, written: Path) -> None:
    found = archive.read(written)
    assert found.names == NAMES
    assert found.images[0] == archive.Image(NAMES[0], f"sha256:{NAMES[0]}", ["x@y"], 3)
    assert found.node is not None
    assert found.node.name == NODE
    found.require()
    saved = gzip.decompress(part(written, archive.STACK))
    assert saved.startswith(f"saved {' '.join(NAMES)}\n".encode())
    assert len(saved) > 300000
    assert gzip.decompress(part(written, archive.NODE)).startswith(f"saved {NODE}\n".encode())
    assert json.loads(part(written, "values.json"))["image"] == OWN
    for path in helm.CHART.rglob("*.yaml"):
        assert part(written, f"chart/{path.relative_to(helm.CHART)}") == path.read_bytes()


def test_only_what_docker_lacks_is_pulled(machine: Machine, tmp_path: Path) -> None:
    machine.has(*NAMES[1:])
    sources.bundle(tmp_path / "b.tar", print)
    assert machine.told("docker", "pull") == [f"pull --quiet {NAMES[0]}"]


def test_it_is_pulled_from_a_registry_and_saved_by_its_own_name(
    machine: Machine, tmp_path: Path
) -> None:
    made = sources.bundle(tmp_path / "b.tar", print, prefix=PREFIX, node_image=f"{NODE}@sha256:1")
    pulled = {line.split()[-1] for line in machine.told("docker", "pull")}
    wanted = {registry.named(name, PREFIX) for name in NAMES if name != OWN}
    assert pulled == {*wanted, f"{PREFIX}/{NODE}@sha256:1"}
    assert made.names == NAMES
    assert f"save {NODE}" in machine.told("docker", "save")


def test_a_file_that_is_there_stays_as_it_is(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "harness.tar"
    file.write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        sources.bundle(file, print)
    assert file.read_text() == "mine"


def test_what_cannot_be_finished_leaves_no_file(machine: Machine, tmp_path: Path) -> None:
    failing = "save) echo saved; echo no room >&2; exit 1;;"
    machine.put("docker", DOCKER.replace("save) shift;", f"{failing}\nunused)"))
    machine.has(*NAMES)
    (tmp_path / "out").mkdir()
    with pytest.raises(CommandError, match="no room"):
        sources.bundle(tmp_path / "out" / "b.tar", print)
    assert not list((tmp_path / "out").iterdir())


def test_half_a_file_is_told_from_a_whole_one(written: Path) -> None:
    half = written.with_name("half.tar")
    half.write_bytes(written.read_bytes()[: written.stat().st_size // 2])
    with pytest.raises(InputError, match="no whole bundle"):
        archive.read(half)


def test_a_tar_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as made:
        made.add(__file__, "a.py")
    with pytest.raises(InputError, match="no whole bundle"):
        archive.read(other)
    with pytest.raises(InputError, match="There is no"):
        archive.read(tmp_path / "absent.tar")


def test_a_damaged_image_is_not_taken_for_a_whole_one(machine: Machine, written: Path) -> None:
    with tarfile.open(written) as outer:
        member = outer.getmember(archive.STACK)
        last = member.offset_data + member.size - 8  # gzip's checksum
    content = bytearray(written.read_bytes())
    content[last] ^= 1
    written.write_bytes(content)
    machine.has()
    with pytest.raises(InputError, match="no whole bundle"):
        archive.read(written).load(print)


def test_a_bundle_of_other_code_is_refused_by_both_names(
    machine: Machine, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = archive.read(written).fingerprint
    monkeypatch.setattr(images, "name", lambda: "localhost/harness-node:2")
    with pytest.raises(InputError) as caught:
        rollout.up(Options("kind", bundle=written), print)
    own = helm.fingerprint(archive.own_values())
    assert before != own
    assert before in caught.value.what
    assert own in caught.value.what
    assert not machine.told("kind")


def test_a_bundle_of_another_version_is_refused(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "__version__", "9.9")
    with pytest.raises(InputError, match=r"this is harness 9\.9"):
        archive.read(written).require()


def test_an_image_that_it_lacks_is_an_error(written: Path) -> None:
    whole = archive.read(written)
    with pytest.raises(NeedError, match=f"lacks {NAMES[0]}"):
        dataclasses.replace(whole, images=whole.images[1:]).require()


def test_a_new_cluster_needs_its_nodes_image_in_it(machine: Machine, tmp_path: Path) -> None:
    sources.bundle(tmp_path / "b.tar", print)
    with pytest.raises(NeedError, match="no image for the nodes"):
        rollout.plan(Options("kind", bundle=tmp_path / "b.tar"))
    with pytest.raises(NeedError, match="no image for the nodes"):
        rollout.up(Options("kind", bundle=tmp_path / "b.tar"), print)
    assert not machine.told("kind", "create")
    assert not machine.told("docker", "load")


def test_another_nodes_image_than_its_own_is_refused(written: Path) -> None:
    assert archive.read(written).node_image(f"{NODE}@sha256:1") == NODE
    with pytest.raises(InputError, match="Leave --image out"):
        archive.read(written).node_image("kindest/node:v1.30.0")


def test_docker_gets_the_nodes_image_only_where_it_lacks_it(
    machine: Machine, written: Path
) -> None:
    given = archive.read(written)
    given.load_node_image(print)
    assert not machine.told("docker", "load")
    machine.has()
    given.load_node_image(print)
    assert (machine.folder / "docker.loaded").read_bytes().startswith(f"saved {NODE}\n".encode())


def test_only_nodes_that_lack_an_image_are_given_them(
    machine: Machine, written: Path, tmp_path: Path
) -> None:
    archive.read(written).load_into(Kind("shop", tmp_path / "home"), print)
    assert machine.told("kind", "load") == [
        "load image-archive --name shop --nodes bare /dev/stdin"
    ]
    assert (machine.folder / "kind.bare").read_bytes() == gzip.decompress(
        part(written, archive.STACK)
    )


def test_a_node_that_says_that_it_took_them_and_did_not_is_an_error(
    machine: Machine, written: Path, tmp_path: Path
) -> None:
    machine.put("kind", 'test "$1" = get && echo bare; exit 0')
    with pytest.raises(CommandError, match="bare did not take all images"):
        archive.read(written).load_into(Kind("shop", tmp_path / "home"), print)


def test_a_node_that_takes_no_image_is_an_error_with_its_words(
    machine: Machine, written: Path, tmp_path: Path
) -> None:
    machine.put("kind", 'test "$1" = get && echo bare && exit; echo no space left >&2; exit 1')
    with pytest.raises(CommandError, match="no space left"):
        archive.read(written).load_into(Kind("shop", tmp_path / "home"), print)


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
    config = {"fingerprint": helm.fingerprint(given)}
    told = {"info": {"status": "deployed"}, "version": 1, "config": config}
    return f"echo '{json.dumps(told)}'"


def test_up_again_with_the_same_registry_changes_nothing(machine: Machine) -> None:
    machine.put("kubectl", KUBECTL % "exit 1")
    machine.put("helm", release(values.values(STACK, OWN, PREFIX, "key")))
    same = Options("existing", registry=PREFIX, pull_secret="key")
    assert not rollout.up(same, print).changed
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


@pytest.fixture
def harness(machine: Machine) -> Callable[..., Result]:
    def command(*words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, done.output
        return done

    return command


def test_bundle_says_what_is_in_it(harness: Callable[..., Result], tmp_path: Path) -> None:
    said = harness("bundle", str(tmp_path / "b.tar")).stdout
    assert all(name in said for name in NAMES)
    assert "--image would put one in" in said
    told = json.loads(harness("bundle", str(tmp_path / "c.tar"), "--json").stdout)
    assert [each["name"] for each in told["images"]] == NAMES
    assert told["size_bytes"] == (tmp_path / "c.tar").stat().st_size


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
