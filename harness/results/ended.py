"""Which runs a folder has, and how each ended; for `harness runs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.plan import experiment as experiments
from harness.results.about import FILE
from harness.results.folder import holder
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
    """The runs in this folder, the earliest first; a damaged one is told as that."""
    found = [
        _ended(path.parent) for path in reports.glob(f"*/{FILE}") if path.parent.name[0] != "."
    ]
    return sorted(found, key=lambda each: (each.began, each.name))


def _ended(path: Path) -> Ended:
    try:
        run = Run.open(path)
        about, experiment, records = run.about(), run.experiment(), run.records()
    except HarnessError as error:
        return Ended(path.name, "", "", "", f"damaged: {error.what}")
    done = {record.trial.index for record in records if record.status in ("ok", "skipped")}
    planned = len(experiments.plan(experiment))
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
