"""The run directory: the one place where an evaluation is written and everything else reads.

reports/<run>/
  run.json                     schema, seed, experiment, facts, command, warnings
  trials/<trial>/trial.json    written last: a trial without it did not happen
                 windows.jsonl     one row a window or slice: state, edges, meters' differences
                 requests.npz      every request of the switched part
                 ...               logs, profiles, the telemetry spool
  measurements.jsonl.gz        all of it as one long table, written with the report
  report.html report.md report.json
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from harness.errors import StoreError
from harness.model import Measurement, Trial, TrialStatus, Window, WindowRow
from harness.plan import experiment as experiments
from harness.plan.experiment import Experiment

SCHEMA = 1
_UNITS = {"requests": "{request}", "bpf.runs": "{run}"}  # of windows' meters; else seconds
_SET_ASIDE = re.compile(r"\.(interrupted|failed)\d*$")


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial: how it ended, and the values that hold for the whole of it."""

    trial: Trial
    status: TrialStatus
    reason: str = ""
    values: tuple[Measurement, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


class Run:
    """A run directory, to write during an evaluation and to read after it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, experiment: Experiment, **about: Any) -> Run:
        """Make the directory and its run.json; StoreError if it exists or cannot be written."""
        try:
            path.mkdir(parents=True)
            (path / "trials").mkdir()
        except FileExistsError as error:
            raise StoreError(f"{path} exists already.", next_step="Name another run.") from error
        except OSError as error:
            raise StoreError(f"Cannot create {path}.", str(error)) from error
        run = cls(path)
        run.write_about({"experiment": experiments.to_dict(experiment), **about})
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run; StoreError if there is none or its schema is not ours."""
        run = cls(path)
        schema = run.about().get("schema")
        if schema != SCHEMA:
            raise StoreError(f"{path} has schema {schema}, this version reads {SCHEMA}.")
        return run

    def about(self) -> dict[str, Any]:
        """run.json."""
        try:
            return cast(dict[str, Any], json.loads((self.path / "run.json").read_text()))
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.path} is not a run: it has no run.json.",
                next_step="`harness evaluate` makes one below reports/.",
            ) from error
        except ValueError as error:
            raise StoreError(f"{self.path / 'run.json'} is damaged.", str(error)) from error

    def write_about(self, about: dict[str, Any]) -> None:
        """Replace run.json as a whole."""
        self._write(self.path / "run.json", json.dumps({"schema": SCHEMA, **about}, indent=1))

    def note(self, **values: Any) -> None:
        """Replace some keys of run.json."""
        self.write_about({**self.about(), **values})

    def experiment(self) -> Experiment:
        """The experiment as it was run."""
        return experiments.from_dict(self.about()["experiment"], str(self.path))

    def folder(self, trial: Trial) -> Path:
        """Where a trial keeps its files; what an interrupted attempt left there is moved aside."""
        path = self.path / "trials" / trial.name
        if path.exists() and not (path / "trial.json").exists():
            n = sum(1 for _ in path.parent.glob(f"{trial.name}.interrupted*"))
            with self._writing(path):
                path.rename(path.with_name(f"{trial.name}.interrupted{n or ''}"))
        with self._writing(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def set_aside(self, trial: Trial) -> None:
        """Rename a trial's folder so that the trial can be run again without hiding the first."""
        path = self.path / "trials" / trial.name
        n = sum(1 for _ in path.parent.glob(f"{trial.name}.failed*"))
        with self._writing(path):
            path.rename(path.with_name(f"{trial.name}.failed{n or ''}"))

    def append(self, record: TrialRecord, windows: Iterable[WindowRow] = ()) -> None:
        """Keep a finished trial; its trial.json is written last, so a torn write is no trial."""
        folder = self.path / "trials" / record.trial.name
        with self._writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        rows = [{**asdict(row.window), "meters": row.meters} for row in windows]
        self._write(folder / "windows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self._write(folder / "trial.json", json.dumps(asdict(record), indent=1))

    def records(self) -> list[TrialRecord]:
        """All finished trials in the order of the plan, repeated attempts after the first."""
        found = [
            path
            for path in (self.path / "trials").glob("*/trial.json")
            if not _SET_ASIDE.search(path.parent.name)
        ]
        return sorted(
            (_record(path) for path in found), key=lambda r: (r.trial.index, r.trial.attempt)
        )

    def windows(self, trial: Trial) -> list[WindowRow]:
        """The windows of a finished trial."""
        path = self.path / "trials" / trial.name / "windows.jsonl"
        return [_window(json.loads(line)) for line in path.read_text().splitlines()]

    def measurements(self) -> Iterator[Measurement]:
        """The long table: every value of every trial, then every meter of every window."""
        for record in self.records():
            yield from record.values
            for row in self.windows(record.trial):
                yield from _melt(record.trial, row)

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the report whole or not at all; StoreError when the disk is full."""
        self._write(self.path / name, text)
        return self.path / name

    def write_measurements(self) -> Path:
        """Write the long table as gzipped JSON lines beside the report; StoreError as above."""
        path = self.path / "measurements.jsonl.gz"
        partial = path.with_name(f".{path.name}.partial")
        with self._writing(path, partial):
            with gzip.open(partial, "wt", compresslevel=6) as out:
                for measurement in self.measurements():
                    out.write(json.dumps(vars(measurement)) + "\n")
            partial.replace(path)
        return path

    def _write(self, path: Path, text: str) -> None:
        """Write a file whole or not at all; StoreError when the disk is full."""
        partial = path.with_name(f".{path.name}.partial")
        with self._writing(path, partial):
            with partial.open("w") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)

    @contextmanager
    def _writing(self, path: Path, partial: Path | None = None) -> Iterator[None]:
        """Make an OSError a StoreError that names the run to resume; what is half done goes."""
        try:
            yield
        except OSError as error:
            if partial is not None:
                partial.unlink(missing_ok=True)
            raise StoreError(
                f"Cannot write {path}: {error.strerror}.",
                "What was measured before is kept.",
                f"Make room, then `harness evaluate --resume {self.path}`.",
            ) from error


def _window(row: dict[str, Any]) -> WindowRow:
    meters = row.pop("meters")
    return WindowRow(Window(**row), meters)


def _melt(trial: Trial, row: WindowRow) -> Iterator[Measurement]:
    labels = {"state": "on" if row.window.on else "off", "quadruple": str(row.window.quadruple)}
    for metric, value in row.meters.items():
        unit = _UNITS.get(metric.partition(".")[0], _UNITS.get(metric, "s"))
        yield Measurement(
            metric, value, unit, trial.workload, trial.arm, trial.block, trial.name,
            row.window.index, labels,
        )  # fmt: skip


def _record(path: Path) -> TrialRecord:
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise StoreError(f"{path} is damaged.", str(error), "Remove it and resume.") from error
    return TrialRecord(
        Trial(**data["trial"]),
        data["status"],
        data["reason"],
        tuple(Measurement(**value) for value in data["values"]),
        data["extra"],
    )
