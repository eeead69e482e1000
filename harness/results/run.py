"""The run directory: the one place where an evaluation is written and everything else reads.

reports/<run>/
  run.json                     what is known of the run as a whole: `about`
  trials/<trial>/trial.json    written last: a trial without it did not happen
                 windows.jsonl     one row a window or slice: state, edges, meters' differences
                 requests.npz      every request of the switched part
                 ...               logs, profiles, the telemetry spool
  measurements.jsonl.gz        all of it as one long table, written with the report
  report.html report.md report.json

docs/run-directory.md tells every file and key.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.model import Measurement, Trial, TrialStatus, Window, WindowRow
from harness.plan import allotment, design
from harness.plan import experiment as experiments
from harness.plan.experiment import Experiment
from harness.results import about as noted
from harness.results import documents
from harness.results.about import SCHEMA, About
from harness.results.folder import alone, new_folder, require_readable, unreadable, writing
from harness.wire.files import whole, write_whole

_UNITS = {
    "requests": "{request}",
    "bpf.runs": "{run}",
    "instructions": "{instruction}",
    "cycles": "{cycle}",
    "cache_misses": "{miss}",
}  # of windows' meters; else seconds
MEMORY = ("rss", "pss", "private_dirty", "maps")  # kinds of an agent's memory that are followed
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
        self._locked = False
        self._noting = threading.Lock()

    @classmethod
    def create(cls, path: Path, experiment: Experiment, **known: Any) -> Run:
        """Make the directory with its run.json, whole or not at all; StoreError if it exists.

        `known` are fields of `About`.
        """
        known = {"experiment": experiments.to_dict(experiment), **known}
        noted.check(known)
        with new_folder(path) as draft:
            (draft / "trials").mkdir()
            write_whole(draft / noted.FILE, noted.text(known), lasting=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run; StoreError if there is none or its schema is not ours."""
        run = cls(path)
        schema = noted.read(path).get("schema")
        if schema != SCHEMA:
            raise StoreError(
                f"{path} has schema {schema}, this version reads {SCHEMA}.",
                next_step="Read it with the version that wrote it, which its report names.",
            )
        return run

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only this process writes into the run meanwhile; StoreError, naming another that does.

        It is to be held for as long as something is measured into it. Whatever writes a trial or
        run.json takes it for that moment, unless this object has it already.
        """
        if self._locked:
            yield
            return
        with alone(self.path):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def about(self) -> About:
        """run.json; StoreError if there is none or it is damaged."""
        return noted.of(noted.read(self.path), self.path)

    def note(self, **known: Any) -> None:
        """Replace some fields of run.json; TypeError if it has no such field or not of that kind.

        StoreError if another process measures into the run.
        """
        noted.check(known)
        with self._noting, self.lock():
            text = noted.text({**noted.read(self.path), **known})
            self._write(self.path / noted.FILE, text)

    def warn(self, sentence: str) -> None:
        """Keep what a reader of the report should know of the run as a whole; the same one once."""
        with self.lock():
            if sentence not in (warnings := self.about().warnings):
                self.note(warnings=[*warnings, sentence])

    def experiment(self) -> Experiment:
        """The experiment as it was run, with what its pilot decided."""
        about = self.about()
        found = experiments.from_dict(about.experiment, str(self.path))
        return replace(found, allotted=allotment.told(about.pilot))

    def folder(self, trial: Trial) -> Path:
        """Where a trial keeps its files; what an interrupted attempt left there is moved aside."""
        path = self.path / "trials" / trial.name
        with self.lock(), self._writing(path):
            if path.exists() and not (path / "trial.json").exists():
                n = sum(1 for _ in path.parent.glob(f"{trial.name}.interrupted*"))
                path.rename(path.with_name(f"{trial.name}.interrupted{n or ''}"))
            path.mkdir(parents=True, exist_ok=True)
        return path

    def set_aside(self, trial: Trial) -> None:
        """Rename a trial's folder so that the trial can be run again without hiding the first."""
        path = self.path / "trials" / trial.name
        n = sum(1 for _ in path.parent.glob(f"{trial.name}.failed*"))
        with self.lock(), self._writing(path):
            path.rename(path.with_name(f"{trial.name}.failed{n or ''}"))

    def append(self, record: TrialRecord, windows: Iterable[WindowRow] = ()) -> None:
        """Keep a finished trial; its trial.json is written last, so a torn write is no trial."""
        path = self.path / "trials" / record.trial.name
        rows = [_kept(row) for row in windows]
        with self.lock():
            with self._writing(path):
                path.mkdir(parents=True, exist_ok=True)
            self._write(path / "windows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
            self._write(path / "trial.json", json.dumps(asdict(record), indent=1))

    def records(self, *, set_aside: bool = False) -> list[TrialRecord]:
        """All finished trials in the order of the plan, repeated attempts after the first.

        With those that were set aside because they failed, if asked for. StoreError where the user
        may not look.
        """
        folder = self.path / "trials"
        require_readable(folder)
        found = [
            path
            for path in folder.glob("*/trial.json")
            if set_aside or not _SET_ASIDE.search(path.parent.name)
        ]
        return sorted(
            (_record(path) for path in found), key=lambda r: (r.trial.index, r.trial.attempt)
        )

    def windows(self, trial: Trial) -> list[WindowRow]:
        """The windows of a finished trial; StoreError if they are damaged."""
        path = self.path / "trials" / trial.name / "windows.jsonl"
        with _reading(path):
            return [_window(json.loads(line)) for line in path.read_text().splitlines()]

    def memory(self, trial: Trial) -> list[dict[str, Any]]:
        """The agents' memory while they stayed on, as `node.memory_log` wrote it; [] if it did not.

        StoreError if it is damaged.
        """
        path = self.path / "trials" / trial.name / "memory.jsonl"
        if not path.exists():
            return []
        with _reading(path):
            return [json.loads(line) for line in path.read_text().splitlines()]

    def measurements(self) -> Iterator[Measurement]:
        """The long table: of every trial its values, its agents' memory as it went, and every
        meter of every window.
        """
        names = design.factors(self.experiment())
        for record in self.records():
            yield from record.values
            for sample in self.memory(record.trial):
                yield from _resident(record.trial, sample)
            for row in self.windows(record.trial):
                yield from _melt(record.trial, row, names)

    def write_text(self, name: str, text: str, folder: Path | None = None) -> Path:
        """Write a file of the report whole or not at all; StoreError when the disk is full.

        Into the run, or another folder that is there.
        """
        path = (folder or self.path) / name
        self._write(path, text)
        return path

    def write_measurements(self, folder: Path | None = None) -> Path:
        """Write the long table as gzipped JSON lines beside the report; StoreError as above."""
        path = (folder or self.path) / "measurements.jsonl.gz"
        with self._writing(path), whole(path) as out, documents.packed(out) as lines:
            for measurement in self.measurements():
                lines.write(json.dumps(vars(measurement)) + "\n")
        return path

    def _write(self, path: Path, text: str) -> None:
        """Write a file whole or not at all, to the disk; StoreError when that is full."""
        with self._writing(path):
            write_whole(path, text, lasting=True)

    def _writing(self, path: Path) -> AbstractContextManager[None]:
        run = shlex.quote(str(self.path))
        ours = path.is_relative_to(self.path)
        again = f"harness evaluate --resume {run}" if ours else f"harness report {run} --to FOLDER"
        return writing(path, again, "What was measured before is kept.")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make what a damaged file of a trial leads to, or one that may not be read, a sentence."""
    try:
        yield
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged.", str(error), f"Remove {path.parent}, then resume the run."
        ) from error


def _kept(row: WindowRow) -> dict[str, Any]:
    """A line of windows.jsonl; `states` only where there are some."""
    window = asdict(row.window)
    if not window["states"]:
        del window["states"]
    return {**window, "meters": row.meters}


def _window(row: dict[str, Any]) -> WindowRow:
    meters, states = row.pop("meters"), tuple(row.pop("states", ()))
    return WindowRow(Window(**row, states=states), meters)


def _melt(trial: Trial, row: WindowRow, factors: Sequence[str]) -> Iterator[Measurement]:
    """Each meter, with the window's state, or those of the factors of a design (but the null)."""
    states = dict(zip(factors[:-1], row.window.states, strict=False))
    told = states if row.window.states else {"state": row.window.on}
    labels = {name: "on" if on else "off" for name, on in told.items()}
    labels["quadruple"] = str(row.window.quadruple)
    for metric, value in row.meters.items():
        name = metric.partition("[")[0]
        unit = _UNITS.get(name.partition(".")[0], _UNITS.get(name, "s"))
        yield Measurement(
            metric, value, unit, trial.workload, trial.arm, trial.block, trial.name,
            row.window.index, labels,
        )  # fmt: skip


def _resident(trial: Trial, sample: dict[str, Any]) -> Iterator[Measurement]:
    """A line of memory.jsonl."""
    labels = {"collector": sample["collector"], "seconds": f"{sample['seconds']:g}"}
    for name in MEMORY:
        yield Measurement(
            f"agent_memory_{name}_bytes", sample[name], "By", trial.workload, trial.arm,
            trial.block, trial.name, None, labels,
        )  # fmt: skip


def _record(path: Path) -> TrialRecord:
    with _reading(path):
        data = json.loads(path.read_text())
        return TrialRecord(
            Trial(**data["trial"]),
            data["status"],
            data["reason"],
            tuple(Measurement(**value) for value in data["values"]),
            data["extra"],
        )
