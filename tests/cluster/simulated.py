"""A real API server with its controllers whose nodes are simulated by KWOK; for `test_scale`.

Plain processes on loopback, in a folder that goes with them. Nodes and pods are objects without
anything behind: pods become ready as soon as they are scheduled.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.linux import processes
from tests.cluster import programs

STAGES = Path(__file__).with_name("stages.yaml")
_TOKEN = "simulated"
_READY_SECONDS = 120
_QUICK = ("--kube-api-qps=500", "--kube-api-burst=1000")
_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class Simulated:
    """A cluster of simulated nodes by its kubeconfig; `audit` has a line for each API call."""

    kubeconfig: Path
    audit: Path
    environment: dict[str, str]

    def kubectl(self, *words: str, file: Path | None = None) -> str:
        argv = ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]
        return processes.run(argv, env=self.environment, timeout=300, input_file=file).stdout

    def calls(self, since: int, *agents: str) -> list[dict[str, Any]]:
        """The API calls since a byte of the audit log that programs of these names made."""
        with self.audit.open() as log:
            log.seek(since)
            found = [json.loads(line) for line in log]
        return [each for each in found if each.get("userAgent", "").startswith(agents)]


@contextlib.contextmanager
def running(folder: Path, nodes: int) -> Iterator[Simulated]:
    """A control plane and this many ready nodes."""
    etcd, api = _free(), _free()
    token, keys = folder / "tokens.csv", folder / "sa.key"
    token.write_text(f'{_TOKEN},admin,1,"system:masters"\n')
    processes.run(["openssl", "genrsa", "-out", str(keys), "2048"])
    policy, audit = folder / "policy.json", folder / "audit.log"
    policy.write_text(json.dumps(_POLICY))
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(_kubeconfig(api)))
    own = programs.folder("kubernetes")
    common = (f"--kubeconfig={kubeconfig}", "--leader-elect=false", *_QUICK)
    peer = f"http://127.0.0.1:{_free()}"
    commands = {
        "etcd": [
            str(programs.folder("etcd") / "server"), f"--data-dir={folder}/etcd",
            "--unsafe-no-fsync", f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        ],
        "api": [
            str(own / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--secure-port={api}", "--bind-address=127.0.0.1", f"--cert-dir={folder}/certs",
            f"--token-auth-file={token}", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}", f"--service-account-signing-key-file={keys}",
            "--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true",
            f"--audit-policy-file={policy}", f"--audit-log-path={audit}",
        ],
        "controllers": [
            str(own / "kube-controller-manager"), *common,
            f"--service-account-private-key-file={keys}",
        ],
        "scheduler": [str(own / "kube-scheduler"), *common],
        "kwok": [
            str(programs.folder("kwok") / "kwok"), f"--kubeconfig={kubeconfig}",
            "--manage-all-nodes=true", f"--config={STAGES}", "--node-lease-duration-seconds=40",
        ],
    }  # fmt: skip
    path = f"{own}:{programs.folder('helm')}:/usr/sbin:/usr/bin:/sbin:/bin"
    made = Simulated(kubeconfig, audit, {"PATH": path, "HOME": str(folder)})
    with contextlib.ExitStack() as stack:
        for name, argv in commands.items():
            log = folder / f"{name}.log"
            process = processes.spawn(argv, log=log)
            stack.callback(processes.stop, process)
            if name == "api":
                _await(lambda: "ok" in made.kubectl("get", "--raw=/readyz"), log)
        file = folder / "nodes.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _nodes(nodes)}))
        made.kubectl("create", f"--filename={file}")
        template = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
        words = ("get", "nodes", f"--output={template}")
        _await(lambda: made.kubectl(*words).split().count("True") == nodes, folder / "kwok.log")
        yield made


def _kubeconfig(port: int) -> dict[str, Any]:
    server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "simulated",
        "clusters": [{"name": "simulated", "cluster": server}],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "simulated", "context": {"cluster": "simulated", "user": "admin"}}],
    }


def _nodes(number: int) -> list[dict[str, Any]]:
    room = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"node-{index:04d}",
                "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
            },
            "status": {"allocatable": room, "capacity": room},
        }
        for index in range(number)
    ]


def _await(holds: Any, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        with contextlib.suppress(Exception):
            if holds():
                return
        words = " ".join(processes.last_words(log))
        assert time.monotonic() < deadline, f"{log.stem} is not ready: {words}"
        time.sleep(0.5)


def _free() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])
