"""What an agent in a pod takes for the cgroup of all pods, however a node's kubelet calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.linux import processes
from harness.targets.kubernetes.images import FOLDER

UID = "12-ab"
PODS = {
    "systemd": "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_ab.slice",
    "kubelet alone": "kubepods/besteffort/pod12-ab",
    "kind": "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod12_ab.slice",
    "kind beside v1": "unified/x/kubelet/kubepods/pod12-ab",
}
FOUND = {
    "systemd": "kubepods.slice",
    "kubelet alone": "kubepods",
    "kind": "kubelet.slice/kubelet-kubepods.slice",
    "kind beside v1": "unified/x/kubelet/kubepods",
}


@pytest.mark.parametrize("kubelet", list(PODS))
def test_it_is_found_from_the_pods_own(kubelet: str, tmp_path: Path) -> None:
    root = tmp_path / "groups"
    (root / PODS[kubelet]).mkdir(parents=True)
    (root / "memory" / "kubepods" / "pod12-ab").mkdir(parents=True)  # of v1
    (root / PODS[kubelet] / "cgroup.controllers").touch()
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "POD_UID": UID, "CGROUPS": str(root)}
    path["OTLP_FILES"] = str(tmp_path)
    done = processes.run([str(FOLDER / "agent"), "http+flows", "--sample", "1"], env=path)
    assert done.stdout.split() == [
        "-m", "harness.agent", "http+flows", "--sample", "1",
        "--cgroup", str(root / FOUND[kubelet]), "--control", "/run/agent/{name}.sock",
    ]  # fmt: skip


@pytest.mark.parametrize("there", [True, False])
def test_who_issued_a_receivers_certificate_is_trusted_where_a_secret_says_it(
    there: bool, tmp_path: Path
) -> None:
    root = tmp_path / "groups"
    (root / PODS["systemd"]).mkdir(parents=True)
    (root / PODS["systemd"] / "cgroup.controllers").touch()
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "${OTEL_EXPORTER_OTLP_CERTIFICATE:-nobody}"\n')
    python.chmod(0o755)
    if there:
        (tmp_path / "ca.crt").touch()
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "POD_UID": UID, "CGROUPS": str(root)}
    path["OTLP_FILES"] = str(tmp_path)
    done = processes.run([str(FOLDER / "agent"), "http"], env=path)
    assert done.stdout.strip() == (str(tmp_path / "ca.crt") if there else "nobody")
