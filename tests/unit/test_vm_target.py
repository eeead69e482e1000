"""How a cluster on machines, and a host of one by itself, are named as where it is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import hosts, tuning
from harness.cli.options import Options
from harness.errors import InputError, NeedError
from harness.report import wording
from harness.targets import target
from harness.targets.ssh import Ssh
from harness.targets.vm import inventory, noted
from harness.targets.vm.inventory import CONTROL_PLANE, WORKER, Host
from harness.targets.vm.noted import Noted

HOSTS = (Host("a", CONTROL_PLANE, "192.0.2.1", "root"), Host("b", WORKER))


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that `up` made, of containers."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(inventory, "read", lambda _: HOSTS)
    noted.write("shop", Noted("hosts.ini", HOSTS, "containers"))


def test_a_node_of_the_cluster_is_measured_as_in_any_other() -> None:
    found = target("vm,name=shop,node=b")
    assert found.name == "vm,name=shop,node=b"
    assert "share this machine's kernel" in found.caution
    assert wording.place(found.name) == "On the node b of the cluster shop"


def test_a_host_by_itself_is_reached_by_ssh_as_the_inventory_says() -> None:
    found = target("vm,host=a,name=shop")
    assert isinstance(found, Ssh)
    assert found.name == "vm,host=a,name=shop"
    assert "share this machine's kernel" in found.caution
    assert wording.place(found.name) == "On a"
    other = target("vm,host=b,inventory=hosts.ini")
    assert other.name == "vm,host=b,inventory=hosts.ini"
    assert other.caution == ""


@pytest.mark.parametrize(
    "given",
    ["vm,node", "vm,node=", "vm,host=a,node=b", "vm,name=shop,name=shop", "vm,inventory=x",
     "vm,context=x"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="cannot be read at"):
        target(given)


def test_a_host_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no host 'c'"):
        target("vm,host=c,name=shop")
    with pytest.raises(NeedError, match="no cluster bank"):
        target("vm,host=a,name=bank")


@pytest.mark.parametrize(
    ("given", "at", "load"),
    [
        (Options(target="vm", host="a"), "vm,host=a", ""),
        (Options(target="vm,name=shop", host="a", load_host="b"), "vm,host=a,name=shop",
         "vm,host=b,name=shop"),
        (Options(target="vm", host="a", inventory="/x.ini"), "vm,host=a,inventory=/x.ini", ""),
        (Options(target="vm,name=shop,node=a", load_host="b"), "vm,name=shop,node=a",
         "vm,host=b,name=shop"),
        (Options(target="vm"), "vm", ""),
        (Options(target="local"), "local", ""),
    ],
)  # fmt: skip
def test_hosts_become_targets_which_a_run_keeps(given: Options, at: str, load: str) -> None:
    found = hosts.named(given)
    assert (found.target, found.load_target) == (at, load)
    assert (found.host, found.load_host, found.inventory) == ("", "", "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Options(host="a"), "--host does not go with --target local"),
        (Options(target="ssh:box", load_host="a"), "--load-host does not go with"),
        (Options(target="vm", inventory="x"), "no host is named"),
        (Options(target="vm", load_host="a", load_target="local"), "both say where the load"),
    ],
)
def test_what_contradicts_is_refused(given: Options, said: str) -> None:
    with pytest.raises(InputError) as caught:
        hosts.named(given)
    assert said in str(caught.value)


def test_a_host_is_tuned_and_a_node_of_a_cluster_is_not() -> None:
    tuning._require_machine("vm,host=a,name=shop")
    for each in ("vm", "vm,name=shop", "kind"):
        with pytest.raises(InputError, match="not tuned from within"):
            tuning._require_machine(each)
