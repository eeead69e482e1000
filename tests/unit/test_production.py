"""The production profile, with a helm and a kubectl of the test's own that note what they hear."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import ComponentError, HarnessError, InputError, NeedError
from harness.targets.kubernetes import (
    charts,
    namespaces,
    needs,
    node_check,
    production,
    profiles,
    proof,
    removal,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.rollout import RolledOut
from tests.unit.helmed import Told, on_path, statefulset

RELEASES = [each.release for each in charts.known()]
PRODUCTION = Options("existing", context="shop", profile="production")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    return on_path(tmp_path, monkeypatch)


def pod(waiting: dict[str, str] | None = None, phase: str = "Running") -> dict[str, Any]:
    state = {"waiting": waiting} if waiting else {"running": {}}
    ready = "False" if waiting else "True"
    return {
        "metadata": {"name": "tempo-0", "labels": {"app.kubernetes.io/name": "tempo"}},
        "spec": {"nodeName": "worker", "containers": [{"image": "tempo"}]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"name": "tempo", "state": state, "restartCount": 0}],
        },
    }


def up(options: Options = PRODUCTION) -> RolledOut:
    return production.up(options, lambda _: None)


def upgraded(lines: Sequence[Sequence[str]]) -> list[str]:
    return [line[2] for line in lines if line[0] == "upgrade"]


def test_charts_are_installed_in_order_from_their_projects_at_their_versions(told: Told) -> None:
    done = up()
    assert done.changed
    assert upgraded(told.helm) == RELEASES
    for chart, line in zip(charts.known(), told.helm, strict=True):
        assert line[:2] == ["upgrade", "--install"]
        assert {"--wait", f"--values={chart.file}"} <= set(line)
        assert any(word.startswith("--timeout=") for word in line)
        if chart.repository:
            assert line[3] == chart.chart
            assert {f"--repo={chart.repository}", f"--version={chart.version}"} <= set(line)
        else:
            assert Path(line[3]).is_dir()


def test_the_password_is_made_once_and_is_in_no_argument(told: Told) -> None:
    up()
    namespace, secret = told.applied
    labels = namespace["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "harness"
    assert labels[namespaces.PURPOSE] == namespaces.PRODUCTION  # not that of a proof of concept
    password = secret["stringData"]["admin-password"]
    assert secret["metadata"]["name"] == production.PASSWORD
    assert len(password) >= 32
    assert password not in json.dumps([told.helm, told.kubectl])
    told.forget()
    (told.folder / "helm.tempo.note").unlink()
    up()
    assert [each["kind"] for each in told.applied] == ["Namespace"]


def test_a_second_time_nothing_is_changed(told: Told) -> None:
    up()
    told.forget()
    done = up()
    assert not done.changed
    assert not told.helm
    assert not told.kubectl


def test_values_of_ones_own_change_their_release_only(told: Told, tmp_path: Path) -> None:
    up()
    told.forget()
    mine = tmp_path / "mine.yaml"
    mine.write_text("persistence: {size: 200Gi}\n")
    options = Options("existing", context="shop", profile="production", values=(f"tempo={mine}",))
    assert up(options).changed
    (line,) = told.helm
    assert line[2] == "tempo"
    ours = line.index(f"--values={charts.VALUES / 'tempo.yaml'}")
    assert line[ours + 1] == f"--values={mine}"  # after ours: helm lets the last one win


def test_a_failed_chart_names_itself_its_pod_and_the_events_and_is_removed(told: Told) -> None:
    told.breaks("tempo", pod({"reason": "ImagePullBackOff", "message": "Back-off"}))
    told.answers("events", {"message": "pull access denied"})
    with pytest.raises(ComponentError) as caught:
        up()
    assert "The chart tempo 2.2.4 (release tempo) could not be installed" in caught.value.what
    assert "pod tempo-0 (container tempo) is in ImagePullBackOff" in caught.value.what
    assert "pull access denied" in caught.value.why
    assert "removed again" in caught.value.why
    assert upgraded(told.helm) == ["monitoring", "tempo"]
    assert told.helm[-1][:2] == ["uninstall", "tempo"]


def test_a_failed_upgrade_is_rolled_back_to_what_ran(told: Told, tmp_path: Path) -> None:
    up()
    told.forget()
    told.breaks("loki", pod({"reason": "ImagePullBackOff", "message": "Back-off"}))
    mine = tmp_path / "mine.yaml"
    mine.write_text("singleBinary: {replicas: 3}\n")
    options = Options("existing", context="shop", profile="production", values=(f"loki={mine}",))
    with pytest.raises(ComponentError, match="The revision before it runs again"):
        up(options)
    assert told.helm[-1][:3] == ["rollback", "loki", "1"]
    assert ["delete", "pod", "tempo-0"] in [line[2:5] for line in told.kubectl]
    assert not [line for line in told.helm if line[0] == "uninstall"]


@pytest.mark.parametrize("broken", ["", RELEASES[1]])
def test_what_stays_after_a_failure_is_told_and_what_down_does_with_it(
    told: Told, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Also where one of the charts could not be installed: those before it stay."""

    def prove(*_: Any) -> Any:
        raise ComponentError("No span came back.")

    said: list[str] = []
    monkeypatch.setattr(proof, "prove", prove)
    if broken:
        told.breaks(broken, pod({"reason": "ImagePullBackOff", "message": "Back-off"}))
    with pytest.raises(ComponentError):
        production.up(PRODUCTION, said.append)
    assert said[-1].startswith("what was installed in harness stays, to look into it: ")
    assert "uninstalls it; volume claims and Grafana's password it keeps but for --vol" in said[-1]
    if not broken:  # it was there before: this call has installed nothing
        with pytest.raises(ComponentError):
            production.up(PRODUCTION, said.append)
        assert "stays" not in said[-1]


def test_without_a_default_storage_class_nothing_is_made(told: Told) -> None:
    told.answers("storageclasses", {"metadata": {"name": "slow"}})
    with pytest.raises(NeedError, match=r"default StorageClass \(there are slow\)") as caught:
        up()
    assert "kubectl annotate storageclass" in caught.value.next_step
    assert not told.helm
    assert not told.kubectl


def test_nodes_are_tried_with_the_agents_image_and_collectors_before_anything_is_installed(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []

    def note(*asked: Any) -> None:
        assert not told.helm
        assert [each["kind"] for each in told.applied] == ["Namespace"]
        tried.append(asked[1:3])

    monkeypatch.setattr(node_check, "require_admitted", note)
    monkeypatch.setattr(node_check, "require", note)
    mine = tmp_path / "mine.yaml"
    mine.write_text("agents: {collectors: {flows: null}}\n")
    up(replace(PRODUCTION, values=(f"harness-agents={mine}",)))
    assert tried == [("localhost/node:1",), ("localhost/node:1", ["flows", "guard", "http"])]
    (rendered,) = (told.folder / "helm.rendered").read_text().splitlines()
    assert rendered.endswith(f"--values={charts.known()[-1].file} --values={mine}")


@pytest.mark.parametrize("name", ["require", "require_admitted"])
def test_what_nodes_or_a_policy_refuse_leaves_nothing_behind(
    told: Told, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NeedError("It cannot be.", "No BTF.", "Take others.")

    monkeypatch.setattr(node_check, name, refuse)
    with pytest.raises(NeedError, match="It cannot be"):
        up()
    assert not told.helm
    assert [each["kind"] for each in told.applied] == ["Namespace"]
    gone = ["delete", "namespace", "harness"]
    assert [line[2:5] for line in told.kubectl if line[2] == "delete"] == [gone]
    told.forget()
    with pytest.raises(NeedError, match="It cannot be"):
        up()  # to the stand-in it is still there
    assert not [line for line in told.kubectl if line[2] == "delete"]


def test_a_second_operator_is_refused(told: Told) -> None:
    told.answers("deployments", {"metadata": {"name": "operator", "namespace": "monitoring"}})
    with pytest.raises(NeedError, match="one is in monitoring"):
        up()
    assert not told.helm
    told.answers("deployments", {"metadata": {"name": "operator", "namespace": "harness"}})
    assert up().changed


def test_a_namespace_of_a_proof_of_concept_is_left_alone(told: Told) -> None:
    labels = {"app.kubernetes.io/managed-by": "harness"}
    told.answers("namespace", {"metadata": {"name": "harness", "labels": labels}})
    with pytest.raises(NeedError, match="did not make it for this"):
        up()
    assert not told.helm
    assert removal.down(PRODUCTION, print) == []


def test_what_an_operator_makes_is_waited_for(told: Told) -> None:
    chart, cluster = charts.known()[0], Cluster("shop", "harness")
    assert production._has_all(cluster, chart)
    told.answers("statefulsets", *(statefulset(name, ready=1) for name in chart.statefulsets))
    assert not production._has_all(cluster, chart)
    told.answers("statefulsets", statefulset(chart.statefulsets[0]))
    assert not production._has_all(cluster, chart)


def test_a_pod_that_has_done_its_work_is_not_waited_for(told: Told) -> None:
    told.answers("pods", pod(), pod({"reason": "Completed"}, phase="Succeeded"))
    assert len(production.running(Cluster("shop", "harness"))) == 1


def archives(folder: Path) -> str:
    folder.mkdir()
    for chart in charts.known():
        if chart.repository:
            (folder / chart.archive).touch()
    return str(folder)


def test_archives_stand_in_for_the_network(told: Told, tmp_path: Path) -> None:
    folder = archives(tmp_path / "charts")
    up(Options("existing", context="shop", profile="production", charts=folder))
    assert not [word for line in told.helm for word in line if word.startswith("--repo")]
    assert told.helm[1][3] == f"{folder}/tempo-2.2.4.tgz"


def test_a_missing_archive_is_told_before_anything(told: Told, tmp_path: Path) -> None:
    folder = archives(tmp_path / "charts")
    (Path(folder) / "loki-18.11.0.tgz").unlink()
    with pytest.raises(NeedError, match=r"lacks loki-18\.11\.0\.tgz\."):
        up(Options("existing", context="shop", profile="production", charts=folder))
    assert not told.helm


def test_a_plan_tells_charts_storage_and_checks_and_changes_nothing(told: Told) -> None:
    told.answers("storageclasses")
    argv = ["up", "--target", "existing", "--context", "shop", "--profile", "production", "--plan"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    for chart in charts.known():
        assert f"{chart.release}: {chart.chart} {chart.version}" in done.stdout
    assert "Prometheus: 2 x 50 GiB" in done.stdout
    assert f"Volumes of {sum(each.gib for each in charts.known())} GiB" in done.stdout
    assert "there is a default StorageClass: no." in done.stdout
    assert not told.helm
    assert not told.kubectl


def test_the_status_tells_the_releases_and_proves_again(told: Told) -> None:
    told.answers("pods", pod())
    up()
    found = production.status(PRODUCTION)
    assert found["ready"]
    assert found["proof"] == {}
    assert list(found["releases"]) == RELEASES
    (told.folder / "helm.loki.note").unlink()
    found = production.status(PRODUCTION)
    assert not found["ready"]
    assert "proof" not in found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options("existing", profile="large"), "There are: poc, production"),
        (Options("existing", charts="x"), "--charts does not go with --profile poc"),
        (Options("existing", crds=True), "--crds does not go with --profile poc"),
        (Options("existing", profile="production", retention_hours=48), "--retention does not go"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Options, said: str) -> None:
    with pytest.raises(InputError, match=said):
        profiles.of(options)


@pytest.mark.parametrize("word", ["mimir=x.yaml", "tempo=/does/not/exist", "tempo"])
def test_values_of_no_release_or_file_are_refused(word: str) -> None:
    with pytest.raises(InputError, match=r"There is no (release|file)"):
        charts.given([word])


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_a_profile_does_not_go_with_one_machine(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--profile", "production"])
    assert done.exit_code == 2
    assert "--profile does not go with --target local" in done.output


def test_a_chart_of_ours_is_another_one_when_its_files_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = charts.known()[-1]
    (tmp_path / ours.chart).mkdir(parents=True)
    template = tmp_path / ours.chart / "agents.yaml"
    monkeypatch.setattr(charts, "ROOT", tmp_path)
    template.write_text("a")
    before = charts.fingerprint(ours, [], {"image": "node:1"})
    assert charts.fingerprint(ours, [], {"image": "node:1"}) == before
    assert charts.fingerprint(ours, [], {"image": "node:2"}) != before
    template.write_text("b")
    assert charts.fingerprint(ours, [], {"image": "node:1"}) != before


def test_an_error_of_the_cluster_is_a_check_of_the_plan_that_is_not_met(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Callable[..., object]:
        raise HarnessError("It does not answer.", next_step="See kubectl.")

    monkeypatch.setattr(needs, "checks", refuse)
    (last,) = [each for each in production.plan(PRODUCTION)["checks"] if not each["ok"]]
    assert last["found"] == "It does not answer."
