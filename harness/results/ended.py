"""Which runs a folder has, and how each ended; for `harness runs`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.plan import experiment as experiments
from harness.results.about import FILE
from harness.results.folder import holder, require_readable
from harness.results.run import Run


@dataclass(frozen=True)
class Ended:
    """A run in words; `trials` as in `12 of 24`, `resumable` if more of it can be measured."""

    name: str
    began: str
    services: str
    trials: str
    how: str
    resumable: bool = False


def runs(reports: Path) -> list[Ended]:
    """The runs in this folder, the earliest first; one that cannot be read is told as that.

    StoreError if what is in the folder cannot be seen.
    """
    require_readable(reports)
    found = [_ended(path) for path in reports.glob("*") if path.name[0] != "." and _is_run(path)]
    return sorted(found, key=lambda each: (each.began, each.name))


def _is_run(path: Path) -> bool:
    """Whether it has a run.json, or may have: that of a closed folder is not seen."""
    return os.path.lexists(path / FILE) or (path.is_dir() and _is_closed(path))


def _is_closed(path: Path) -> bool:
    """Whether it, its run.json or its trials are there and may not be read by this user."""
    how = {path: os.R_OK | os.X_OK, path / FILE: os.R_OK, path / "trials": os.R_OK | os.X_OK}
    return any(
        os.path.lexists(part) and not os.access(part, mode, effective_ids=True)
        for part, mode in how.items()
    )


def _ended(path: Path) -> Ended:
    if _is_closed(path):
        return Ended(path.name, "", "", "", "you may not read it: ask its owner, or root")
    try:
        run = Run.open(path)
        about, experiment, records = run.about(), run.experiment(), run.records()
    except HarnessError as error:
        return Ended(path.name, "", "", "", f"damaged: {error.what}")
    done = {record.trial.index for record in records if record.status in ("ok", "skipped")}
    early = about.ended_early
    planned = sum(
        t.workload not in early or t.block < int(early[t.workload]["blocks"])
        for t in experiments.plan(experiment)
    )
    who = holder(path)
    how, resumable = f"is being measured by {who}", False
    if not who:
        how, resumable = _how(path, about.complete, about.stopped_by, bool(about.ended))
    return Ended(
        path.name, (about.started or "")[:16].replace("T", " "), ", ".join(experiment.workloads),
        f"{len(done)} of {planned}", how, resumable,
    )  # fmt: skip


def _how(path: Path, complete: bool, stopped_by: str, ended: bool) -> tuple[str, bool]:
    if not (path / "trials").is_dir():
        return "only its report is kept", False
    if complete:
        return "complete", False
    if stopped_by:
        return f"stopped: {stopped_by}", True
    return ("ended with trials missing" if ended else "was killed"), True
