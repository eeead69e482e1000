"""What docker is told of machines that are containers, and what of them is removed: no other's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import InputError, NeedError
from harness.targets.kubernetes import node_mounts
from harness.targets.vm import containers
from harness.targets.vm.containers import Containers
from harness.targets.vm.making import Made, Wanted

DOCKER = """
echo "$@" >>"$0.done"
case "$1 $2" in
"version --format") echo 28;;
"image inspect") [ "$5" = debian ] && echo sha256:1 || exit 1;;
"network inspect") echo '[{"IPAM": {"Config": [{"Subnet": "172.29.4.0/24"}]}}]';;
"container ls") echo "$@" | grep -q 'mark=shop-1234\\|cluster=shop\\>' && echo one two; exit 0;;
"network ls") echo "$@" | grep -q 'mark=shop-1234\\|cluster=shop\\>' && echo net; exit 0;;
"exec --interactive") cat >"$0.key";;
"exec shop-1"|"exec shop-2") echo "ssh-ed25519 AAAA$2 root@$2";;
esac
"""


class Docker:
    """What it was told, and the key that it was given last."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / "docker"
        self._place.write_text(f"#!/bin/sh\n{DOCKER}\n")
        self._place.chmod(0o755)

    def told(self, word: str = "") -> list[str]:
        file = self._place.with_name("docker.done")
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(word)]

    def key(self) -> str:
        return self._place.with_name("docker.key").read_text()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(containers, "await_ssh", lambda *_: None)
    put = lambda names: (tmp_path / "mounted").write_text(" ".join(names))  # noqa: E731
    monkeypatch.setattr(node_mounts, "put", put)
    return Docker(tmp_path)


def wanted(folder: Path, image: str = "debian") -> Wanted:
    return Wanted("shop", "shop-1234", image, folder)


def test_each_has_its_own_address_which_a_restart_does_not_change(
    docker: Docker, tmp_path: Path
) -> None:
    made = Containers(wanted(tmp_path)).make(["shop-1", "shop-2"], "ssh-ed25519 KEY", print)
    assert made == [
        Made("shop-1", "172.29.4.11", "ssh-ed25519 AAAAshop-1"),
        Made("shop-2", "172.29.4.12", "ssh-ed25519 AAAAshop-2"),
    ]
    labels = "--label=harness.vm.cluster=shop --label=harness.vm.mark=shop-1234"
    assert docker.told("network create") == [
        f"network create {labels} harness-vm-shop",
        f"network create {labels} --subnet 172.29.4.0/24 harness-vm-shop",
    ]
    first, second = docker.told("run")
    for words in (labels, "--privileged", "--cgroupns=private", "--stop-signal=SIGRTMIN+3",
                  "--volume=/var", "--tmpfs=/tmp:exec", "--network=harness-vm-shop"):  # fmt: skip
        assert words in first
    assert "--name=shop-1 --hostname=shop-1" in first
    assert "--ip=172.29.4.12" in second
    assert first.endswith(" debian")
    assert docker.key() == "ssh-ed25519 KEY"
    assert (tmp_path / "mounted").read_text() == "shop-1 shop-2"


def test_only_what_carries_the_mark_is_started_and_removed(docker: Docker, tmp_path: Path) -> None:
    Containers(wanted(tmp_path)).start()
    Containers(wanted(tmp_path)).remove()
    assert docker.told("start") == ["start one two"]
    removed = ["rm --force --volumes two", "rm --force --volumes one"]
    assert docker.told("rm") == removed
    told = docker.told()
    (given_back,) = docker.told("exec")
    assert given_back.startswith("exec --interactive one sh -c systemctl stop kubelet; ")
    assert "[ ! -e /var/lib/harness-cluster/cilium ] || sysctl " in given_back
    assert told.index(removed[0]) < told.index(given_back) < told.index(removed[1])
    assert docker.told("network rm") == ["network rm net"]
    others = Wanted("shop", "shop-5678", "debian", tmp_path)
    Containers(others).start()
    Containers(others).remove()
    assert (docker.told("start"), docker.told("rm")) == (
        ["start one two"], removed,
    )  # fmt: skip


def test_what_kubelets_set_of_this_kernel_is_noted_before_and_given_back(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input of what sets it; a parameter that the kernel does not have is left out."""
    for name, value in (("vm/overcommit_memory", "2"), ("kernel/panic", "0")):
        (tmp_path / "sys" / name).parent.mkdir(parents=True)
        (tmp_path / "sys" / name).write_text(f"{value}\n")
    monkeypatch.setattr(containers, "_PARAMETERS", tmp_path / "sys")
    made = Containers(wanted(tmp_path))
    made.make(["shop-1"], "ssh-ed25519 KEY", print)
    (tmp_path / "sys/vm/overcommit_memory").write_text("1\n")  # as a kubelet does
    made.remove()
    assert docker.told("exec")[-1].endswith("sysctl --quiet --ignore --load=-")
    assert docker.key() == "vm.overcommit_memory = 2\nkernel.panic = 0\n"


def test_what_is_left_is_found_without_the_mark(docker: Docker, tmp_path: Path) -> None:
    found = Containers(Wanted("shop", "", "", tmp_path)).left()
    assert found == ["Docker has containers of it: 2.", "Docker has networks of it: 1."]
    assert Containers(Wanted("bank", "", "", tmp_path)).left() == []


def test_an_image_must_be_named_and_be_there(docker: Docker, tmp_path: Path) -> None:
    Containers(wanted(tmp_path)).check()
    with pytest.raises(InputError, match="Which image"):
        Containers(wanted(tmp_path, "")).check()
    with pytest.raises(NeedError, match="no image ubuntu"):
        Containers(wanted(tmp_path, "ubuntu")).check()


def test_without_docker_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Containers(Wanted("shop", "", "", tmp_path)).left() == []
