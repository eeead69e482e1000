"""A bundle of the production profile: where its charts come from, what is in it, what uses it."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import CommandError, InputError, NeedError
from harness.targets.kubernetes import (
    archive,
    charts,
    chosen,
    images,
    production,
    profiles,
    rendering,
    rollout,
    sources,
    standing,
)
from harness.targets.kubernetes.chart_bundle import Given
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from tests.unit import charted, dockered, helmed
from tests.unit.charted import NAMED
from tests.unit.dockered import NODE, OWN, PREFIX, Machine

TEMPO = charts.known()[1]
HELM = """
echo "$@" >>"$0.done"
case "$1" in
env) echo "$0.cache";;
pull)
    test -e "$0.offline" && { echo "no such host" >&2; exit 1; }
    for last; do :; done
    cp "$0.there/$2-$6.tgz" "$last";;
show) tar --extract --gzip --to-stdout --file "$3" --wildcards '*/Chart.yaml';;
template)
    test -e "$0.refuses" && { echo "nil pointer" >&2; exit 1; }
    if [ -d "$3" ]; then
        printf 'kind: DaemonSet\\nspec:\\n  image: localhost/harness-node:1\\n'
    else
        tar --extract --gzip --to-stdout --file "$3" --wildcards '*/templates/*'
    fi;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = dockered.on_path(tmp_path, monkeypatch)
    made.put("helm", HELM)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(charted.archives(tmp_path / "charts"))


@pytest.fixture
def written(machine: Machine, folder: str, tmp_path: Path) -> Path:
    """A bundle with values of a person's own for Tempo, and the image of kind's nodes."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("tempo: {}\n")
    file = tmp_path / "production.tar"
    sources.bundle(file, print, node_image=NODE, stays=Given(folder, (f"tempo={mine}",)))
    return file


def part(file: Path, name: str) -> bytes:
    with tarfile.open(file) as outer:
        found = outer.extractfile(name)
        assert found is not None
        return found.read()


def test_it_holds_the_charts_their_values_and_every_image_that_they_run(
    machine: Machine, written: Path, folder: str
) -> None:
    found = archive.read(written)
    assert found.profile == "production"
    assert found.names == sorted([*NAMED, OWN])
    assert found.images[0].digests == ["x@y"]
    found.require("production")
    for name in {each.archive for each in charts.known() if each.repository}:
        assert part(written, f"charts/{name}") == (Path(folder) / name).read_bytes()
    assert part(written, "production/tempo.yaml") == TEMPO.file.read_bytes()
    assert part(written, "values/tempo.0.yaml") == b"tempo: {}\n"
    assert found.values == ["tempo=values/tempo.0.yaml"]
    assert json.loads(part(written, "values.json")) == {"image": OWN}
    assert part(written, "chart/Chart.yaml")
    pulled = {line.split()[-1] for line in machine.told("docker", "pull")}
    assert pulled == {*NAMED, NODE}
    assert not machine.told("helm", "pull")
    (told,) = [line.split() for line in machine.told("helm", "template tempo")]
    given = [word for word in told if word.startswith("--values=")]
    assert given[0] == f"--values={TEMPO.file}"  # ours first: helm lets the last one win
    assert given[1].endswith("mine.yaml")


def test_charts_come_from_what_helm_has_pulled_and_else_from_their_projects(
    machine: Machine, tmp_path: Path
) -> None:
    cache = charted.archives(machine.folder / "helm.cache")
    there = charted.archives(machine.folder / "helm.there")
    (cache / TEMPO.archive).unlink()
    made = sources.bundle(tmp_path / "b.tar", print, stays=Given())
    (line,) = machine.told("helm", "pull")
    assert line.startswith(f"pull tempo --repo {TEMPO.repository} --version {TEMPO.version}")
    assert part(made.file, f"charts/{TEMPO.archive}") == (there / TEMPO.archive).read_bytes()


def test_a_chart_that_cannot_be_had_is_named_with_what_to_do(
    machine: Machine, tmp_path: Path
) -> None:
    cache = charted.archives(machine.folder / "helm.cache")
    (cache / TEMPO.archive).unlink()
    (machine.folder / "helm.offline").touch()
    with pytest.raises(NeedError, match=r"The chart tempo 2\.2\.4 cannot be had") as caught:
        sources.bundle(tmp_path / "b.tar", print, stays=Given())
    assert f"helm's cache ({cache})" in caught.value.what
    assert "no such host" in caught.value.why
    assert f"helm pull tempo --repo {TEMPO.repository}" in caught.value.next_step
    assert "--charts DIR" in caught.value.next_step
    assert not machine.told("docker", "save")
    assert not (tmp_path / "b.tar").exists()


def test_a_folder_is_all_or_nothing(machine: Machine, folder: str, tmp_path: Path) -> None:
    (Path(folder) / TEMPO.archive).unlink()
    with pytest.raises(NeedError, match=r"lacks tempo-2\.2\.4\.tgz\."):
        sources.bundle(tmp_path / "b.tar", print, stays=Given(folder))


def test_an_archive_of_another_version_or_of_nothing_is_refused(
    machine: Machine, folder: str, tmp_path: Path
) -> None:
    charted.archive(Path(folder), TEMPO, "", version="1.0.0")
    with pytest.raises(NeedError, match=r"is not the chart tempo 2\.2\.4") as caught:
        sources.bundle(tmp_path / "b.tar", print, stays=Given(folder))
    assert caught.value.why == "It is tempo 1.0.0."
    (Path(folder) / TEMPO.archive).write_text("half")
    with pytest.raises(NeedError, match=r"is not the chart tempo 2\.2\.4"):
        sources.bundle(tmp_path / "b.tar", print, stays=Given(folder))


def test_an_image_that_cannot_be_pulled_is_named(
    machine: Machine, folder: str, tmp_path: Path
) -> None:
    failing = "pull) echo no route >&2; exit 1;;\n"
    machine.put("docker", dockered.DOCKER.replace("pull) ", f"{failing}unused) "))
    with pytest.raises(NeedError, match=f"The image {NAMED[0]} cannot be pulled") as caught:
        sources.bundle(tmp_path / "b.tar", print, stays=Given(folder))
    assert "no route" in caught.value.why


def test_an_image_by_its_digest_is_refused_for_docker_loses_it(
    machine: Machine, tmp_path: Path
) -> None:
    fixed = {"tempo": f"kind: Pod\nspec:\n  image: a.example/tempo@sha256:{'0' * 64}\n"}
    folder = charted.archives(tmp_path / "charts", fixed)
    with pytest.raises(InputError, match="by its digest") as caught:
        sources.bundle(tmp_path / "b.tar", print, stays=Given(str(folder)))
    assert "--values tempo=FILE" in caught.value.next_step


def test_what_helm_makes_nothing_of_is_told_with_its_words(
    machine: Machine, folder: str, tmp_path: Path
) -> None:
    (machine.folder / "helm.refuses").touch()
    with pytest.raises(CommandError, match="helm makes nothing of the chart") as caught:
        sources.bundle(tmp_path / "b.tar", print, stays=Given(folder))
    assert "nil pointer" in caught.value.why


def test_images_are_found_wherever_pods_are_named() -> None:
    rendered = """kind: Job
  - image: 'a/b:1' # why
    image:
    # image: c/d:1
---
kind: "Secret"
image: c/d:2
---
kind: List
  - {name: one, image: "e.example:5000/f:1"}
  json: [{"image":"g/h:1","imagePullPolicy":"Always"}]
  imagePullPolicy: Always
"""
    assert rendering.named(rendered) == ["a/b:1", "e.example:5000/f:1", "g/h:1"]


def test_of_either_profile_it_is_of_no_use_to_the_other(written: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was written for the profile production, not for poc"):
        rollout.up(Options("kind", bundle=written), print)
    trial = dockered.bundle(tmp_path)
    with pytest.raises(InputError, match="was written for the profile poc, not for production"):
        production.up(Options("kind", profile="production", bundle=trial), print)


def test_one_of_other_charts_or_values_is_refused(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = archive.read(written)
    newer = [replace(each, version="99.0.0") for each in charts.known()]
    monkeypatch.setattr(charts, "known", lambda: newer)
    with pytest.raises(InputError, match=r"was written by harness"):
        found.require("production")


def test_a_chart_that_was_changed_in_it_is_not_taken(written: Path, tmp_path: Path) -> None:
    with tarfile.open(written) as outer:
        start = outer.getmember(f"charts/{TEMPO.archive}").offset_data
    content = bytearray(written.read_bytes())
    content[start + 20] ^= 1
    written.write_bytes(content)
    with pytest.raises(InputError, match="no whole bundle"):
        archive.read(written).unpack(tmp_path)


BUNDLED = Options("existing", context="shop", profile="production")


@pytest.fixture
def told(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> helmed.Told:
    """The cluster of other tests, when there is a bundle."""
    made = helmed.on_path(tmp_path, monkeypatch)
    monkeypatch.setattr(images, "name", lambda: OWN)
    return made


def test_up_takes_charts_and_values_from_it_and_from_nowhere_else(
    told: helmed.Told, written: Path
) -> None:
    given = replace(BUNDLED, bundle=written)
    assert production.up(given, lambda _: None).changed
    for chart, line in zip(charts.known(), told.helm, strict=True):
        assert not [word for word in line if word.startswith("--repo")]
        if chart.repository:
            assert Path(line[3]).name == chart.archive
            assert not Path(line[3]).exists()  # it was there while it was needed
    values = [word for word in told.helm[1] if word.startswith("--values=")]
    assert [Path(word).name for word in values] == ["tempo.yaml", "tempo.0.yaml"]
    told.forget()
    assert not production.up(given, lambda _: None).changed


@pytest.mark.parametrize("name", ["charts", "values"])
def test_what_is_in_it_is_not_said_again(
    told: helmed.Told, written: Path, folder: str, tmp_path: Path, name: str
) -> None:
    said = {"charts": folder, "values": (f"tempo={tmp_path / 'mine.yaml'}",)}[name]
    given = replace(BUNDLED, bundle=written, **{name: said})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"--{name} does not go with --bundle"):
        production.up(given, print)
    assert not told.helm


def test_kinds_nodes_are_given_its_images(
    told: helmed.Told, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sources, "load", lambda _, bundle, *__: seen.append(bundle))
    given = archive.read(written)
    options = replace(BUNDLED, target="kind", context="", bundle=written)
    cluster = Cluster("shop", "harness")
    production.install(options, cluster, OWN, given, {}, lambda _: None)
    assert seen == [given]


def test_on_machines_it_is_kept_for_its_charts(tmp_path: Path, written: Path) -> None:
    (chosen.home("shop", "vm")).mkdir(parents=True)
    (chosen.home("shop", "vm") / "kubeconfig").touch()
    stays = Options("vm", name="shop", profile="production", bundle=written)
    assert chosen.on_machines(stays).bundle == written
    assert chosen.on_machines(replace(stays, profile="poc")).bundle is None


def test_a_plan_says_what_comes_from_it(told: helmed.Told, written: Path) -> None:
    argv = ["up", "--target", "existing", "--context", "shop", "--profile", "production"]
    done = CliRunner().invoke(app, [*argv, "--bundle", str(written), "--plan"])
    assert done.exit_code == 0, done.output
    assert done.stdout.count(f"from {written}") == len(charts.known()) - 1
    assert f"{NAMED[0]}, pulled by the nodes" in done.stdout
    assert f"{OWN}, has to be on the nodes" in done.stdout
    assert f"--profile production --bundle {written}" in done.stdout
    own = production.plan(replace(BUNDLED, target="kind", context="", bundle=written))
    assert own["images"][NAMED[0]] == f"from {written}"
    assert own["images"][NODE].startswith("for kind's nodes")


def test_a_plan_goes_by_the_values_in_it(
    told: helmed.Told, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = replace(BUNDLED, bundle=written)
    assert production.up(given, print).changed
    monkeypatch.setattr(standing, "found", lambda *_: (Cluster("shop", "harness"), []))
    assert production.plan(given)["standing"] == "same"
    assert production.plan(BUNDLED)["standing"] == "other"  # Tempo has values of the bundle
    with pytest.raises(InputError, match="--values does not go with --bundle"):
        production.plan(replace(given, values=("tempo=mine.yaml",)))


def test_the_commands_say_what_follows(machine: Machine, folder: str, tmp_path: Path) -> None:
    file = str(tmp_path / "b.tar")
    argv = ["bundle", file, "--profile", "production", "--charts", folder]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    assert "kube-prometheus-stack" in done.stdout
    assert f"harness up --target kind --profile production --bundle {file}" in done.stdout
    pushed = CliRunner().invoke(app, ["images", "push", "--registry", PREFIX, "--bundle", file])
    assert f"{PREFIX}/grafana/tempo:2.9" in pushed.stdout
    assert f"take {PREFIX} for a mirror" in pushed.stdout
    assert f"--profile production --bundle {file}" in pushed.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--charts", "x"), "--charts does not go with --profile poc"),
        (("--profile", "production", "--dashboards", "none"), "--dashboards does not go with"),
        (("--profile", "production", "--values", "mimir=x"), "There is no release 'mimir'"),
    ],
)
def test_the_command_refuses_before_anything(
    machine: Machine, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = CliRunner().invoke(app, ["bundle", str(tmp_path / "b.tar"), *words])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert not machine.told("docker", "pull")


def test_a_bundle_goes_with_either_profile() -> None:
    for profile in profiles.PROFILES:
        profiles.of(Options("kind", profile=profile, bundle=Path("b.tar")))
