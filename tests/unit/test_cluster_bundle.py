"""A bundle of images: what is in it, what is refused of it, how it reaches kind's nodes."""

from __future__ import annotations

import dataclasses
import gzip
import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import CommandError, InputError, NeedError
from harness.targets.kubernetes import archive, helm, images, registry, rollout, sources
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind
from tests.unit.dockered import DOCKER, NAMES, NODE, OWN, PREFIX, Machine, bundle, on_path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return on_path(tmp_path, monkeypatch)


@pytest.fixture
def written(machine: Machine, tmp_path: Path) -> Path:
    return bundle(tmp_path)


def part(file: Path, name: str) -> bytes:
    with tarfile.open(file) as outer:
        found = outer.extractfile(name)
        assert found is not None
        return found.read()


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
    own = helm.fingerprint(archive.own_values(grafana=True))
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
    with pytest.raises(NeedError, match=f"lacks {NAMES[-1]}"):
        dataclasses.replace(whole, images=whole.images[:-1]).require()


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


def test_the_command_says_what_is_in_it(machine: Machine, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["bundle", str(tmp_path / "b.tar")]).stdout
    assert all(name in said for name in NAMES)
    assert "--image would put one in" in said
    done = CliRunner().invoke(app, ["bundle", str(tmp_path / "c.tar"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [each["name"] for each in told["images"]] == NAMES
    assert told["size_bytes"] == (tmp_path / "c.tar").stat().st_size
