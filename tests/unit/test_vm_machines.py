"""Which machines a cluster is of, who makes them, what is removed: with a maker of the tests."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CommandError, InputError, StoreError
from harness.targets.kubernetes import bare
from harness.targets.kubernetes.bare import Machines
from harness.targets.kubernetes.chosen import Options
from harness.targets.vm import inventory, machines, making, noted
from harness.targets.vm.inventory import CONTROL_PLANE, WORKER, Host
from harness.targets.vm.making import Made, Tell, Wanted


class Workshop:
    """Makes machines on paper: `there` by mark, and what it was told."""

    def __init__(self) -> None:
        self.there: dict[str, list[str]] = {}
        self.told: list[str] = []
        self.breaks = False

    def __call__(self, wanted: Wanted) -> Workshop:
        self.wanted = wanted
        return self

    def check(self) -> None:
        self.told.append(f"check {self.wanted.image}")

    def make(self, names: Sequence[str], public_key: str, tell: Tell) -> list[Made]:
        self.there[self.wanted.mark] = list(names)
        self.told.append(f"make {' '.join(names)} for {public_key.split()[0]}")
        if self.breaks:
            raise CommandError("docker is full.")
        return [Made(name, f"192.0.2.{n}", f"ssh-ed25519 K{n}") for n, name in enumerate(names)]

    def start(self) -> None:
        self.told.append("start")

    def remove(self) -> None:
        self.told.append("remove")
        self.there.pop(self.wanted.mark, None)

    def left(self) -> list[str]:
        return [f"{len(names)} are there." for names in self.there.values()]


def listed(file: Path) -> tuple[Host, ...]:
    """What Ansible would read from the inventory that we write."""
    told = json.loads(file.read_text())["all"]
    children = told["children"]
    variables = {
        name: {**told["vars"], **own}
        for group in children.values()
        for name, own in group["hosts"].items()
    }
    groups = {name: {"hosts": list(group["hosts"])} for name, group in children.items()}
    answer = {"_meta": {"hostvars": variables}, "all": {"children": list(groups)}, **groups}
    return inventory.hosts(answer, file)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(machines, "MAKERS", {"containers": made})
    monkeypatch.setattr(inventory, "read", listed)
    monkeypatch.setattr(making, "await_ssh", lambda name, *_: made.told.append(f"await {name}"))
    return made


def options(**given: Any) -> Options:
    return Options("vm", "shop", image="debian", machines=Machines(create=3), **given)


def test_those_that_are_made_are_noted_and_reached_by_a_key_of_their_own(
    workshop: Workshop,
) -> None:
    found, fresh = machines.taken(options(), print)
    assert fresh
    assert workshop.told == ["check debian", "make shop-1 shop-2 shop-3 for ssh-ed25519"]
    assert [(host.name, host.role) for host in found.hosts] == [
        ("shop-1", CONTROL_PLANE), ("shop-2", WORKER), ("shop-3", WORKER),
    ]  # fmt: skip
    folder = noted.folder("shop")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "known_hosts").read_text().splitlines()[1] == "192.0.2.1 ssh-ed25519 K1"
    words = found.hosts[1].words
    assert words[:2] == ("-i", str(folder / "key"))
    assert f'UserKnownHostsFile="{folder}/known_hosts"' in words
    assert "StrictHostKeyChecking=yes" in words
    assert noted.read("shop") == found
    assert "share this machine's kernel and CPUs" in found.caution


def test_several_of_them_are_control_planes_where_that_is_asked(workshop: Workshop) -> None:
    asked = Options("vm", "shop", image="debian", machines=Machines(create=4, control_planes=3))
    found, _ = machines.taken(asked, print)
    assert [host.role for host in found.hosts] == [*[CONTROL_PLANE] * 3, WORKER]
    assert machines.taken(asked, print) == (found, False)
    assert machines.taken(Options("vm", "shop"), print) == (found, False)
    other = replace(asked, machines=Machines(create=4))
    with pytest.raises(InputError, match="control planes: 3"):
        machines.taken(other, print)


def test_half_of_several_control_planes_is_made_anew_as_it_was_asked(workshop: Workshop) -> None:
    workshop.breaks = True
    asked = Options("vm", "shop", image="debian", machines=Machines(create=3, control_planes=3))
    with pytest.raises(CommandError):
        machines.taken(replace(asked, keep=True), print)
    workshop.breaks = False
    found, _ = machines.taken(Options("vm", "shop"), print)
    assert [host.role for host in found.hosts] == [CONTROL_PLANE] * 3


def test_a_second_time_they_are_taken_as_they_are(workshop: Workshop) -> None:
    first, _ = machines.taken(options(), print)
    workshop.told.clear()
    for again in (options(), replace(options(), machines=Machines())):
        assert machines.taken(again, print) == (first, False)
    assert workshop.told == ["start", "await shop-1", "await shop-2", "await shop-3"] * 2


@pytest.mark.parametrize(
    "asked", [Machines(create=2), Machines(inventory="hosts.ini")], ids=["fewer", "others"]
)
def test_other_machines_under_the_same_name_are_refused(
    workshop: Workshop, asked: Machines
) -> None:
    machines.taken(options(), print)
    with pytest.raises(InputError, match="3 machines that were made") as caught:
        machines.taken(replace(options(), machines=asked), print)
    assert "harness down --target vm --name shop." in caught.value.next_step


def test_what_fails_is_removed_again_unless_it_is_to_be_kept(workshop: Workshop) -> None:
    workshop.breaks = True
    with pytest.raises(CommandError, match="docker is full"):
        machines.taken(options(), print)
    assert not workshop.there
    assert noted.read("shop") is None
    assert machines.left("shop") == []
    with pytest.raises(CommandError):
        machines.taken(options(keep=True), print)
    assert [len(names) for names in workshop.there.values()] == [3]
    assert noted.read("shop") is not None


def test_half_of_them_is_made_anew_as_after_a_kill(workshop: Workshop) -> None:
    workshop.breaks = True
    with pytest.raises(CommandError):
        machines.taken(options(keep=True), print)
    workshop.breaks, said = False, list[str]()
    workshop.told.clear()
    (first,) = workshop.there
    found, fresh = machines.taken(Options("vm", "shop"), said.append)
    assert fresh
    assert found.whole
    assert workshop.told[:2] == ["remove", "check debian"]
    assert list(workshop.there) == [found.mark] != [first]
    assert "made anew" in said[0]


def test_where_they_cannot_be_removed_they_stay_noted(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove() -> None:
        raise CommandError("docker is gone.")

    workshop.breaks = True
    monkeypatch.setattr(workshop, "remove", remove)
    with pytest.raises(CommandError, match="docker is full"):
        machines.taken(options(), print)
    assert noted.read("shop") is not None


def test_hosts_of_an_inventory_are_noted_and_never_removed(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "read", lambda file: (Host("box", CONTROL_PLANE),))
    asked = Options("vm", "shop", machines=Machines(inventory=str(tmp_path / "hosts.ini")))
    found, fresh = machines.taken(asked, print)
    assert (found.inventory, fresh) == (str(tmp_path / "hosts.ini"), False)
    assert machines.taken(replace(asked, machines=Machines()), print)[0] == found
    assert found.caution == ""
    other = replace(asked, machines=Machines(inventory="other.ini"))
    made = replace(options(), machines=Machines(create=3))
    for each in (other, made):
        with pytest.raises(InputError, match=r"are those of .*hosts\.ini") as caught:
            machines.taken(each, print)
        assert "--reset" in caught.value.next_step
    machines.remove("shop", found)
    assert workshop.told == []
    assert noted.read("shop") is None


TWO = (Host("a", CONTROL_PLANE), Host("b", WORKER), Host("load"))


@pytest.fixture
def person(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Writes hosts into the inventory and takes them; what is told then."""

    def take(*hosts: Host) -> list[str]:
        monkeypatch.setattr(inventory, "read", lambda _: hosts)
        monkeypatch.setattr(inventory, "names", lambda _: [host.name for host in hosts])
        said: list[str] = []
        asked = Options("vm", "shop", machines=Machines(inventory="hosts.ini"))
        machines.taken(asked, said.append)
        return said

    assert take(*TWO) == []
    for host in TWO:
        noted.reached("shop", host.name)
    return take


def there_and_gone() -> tuple[list[Host], list[Host]]:
    now = noted.read("shop")
    assert now is not None
    return machines.there_and_gone("shop", now)


def test_a_host_that_leaves_the_inventory_is_not_forgotten(
    person: Callable[..., list[str]],
) -> None:
    """It is a node as before, and so it is told by each further call, and by a reset."""
    told = f"b is no part of {Path('hosts.ini').resolve()} any more: it stays as it was made"
    assert person(TWO[0], TWO[2]) == [told]
    assert person(TWO[0], TWO[2]) == [told]
    assert there_and_gone() == ([TWO[0]], [TWO[1]])
    now = noted.read("shop")
    assert now is not None
    assert (now.cluster, now.ever) == ([TWO[0]], [TWO[0], TWO[1]])


def test_a_host_that_was_never_reached_is_forgotten_with_the_inventory_that_named_it(
    person: Callable[..., list[str]],
) -> None:
    """As one that was mistyped, and is written as it is called by now."""
    typo, right = Host("tpyo", WORKER), Host("typo", WORKER)
    assert person(*TWO, typo) == []
    assert there_and_gone() == ([TWO[0], TWO[1]], [])
    assert person(*TWO, right) == []
    noted.reached("shop", "typo")
    assert there_and_gone() == ([TWO[0], TWO[1], right], [])
    assert len(person(*TWO)) == 1


def test_a_host_that_is_of_no_part_any_more_is_reset_with_the_others(
    person: Callable[..., list[str]],
) -> None:
    """In the part that it had: Ansible is told so."""
    assert len(person(TWO[0], Host("b"), TWO[2])) == 1
    there, gone = there_and_gone()
    assert (there, gone) == ([TWO[0], TWO[1]], [])
    assert inventory.groups(there)[WORKER] == {"hosts": {"b": {}}}


def test_a_host_that_is_in_the_inventory_again_is_one_as_before(
    person: Callable[..., list[str]],
) -> None:
    before = noted.read("shop")
    person(TWO[0])
    assert person(*TWO) == []
    assert noted.read("shop") == before


def test_who_names_no_machines_is_asked_which(workshop: Workshop) -> None:
    with pytest.raises(InputError, match="Which machines"):
        machines.taken(Options("vm", "shop"), print)


def test_a_note_that_cannot_be_read_is_not_taken_for_none(workshop: Workshop) -> None:
    machines.taken(options(), print)
    (noted.folder("shop") / noted.FILE).write_text('{"hosts": 1}')
    with pytest.raises(StoreError, match="cannot be read"):
        machines.taken(options(), print)


def test_a_host_is_named_as_in_the_inventory(workshop: Workshop) -> None:
    found, _ = machines.taken(options(), print)
    assert noted.host(found, "shop-2").address == "192.0.2.1"
    with pytest.raises(InputError, match="no host 'box'") as caught:
        noted.host(found, "box")
    assert "shop-1, shop-2, shop-3" in caught.value.why


def test_each_kind_that_may_be_asked_for_has_a_maker() -> None:
    assert set(bare.MAKERS) == set(machines.MAKERS)


def test_nobody_answers_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(Exception, match=r"box was made and is not reached by ssh") as caught:
        making.await_ssh("box", "192.0.2.1", -1.0, "Look there.")
    assert "192.0.2.1, port 22: Connection refused" in str(caught.value)
