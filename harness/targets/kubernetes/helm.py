"""Installs, asks and removes charts by helm, as a subprocess; for `rollout` and `production`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CommandError, HarnessError
from harness.linux import processes
from harness.linux.processes import Process
from harness.targets.bundle import ROOT
from harness.targets.kubernetes import pods
from harness.targets.kubernetes.kubectl import Cluster, refusal

CHART = ROOT / "manifests" / "poc"
RELEASE = "harness"
READY_SECONDS = 300
_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 20.0  # for what may still come: an image that is pulled again, room on a node
_UNDO_SECONDS = 180.0
_RETENTION = "--storage.tsdb.retention.time="

Values = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """What is installed under a name, and whose readiness it is done with.

    `chart` are the words that tell helm where the chart is, `note` is kept as the revision's
    description. All pods that `pods` finds must be ready, and `is_whole` says whether those are
    all; `patience` are the seconds that a pod that cannot start is given.
    """

    name: str
    chart: Sequence[str]
    values: Sequence[Path]
    note: str = ""
    pods: Callable[[Cluster], list[dict[str, Any]]] = pods.ours
    is_whole: Callable[[Cluster], bool] = lambda cluster: True
    patience: float = _PATIENCE_SECONDS
    seconds: int = READY_SECONDS


def fingerprint(values: Values) -> str:
    """What tells one roll-out from another: the chart's files and the values."""
    found = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in sorted(CHART.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def state(cluster: Cluster, release: str = RELEASE) -> dict[str, Any] | None:
    """The release as helm knows it: `status`, `version`, `note`...; None if there is none.

    `fingerprint`, `storage`, `retention_hours` (0 if it does not say), the names of `components`,
    of those that a person `asked` for, and `external` backends are of our own chart.
    """
    try:
        done = _helm(cluster, "status", release, "--output=json", check=False)
    except CommandError as error:  # it did not end
        raise refusal(cluster, "`helm status`", error.what) from error
    if done.returncode:
        if "not found" in done.stderr:
            return None
        raise refusal(cluster, "`helm status`", done.stderr)
    found = json.loads(done.stdout)
    values = found.get("config") or {}
    return {
        "status": found["info"]["status"],
        "version": found["version"],
        "fingerprint": values.get("fingerprint", ""),
        "note": found["info"].get("description", ""),
        "storage": values.get("storage") or {},
        "retention_hours": values.get("retentionHours") or _retention_hours(values),
        "components": sorted(values.get("components") or {}),
        "asked": sorted(values.get("asked") or []),
        "external": values.get("external") or {},
    }


def manifest(cluster: Cluster, release: str = RELEASE) -> str:
    """What the last revision of a release is made of, as YAML."""
    done = _helm(cluster, "get", "manifest", release, check=False)
    if done.returncode:
        raise refusal(cluster, "`helm get manifest`", done.stderr)
    return done.stdout


def _retention_hours(values: Values) -> int:
    """Of a release that has no value for it, as those had that were made before there was one."""
    arguments = ((values.get("components") or {}).get("prometheus") or {}).get("args") or ()
    said = [each for each in arguments if each.startswith(_RETENTION)]
    return int(said[0].removeprefix(_RETENTION).removesuffix("h")) if said else 0


def settle(cluster: Cluster, release: str = RELEASE) -> None:
    """Undo what a killed `up` left half done, end what a killed `down` began.

    helm refuses to go on from there.
    """
    now = state(cluster, release)
    if now is None:
        return
    if not _lasts(cluster, release, now):
        remove(cluster, release)
    elif now["status"].startswith("pending") and (good := _good(cluster, release)):
        words = ("rollback", release, good, "--wait", f"--timeout={READY_SECONDS}s")
        _helm(cluster, *words, seconds=READY_SECONDS + 60.0)


def lasting(cluster: Cluster, release: str = RELEASE) -> dict[str, Any] | None:
    """As `state`, but None of what `settle` removes: it never ran, or is on its way out."""
    now = state(cluster, release)
    return now if now is not None and _lasts(cluster, release, now) else None


def _lasts(cluster: Cluster, release: str, now: Mapping[str, Any]) -> bool:
    if now["status"] in ("pending-install", "uninstalling"):  # half made, or half removed
        return False
    if now["status"] == "failed":
        return bool(now["version"] != 1)
    return not now["status"].startswith("pending") or _good(cluster, release) is not None


def _good(cluster: Cluster, release: str) -> str | None:
    """The last revision that ran; the last but one may be a bad one.

    That is the one that is deployed: helm calls a bad one superseded when going back from it fails.
    """
    said = json.loads(_helm(cluster, "history", release, "--output=json").stdout)
    for status in ("deployed", "superseded"):
        if found := [each["revision"] for each in said if each["status"] == status]:
            return str(max(found))
    return None


def install(cluster: Cluster, values: Values) -> None:
    """Install or upgrade our chart and wait until all is ready; undone if it does not become so.

    ComponentError names the pod that is stuck, why, and what to do.
    """
    with tempfile.TemporaryDirectory(prefix="harness-helm-") as folder:
        file = Path(folder) / "values.json"
        file.write_text(json.dumps({**values, "fingerprint": fingerprint(values)}))
        upgrade(cluster, Release(RELEASE, (str(CHART),), (file,)))


def upgrade(cluster: Cluster, release: Release) -> None:
    """Install or upgrade a release and wait until it is ready; undone if it does not become so.

    ComponentError names the pod that is stuck, why, and what to do.
    """
    before = state(cluster, release.name)
    argv = [*_argv(cluster), "upgrade", "--install", release.name, *release.chart]
    argv += [f"--values={file}" for file in release.values]
    argv += ["--wait", f"--timeout={release.seconds}s", "--history-max=5"]
    argv += [f"--description={release.note}"] if release.note else []
    with tempfile.TemporaryDirectory(prefix="harness-helm-") as folder:
        log = Path(folder) / "helm.log"
        process = processes.spawn(argv, log=log, env=cluster.environment)
        try:
            _await(cluster, release, process, log)
        except BaseException:
            processes.stop(process)
            with contextlib.suppress(CommandError):
                _undo(cluster, release, before)
            raise


def remove(cluster: Cluster, release: str = RELEASE) -> bool:
    """Uninstall the release; whether there was one."""
    if state(cluster, release) is None:  # helm says that it uninstalled what was not there
        return False
    words = ("uninstall", release, "--ignore-not-found", "--wait", "--timeout=180s")
    _helm(cluster, *words, seconds=240.0)
    return True


def _await(cluster: Cluster, release: Release, process: Process, log: Path) -> None:
    """Until helm has ended and every pod is ready: of a DaemonSet helm does not wait for each."""
    since: dict[str, float] = {}
    until = time.monotonic() + release.seconds
    while process.poll() is None or (not process.returncode and not _is_ready(cluster, release)):
        now = time.monotonic()
        if now > until:
            break
        found = pods.troubles(release.pods(cluster))
        stuck = {f"{each.pod}/{each.container}": each for each in found}
        since = {key: since.get(key, now) for key in stuck}
        for key, trouble in stuck.items():
            if trouble.kind == "crash" or now - since[key] > release.patience:
                raise pods.failure(cluster, trouble)
        time.sleep(_LOOK_SECONDS)
    if process.returncode or not _is_ready(cluster, release):
        raise _failure(cluster, release, log)


def _failure(cluster: Cluster, release: Release, log: Path) -> HarnessError:
    found = release.pods(cluster)
    for trouble in pods.troubles(found):
        return pods.failure(cluster, trouble)
    said = " ".join(processes.last_words(log))
    late = [each["metadata"]["name"] for each in found if not pods.is_ready(each)]
    if late and (warnings := pods.events(cluster, late[0])):
        said += f" Events of {late[0]}: {'; '.join(warnings)}."
    return CommandError(
        "helm did not bring the stack up." + (f" Not ready: {', '.join(late)}." if late else ""),
        said.strip(),
        f"{cluster.shown} describe pods says more.",
    )


def _is_ready(cluster: Cluster, release: Release) -> bool:
    return release.is_whole(cluster) and all(map(pods.is_ready, release.pods(cluster)))


def _undo(cluster: Cluster, release: Release, before: dict[str, Any] | None) -> None:
    if before is None or (before["status"] != "deployed" and before["version"] == 1):
        remove(cluster, release.name)
    elif before["status"] == "deployed":  # else there is nothing good to go back to
        _helm(cluster, "rollback", release.name, str(before["version"]))
        for trouble in pods.troubles(release.pods(cluster)):
            # a StatefulSet waits for its broken pod for ever, whatever it is told meanwhile
            cluster.run("delete", "pod", trouble.pod, "--ignore-not-found", "--wait=false")
        until = time.monotonic() + _UNDO_SECONDS
        while not _is_ready(cluster, release) and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)


def _argv(cluster: Cluster) -> list[str]:
    given = [f"--kubeconfig={cluster.kubeconfig}"] if cluster.kubeconfig else []
    where = [f"--kube-context={cluster.context}", f"--namespace={cluster.namespace}"]
    return ["helm", *given, *where]


def _helm(
    cluster: Cluster, *words: str, check: bool = True, seconds: float = 120.0
) -> processes.Completed:
    argv = [*_argv(cluster), *words]
    return processes.run(argv, check=check, timeout=seconds, env=cluster.environment)
