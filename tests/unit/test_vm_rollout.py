"""What `up`, `status` and `down` do around a cluster on machines; its playbooks only play at it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import ComponentError, InputError, NeedError
from harness.stack import catalog
from harness.targets.kubernetes import chosen, sources
from harness.targets.kubernetes.bare import Machines
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.profiles import Profile
from harness.targets.kubernetes.rollout import RolledOut
from harness.targets.vm import inventory, machines, noted, remains, rollout, site
from harness.targets.vm.inventory import CONTROL_PLANE, WORKER, Host
from harness.targets.vm.noted import Noted

HOSTS = (Host("a", CONTROL_PLANE, "192.0.2.1"), Host("b", WORKER), Host("load"))


@dataclass
class Stage:
    """What was done in which order; `changes` of each part, and what breaks."""

    did: list[str] = field(default_factory=list)
    site_changes: bool = True
    stack_changes: bool = True
    breaks: str = ""
    away: tuple[str, ...] = ()
    taken: list[str] = field(default_factory=list)
    inner: Options = field(default_factory=lambda: Options("none"))
    release: dict[str, Any] | None = None

    def do(self, what: str) -> None:
        self.did.append(what)
        if self.breaks == what:
            raise ComponentError(f"{what} broke.")

    def make(self, options: Options, found: Noted, tell: Callable[[str], None]) -> bool:
        for host in found.cluster:
            if host.name not in self.away:
                noted.reached(options.name, host.name)
        self.do("site")
        (noted.folder(options.name) / noted.KUBECONFIG).write_text("{}")
        return self.site_changes

    def upgrade(self, options: Options, found: Noted, tell: Callable[[str], None]) -> bool:
        self.do("upgrade")
        return self.site_changes

    def reset(self, options: Options, found: Noted, tell: Callable[[str], None]) -> None:
        self.do("reset")
        self.taken = [host.name for host in found.hosts]

    def load(self, *_: Any) -> None:
        self.do("images")

    def up(self, options: Options, tell: Callable[[str], None]) -> RolledOut:
        self.inner = options
        self.do("stack")
        return RolledOut(Cluster("vm-shop", "harness"), self.stack_changes, {"proof": 1.0})

    def status(self, options: Options) -> dict[str, Any]:
        self.inner = options
        return {"ready": True}

    def down(self, options: Options, tell: Callable[[str], None]) -> list[str]:
        self.inner = options
        self.do("stack down")
        return ["The release was uninstalled."]

    def left(self, options: Options) -> list[str]:
        return ["A pod is there."] if "stack down" not in self.did else []

    @property
    def profile(self) -> Profile:
        return Profile(self.up, lambda _: {"checks": []}, self.status, self.down, self.left, _none)


def _none(_: Options) -> dict[str, Any]:
    return {}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(chosen, "require_tools", lambda _: None)
    monkeypatch.setattr(site, "require", lambda: None)
    monkeypatch.setattr(site, "make", made.make)
    monkeypatch.setattr(site, "upgrade", made.upgrade)
    monkeypatch.setattr(site, "reset", made.reset)
    monkeypatch.setattr(rollout, "_load", made.load)
    monkeypatch.setattr(rollout, "_release", lambda _: made.release)
    monkeypatch.setattr(sources, "carried", lambda _: None)
    monkeypatch.setattr(inventory, "read", lambda _: HOSTS)
    monkeypatch.setattr(inventory, "names", lambda _: [host.name for host in HOSTS])
    return made


def options(**given: Any) -> Options:
    return Options("vm", "shop", machines=Machines(inventory="hosts.ini"), **given)


def test_the_stack_goes_into_what_is_an_existing_cluster_by_then(stage: Stage) -> None:
    done = rollout.up(stage.profile, options(), print)
    assert stage.did == ["site", "images", "stack"]
    assert (stage.inner.target, stage.inner.context) == ("existing", "")
    assert stage.inner.kubeconfig == str(noted.folder("shop") / "kubeconfig")
    assert list(done.phases) == ["checks", "machines", "cluster", "images", "proof"]
    assert done.changed


def test_who_keeps_a_signal_is_as_it_is_there_or_in_the_bundle(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before images are loaded, which are none of another one."""
    loaded: list[Options] = []
    monkeypatch.setattr(rollout, "_load", lambda asked, *_: loaded.append(asked))
    parca = SimpleNamespace(names=[c.image for c in catalog.known().values() if c.image])
    rollout.up(stage.profile, options(keepers={"profiles": "parca"}), print)
    stage.release = {"components": ["otelcol", "loki", "parca"], "storage": {}}
    rollout.up(stage.profile, options(), print)
    stage.release = None
    monkeypatch.setattr(sources, "carried", lambda _: parca)
    rollout.up(stage.profile, options(bundle=Path("b.tar")), print)
    assert [each.keepers["profiles"] for each in loaded] == ["parca"] * 3
    assert [each.keepers["logs"] for each in loaded][:2] == ["victorialogs", "loki"]
    assert stage.inner.keepers == loaded[-1].keepers
    stage.release = {"components": ["otelcol", "loki", "parca"], "storage": {}}
    rollout.up(stage.profile, options(keepers={"profiles": "none"}), print)
    assert stage.inner.keepers["profiles"] == "none"  # else it would stay as it is there
    rollout.up(stage.profile, options(profile="production"), print)
    assert loaded[-1].keepers == {}


@pytest.mark.parametrize(
    ("on_machines", "in_cluster", "changed"),
    [(False, False, False), (True, False, True), (False, True, True)],
)
def test_a_second_time_it_says_whether_anything_changed(
    stage: Stage, on_machines: bool, in_cluster: bool, changed: bool
) -> None:
    rollout.up(stage.profile, options(), print)
    stage.site_changes, stage.stack_changes = on_machines, in_cluster
    assert rollout.up(stage.profile, options(), print).changed is changed


def test_an_upgrade_comes_before_all_and_needs_a_cluster(stage: Stage) -> None:
    asked = replace(options(), machines=Machines(inventory="hosts.ini", upgrade="1.35"))
    with pytest.raises(NeedError, match="There is no cluster shop"):
        rollout.up(stage.profile, asked, print)
    assert stage.did == []
    rollout.up(stage.profile, options(), print)
    stage.did.clear()
    done = rollout.up(stage.profile, asked, print)
    assert stage.did == ["upgrade", "site", "images", "stack"]
    assert done.changed
    assert list(done.phases)[:4] == ["checks", "machines", "upgrade", "cluster"]
    stage.site_changes = stage.stack_changes = False
    assert not rollout.up(stage.profile, asked, print).changed


def test_with_a_registry_the_nodes_pull(stage: Stage) -> None:
    rollout.up(stage.profile, options(registry="registry.example/team"), print)
    assert stage.did == ["site", "stack"]


@pytest.mark.parametrize("broken", ["site", "images", "stack"])
def test_machines_that_were_made_for_it_go_if_it_fails(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    removed: list[str] = []
    made = Noted("made.json", HOSTS, "containers", names=("shop-1",))

    def taken(given: Options, _: Any) -> tuple[Noted, bool]:
        fresh = noted.read(given.name) is None
        noted.write(given.name, made)
        return made, fresh

    monkeypatch.setattr(machines, "taken", taken)
    monkeypatch.setattr(machines, "remove", lambda name, _: removed.append(name))
    stage.breaks = broken
    with pytest.raises(ComponentError):
        rollout.up(stage.profile, options(keep=True), print)
    assert removed == []
    with pytest.raises(ComponentError):  # those of an earlier call stay, too
        rollout.up(stage.profile, options(), print)
    assert removed == []
    noted.forget("shop")
    with pytest.raises(ComponentError):
        rollout.up(stage.profile, options(), print)
    assert removed == ["shop"]


def test_two_at_once_are_refused(stage: Stage) -> None:
    lock = chosen.home("shop", "vm").parent / "vm-shop.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for refused in (
            lambda: rollout.up(stage.profile, options(), print),
            lambda: rollout.down(stage.profile, options(), print),
        ):
            with pytest.raises(NeedError, match="is at work"):
                refused()
    assert stage.did == []


def test_status_tells_of_the_machines_too(stage: Stage) -> None:
    rollout.up(stage.profile, options(), print)
    found = rollout.status(stage.profile, Options("vm", "shop"))
    assert found["ready"]
    assert found["machines"][0] == {
        "name": "a", "role": CONTROL_PLANE, "address": "192.0.2.1", "made": "",
    }  # fmt: skip


def test_from_hosts_of_others_the_stack_is_taken_and_the_cluster_stays(stage: Stage) -> None:
    rollout.up(stage.profile, options(), print)
    done = rollout.down(stage.profile, Options("vm", "shop"), print)
    assert stage.did[-1] == "stack down"
    assert done[0] == "The release was uninstalled."
    assert "The cluster stays on a, b" in done[1]
    assert "--reset" in done[1]
    assert rollout.left(stage.profile, Options("vm", "shop")) == []
    now = noted.read("shop")
    assert now is not None
    noted.write("shop", replace(now, hosts=HOSTS[:1], gone=HOSTS[1:2]))
    assert "stays on a, b" in rollout.down(stage.profile, Options("vm", "shop"), print)[1]


def test_reset_takes_the_cluster_off_them(stage: Stage) -> None:
    rollout.up(stage.profile, options(), print)
    asked = replace(Options("vm", "shop"), machines=Machines(reset=True))
    assert rollout.down(stage.profile, asked, print) == ["The cluster was taken off a, b."]
    assert stage.did[-1] == "reset"
    assert stage.taken == ["a", "b"]
    assert noted.read("shop") is None
    assert rollout.down(stage.profile, asked, print) == []


def test_a_reset_leaves_out_what_was_taken_out_of_the_inventory(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine that is gone for good, which nobody could ask."""
    asked = replace(Options("vm", "shop"), machines=Machines(reset=True))
    gone = f"a is not in {Path('hosts.ini').resolve()} any more: nothing was taken off it."
    rollout.up(stage.profile, options(), print)
    monkeypatch.setattr(inventory, "names", lambda _: ["b", "load"])
    said = rollout.down(stage.profile, asked, print)
    assert said == ["The cluster was taken off b.", gone]
    assert stage.taken == ["b"]
    assert noted.read("shop") is None


def test_a_reset_forgets_nothing_where_no_host_has_the_name_that_it_had(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(Options("vm", "shop"), machines=Machines(reset=True))
    rollout.up(stage.profile, options(), print)
    stage.did.clear()
    monkeypatch.setattr(inventory, "names", lambda _: ["a.example", "b.example", "load"])
    with pytest.raises(InputError, match="names no host of the cluster shop any more") as caught:
        rollout.down(stage.profile, asked, print)
    assert "It was made on a, b." in caught.value.why
    assert str(noted.folder("shop")) in caught.value.next_step
    assert stage.did == []
    assert (noted.folder("shop") / noted.KUBECONFIG).exists()
    assert noted.read("shop") is not None


def test_a_reset_that_fails_can_be_tried_again(stage: Stage) -> None:
    rollout.up(stage.profile, options(), print)
    stage.breaks = "reset"
    asked = replace(Options("vm", "shop"), machines=Machines(reset=True))
    with pytest.raises(ComponentError):
        rollout.down(stage.profile, asked, print)
    assert noted.read("shop") is not None


def test_what_did_not_come_to_a_cluster_is_said_and_can_be_reset(stage: Stage) -> None:
    stage.breaks = "site"
    with pytest.raises(ComponentError):
        rollout.up(stage.profile, options(), print)
    asked = Options("vm", "shop")
    (said,) = rollout.down(stage.profile, asked, print)
    assert "What was begun stays on a, b: harness down --target vm --name shop --reset" in said
    assert rollout.left(stage.profile, asked) == ["What was begun on a, b is there."]


@pytest.mark.parametrize("command", ["status", "open"])
def test_without_a_cluster_it_is_said_how_to_make_one(stage: Stage, command: str) -> None:
    words = [command, *(["jaeger"] if command == "open" else []), "--target", "vm"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "There is no cluster harness that `harness up --target vm` made" in done.stderr
    assert "--create 3" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "kind", "--inventory", "x"], "--inventory does not go with --target kind"),
        (["--create", "3"], "--create does not go with --target local"),
        (["--target", "vm", "--nodes", "2", "--create", "3"], "--nodes does not go with"),
        (["--target", "vm", "--context", "x", "--create", "3"], "--context does not go with"),
        (["--target", "vm", "--inventory", "x", "--create", "3"], "--create makes others"),
        (["--target", "vm", "--inventory", "x", "--image", "y"], "--image is of machines that"),
        (["--target", "vm", "--create", "3", "--machines", "moon"], "no machines of the kind"),
        (["--target", "vm", "--create", "3", "--unaccelerated"], "is for guests of QEMU"),
        (["--target", "vm", "--create", "3", "--set", "kubeconfig=x"], "sets no variable"),
        (["--target", "vm", "--create", "3", "--set", "cluster_network"], "sets no variable"),
        (["--target", "vm", "--create", "3", "--name", "../x"], "is no name for a cluster"),
        (["--target", "vm", "--create", "3", "--control-planes", "2"], "are no safer than 1"),
        (["--target", "vm", "--create", "2", "--control-planes", "3"], "do not go on 2 machines"),
        (["--target", "vm", "--inventory", "x", "--control-planes", "3"], "is of machines that"),
        (["--control-planes", "3"], "--control-planes does not go with --target local"),
        (["--target", "vm", "--upgrade", "newest"], "is no version of Kubernetes"),
        (["--target", "kind", "--upgrade", "1.35"], "--upgrade does not go with --target kind"),
        (["--target", "moon"], "There is no target 'moon'"),
    ],
)
def test_what_does_not_go_together_is_refused(stage: Stage, words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["up", *words])
    assert done.exit_code == 2, done.output
    assert said in done.stderr.replace("\n", " ")
    assert stage.did == []


def test_a_plan_names_the_machines_and_changes_nothing(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "program", lambda name: f"/bin/{name}")
    made = ["up", "--target", "vm", "--create", "2", "--image", "debian", "--name", "shop"]
    done = CliRunner().invoke(app, [*made, "--set", "cluster_network=none", "--plan"])
    assert done.exit_code == 0, done.output
    assert "a cluster of 2 nodes" in done.stdout
    assert "machine shop-1: control plane, made here (containers)" in done.stdout
    assert "Ansible is installed: yes" in done.stdout
    assert "--name shop --image debian --create 2 --set cluster_network=none" in done.stdout
    done = CliRunner().invoke(
        app, ["up", "--target", "vm", "--inventory", "hosts.ini", "--plan", "--json"]
    )
    told = json.loads(done.stdout)
    assert [each["name"] for each in told["machines"]] == ["a", "b", "load"]
    assert [each["name"] for each in told["cluster"]["nodes"]] == ["a", "b"]
    assert stage.did == []
    assert not chosen.home("shop", "vm").exists()


def test_a_plan_names_the_control_planes(stage: Stage) -> None:
    words = ["--target", "vm", "--create", "4", "--control-planes", "3", "--plan", "--json"]
    told = json.loads(CliRunner().invoke(app, ["up", *words]).stdout)
    assert [each["role"] for each in told["machines"]] == [*[CONTROL_PLANE] * 3, WORKER]


def test_a_plan_names_the_version_that_is_upgraded_to(stage: Stage) -> None:
    words = ["up", "--target", "vm", "--inventory", "hosts.ini", "--upgrade", "1.35", "--plan"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "a cluster of 2 nodes of Kubernetes 1.35" in done.stdout
    assert "--upgrade 1.35" in done.stdout.replace("\n", " ")


def test_only_a_cluster_of_that_name_is_gone_on_with(stage: Stage) -> None:
    with pytest.raises(NeedError, match="no cluster shop"):
        rollout.require_cluster("shop")
    with pytest.raises(InputError, match="no name for a cluster"):
        chosen.found(Options("vm", "Shop!"))


def test_nothing_is_taken_off_where_no_host_was_ever_reached(stage: Stage) -> None:
    stage.breaks, stage.away = "site", ("a", "b")
    asked = replace(Options("vm", "shop"), machines=Machines(reset=True))
    for reset in (asked, Options("vm", "shop")):
        with pytest.raises(ComponentError):
            rollout.up(stage.profile, options(), print)
        assert remains.held(reset, print) == []
        (said,) = rollout.down(stage.profile, reset, print)
        assert said.endswith("hosts.ini was anything begun: nothing was made of them.")
        assert noted.read("shop") is None
    assert "reset" not in stage.did


def test_a_reset_leaves_out_who_was_never_reached(stage: Stage) -> None:
    stage.breaks, stage.away = "site", ("b",)
    with pytest.raises(ComponentError):
        rollout.up(stage.profile, options(), print)
    asked = replace(Options("vm", "shop"), machines=Machines(reset=True))
    assert rollout.down(stage.profile, asked, print) == ["The cluster was taken off a."]
    assert stage.taken == ["a"]
