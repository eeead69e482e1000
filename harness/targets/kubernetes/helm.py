"""Installs, asks and removes the chart by helm, as a subprocess; `rollout` calls it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.errors import CommandError
from harness.linux import processes
from harness.linux.processes import Process
from harness.targets.bundle import ROOT
from harness.targets.kubernetes import pods
from harness.targets.kubernetes.kubectl import Cluster

CHART = ROOT / "manifests" / "poc"
RELEASE = "harness"
READY_SECONDS = 300
_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 20.0  # for what may still come: an image that is pulled again, room on a node

Values = dict[str, Any]


def fingerprint(values: Values) -> str:
    """What tells one roll-out from another: the chart's files and the values."""
    found = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in sorted(CHART.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def state(cluster: Cluster) -> dict[str, Any] | None:
    """The release as helm knows it: `status`, `version`, `fingerprint`; None if there is none."""
    done = _helm(cluster, "status", RELEASE, "--output=json", check=False)
    if done.returncode:
        if "not found" in done.stderr:
            return None
        raise CommandError(
            "`helm status` failed.",
            " ".join(done.stderr.split())[-400:],
            "See whether the cluster answers: kubectl get nodes.",
        )
    found = json.loads(done.stdout)
    values = found.get("config") or {}
    return {
        "status": found["info"]["status"],
        "version": found["version"],
        "fingerprint": values.get("fingerprint", ""),
    }


def settle(cluster: Cluster) -> None:
    """Undo what a killed `up` left half done: helm refuses to go on from there."""
    now = state(cluster)
    if now is None:
        return
    if now["status"] == "pending-install" or (now["status"] == "failed" and now["version"] == 1):
        remove(cluster)
    elif now["status"].startswith("pending"):
        _helm(cluster, "rollback", RELEASE, "--wait", f"--timeout={READY_SECONDS}s")


def install(cluster: Cluster, values: Values) -> None:
    """Install or upgrade and wait until all is ready; undone again if it does not become so.

    ComponentError names the pod that is stuck, why, and what to do.
    """
    before = state(cluster)
    with tempfile.TemporaryDirectory(prefix="harness-helm-") as folder:
        file, log = Path(folder) / "values.json", Path(folder) / "helm.log"
        file.write_text(json.dumps({**values, "fingerprint": fingerprint(values)}))
        words = ("upgrade", "--install", RELEASE, str(CHART), f"--values={file}", "--wait")
        argv = [*_argv(cluster), *words, f"--timeout={READY_SECONDS}s", "--history-max=5"]
        process = processes.spawn(argv, log=log, env=cluster.environment)
        try:
            _await(cluster, process, log)
        except BaseException:
            processes.stop(process)
            with contextlib.suppress(CommandError):
                _undo(cluster, before)
            raise


def remove(cluster: Cluster) -> bool:
    """Uninstall the release; whether there was one."""
    words = ("uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout=180s")
    return "uninstalled" in _helm(cluster, *words, seconds=240.0).stdout


def _await(cluster: Cluster, process: Process, log: Path) -> None:
    """Until helm has ended and every pod is ready: of a DaemonSet helm does not wait for each."""
    since: dict[str, float] = {}
    until = time.monotonic() + READY_SECONDS
    while process.poll() is None or (not process.returncode and not _all_ready(cluster)):
        now = time.monotonic()
        if now > until:
            break
        stuck = {f"{each.pod}/{each.container}": each for each in pods.troubles(pods.ours(cluster))}
        since = {key: since.get(key, now) for key in stuck}
        for key, trouble in stuck.items():
            if trouble.kind == "crash" or now - since[key] > _PATIENCE_SECONDS:
                raise pods.failure(cluster, trouble)
        time.sleep(_LOOK_SECONDS)
    if process.returncode or not _all_ready(cluster):
        for trouble in pods.troubles(pods.ours(cluster)):
            raise pods.failure(cluster, trouble)
        late = [each["metadata"]["name"] for each in pods.ours(cluster) if not pods.is_ready(each)]
        raise CommandError(
            "helm did not bring the stack up."
            + (f" Not ready: {', '.join(late)}." if late else ""),
            " ".join(processes.last_words(log)),
            f"{cluster.shown} describe pods says more.",
        )


def _all_ready(cluster: Cluster) -> bool:
    return all(map(pods.is_ready, pods.ours(cluster)))


def _undo(cluster: Cluster, before: dict[str, Any] | None) -> None:
    if before is None or before["status"] != "deployed":
        remove(cluster)
    else:
        words = ("rollback", RELEASE, str(before["version"]), "--wait", "--timeout=180s")
        _helm(cluster, *words, seconds=240.0)


def _argv(cluster: Cluster) -> list[str]:
    given = [f"--kubeconfig={cluster.kubeconfig}"] if cluster.kubeconfig else []
    where = [f"--kube-context={cluster.context}", f"--namespace={cluster.namespace}"]
    return ["helm", *given, *where]


def _helm(
    cluster: Cluster, *words: str, check: bool = True, seconds: float = 120.0
) -> processes.Completed:
    argv = [*_argv(cluster), *words]
    return processes.run(argv, check=check, timeout=seconds, env=cluster.environment)
