"""A run as pandas DataFrames, and as Parquet files; for notebooks and `harness export`.

pandas and pyarrow are an extra (`make data`): measuring and reporting need neither.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import NeedError, StoreError
from harness.model import Measurement, Trial
from harness.plan import design
from harness.results.folder import writing
from harness.results.run import Run, TrialRecord
from harness.wire.files import whole

if TYPE_CHECKING:
    import pandas as pd

LACKING = NeedError(
    "pandas and pyarrow are not installed.",
    "Only DataFrames and Parquet need them.",
    "Install them: make data.",
)


@dataclass(frozen=True)
class Frames:
    """A run, a row each: window or slice, request, finished trial, estimate of report.json.

    `windows`: the meters of each, in s, requests and runs; `on`, or `on[NAME]` for each collector
    of a shared trial. `requests`: times in CLOCK_MONOTONIC ns, `latency_us` from when it was due.
    `trials`: how each ended, and what holds for the whole of it; `attrs["units"]` has the units.
    `estimates`: as docs/report-schema.md has its rows. What a run does not have is an empty frame.
    """

    windows: pd.DataFrame
    requests: pd.DataFrame
    trials: pd.DataFrame
    estimates: pd.DataFrame


def frames(run: Run | str | Path) -> Frames:
    """The run in this folder; NeedError without pandas, StoreError if it is no run or damaged.

    Estimates are those of its last report: `harness report RUN` makes it again.
    """
    pd = _pandas()
    run = run if isinstance(run, Run) else Run.open(Path(run))
    records = run.records()
    names = design.factors(run.experiment())[:-1]
    trials = pd.DataFrame([_trial(record) for record in records])
    trials.attrs["units"] = {_column(v): v.unit for record in records for v in record.values}
    windows = pd.DataFrame([row for record in records for row in _windows(run, record, names)])
    for column in [each for each in windows if each.startswith("on[")]:
        windows[column] = windows[column].astype("boolean")  # slices have no such states
    each = [_requests(pd, run, record) for record in records]
    told = [frame for frame in each if frame is not None]
    return Frames(
        windows,
        pd.concat(told, ignore_index=True) if told else pd.DataFrame(),
        trials,
        pd.DataFrame(_estimates(run.path)),
    )


def export(run: Run, folder: Path) -> list[Path]:
    """Write each frame as Parquet into a folder; the files. StoreError if it cannot be written."""
    found, paths = frames(run), []
    for name, frame in vars(found).items():
        path = folder / f"{name}.parquet"
        with writing(path, f"harness export {shlex.quote(str(run.path))} --to FOLDER"):
            folder.mkdir(parents=True, exist_ok=True)
            with whole(path) as out:
                frame.to_parquet(out, index=False)
        paths.append(path)
    return paths


def _pandas() -> Any:
    try:
        import pandas as pd
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise LACKING from error
    return pd


def _identity(trial: Trial) -> dict[str, Any]:
    named = {name: getattr(trial, name) for name in ("workload", "block", "arm", "kind", "attempt")}
    return {"trial": trial.name, **named}


def _trial(record: TrialRecord) -> dict[str, Any]:
    told = {_column(value): value.value for value in record.values}
    return {**_identity(record.trial), "status": record.status, "reason": record.reason, **told}


def _column(value: Measurement) -> str:
    """`rate_achieved`, or `agent_cpu_seconds[http]` of a value that has labels."""
    labels = ",".join(str(each) for each in value.labels.values())
    return f"{value.metric}[{labels}]" if labels else value.metric


def _windows(run: Run, record: TrialRecord, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        rows = run.windows(record.trial)
    except FileNotFoundError:
        return
    for row in rows:
        window = row.window
        states = dict(zip(names, window.states, strict=False))
        yield {
            **_identity(record.trial), "window": window.index, "quadruple": window.quadruple,
            "on": window.on, "start_ns": window.start_ns, "end_ns": window.end_ns,
            **{f"on[{name}]": on for name, on in states.items()}, **row.meters,
        }  # fmt: skip


def _requests(pd: Any, run: Run, record: TrialRecord) -> Any | None:
    from harness.results import requests  # numpy, which other commands need not wait for

    path = run.path / "trials" / record.trial.name / requests.NAME
    if not path.exists():
        return None
    found = requests.read(path)
    columns = {name: column for name, column in vars(found).items() if name != "route_names"}
    frame = pd.DataFrame({**_identity(record.trial), **columns})
    frame["route"] = found.route_names[found.route] if len(found.route_names) else ""
    frame["latency_us"] = (frame["end_ns"] - frame["due_ns"]) / 1e3
    return frame


def _estimates(path: Path) -> list[Mapping[str, Any]]:
    """The rows of its report, numbers that JSON has not as NaN."""
    file = path / "report.json"
    if not file.exists():
        return []
    try:
        rows = json.loads(file.read_text())["rows"]
        return [{key: math.nan if v is None else v for key, v in row.items()} for row in rows]
    except (ValueError, KeyError, AttributeError) as error:
        raise StoreError(
            f"{file} is damaged.", str(error), f"`harness report {path}` makes it again."
        ) from error
