"""Reads what a gate judges: a run directory, a report.json, or one in git; `cli` calls it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from harness.analysis.gates import Measured
from harness.analysis.summary import Summary, summarize
from harness.errors import CommandError, InputError, StoreError
from harness.linux import processes
from harness.model import BASELINE, FACTORIAL, Comparison
from harness.report import rows
from harness.results.run import Run

_FIELDS = {f.name: f for f in fields(Comparison)}
_LENGTHS = ("window_seconds", "guard_seconds")
_MAKE_AGAIN = "Give the report.json of a run; `harness report RUN` makes it again."
_NUMBERS = {name for name, f in _FIELDS.items() if f.type == "float"}


def measured(path: Path) -> Measured:
    """The run in a directory or report.json; InputError or StoreError if it is neither.

    A directory that holds its trials is analysed again; of one that does not, its report is read.
    """
    kept = path / "report.json"
    if path.is_dir() and ((path / "run.json").exists() or not kept.exists()):
        run = Run.open(path)
        if run.records():
            return of_summary(summarize(run))
    file = kept if path.is_dir() else path
    return of_document(_parsed(_text(file), str(file)), path)


def against(where: str) -> Measured:
    """A run to compare with: what `measured` reads, or GITREF:PATH of a report.json or its folder.

    InputError if there is no such thing.
    """
    path = Path(where)
    if path.exists() or ":" not in where:
        return measured(path)
    if not where.endswith(".json"):
        where = where.rstrip("/") + "/report.json"
    try:
        shown = processes.run(["git", "show", "--end-of-options", where])
    except CommandError as error:
        raise InputError(
            f"git has no {where}.",
            error.why,
            "A path stands as in `git show REF:PATH`: from the top of the repository.",
        ) from error
    return of_document(_parsed(shown.stdout, where), Path(where))


def of_summary(summary: Summary) -> Measured:
    """A run that was just analysed."""
    experiment, about = summary.experiment, summary.about
    circumstances = {
        **vars(about),
        "warnings": summary.warnings,
        "stack": experiment.stack,
        "arms": [asdict(arm) for arm in experiment.arms],
        **{name: getattr(experiment, name) for name in _LENGTHS},
    }
    return Measured(
        summary.name,
        {(r.workload, r.arm, r.metric): r for r in summary.rows},
        tuple(experiment.workloads),
        tuple(arm.name for arm in experiment.arms if arm.collectors),
        summary.missing,
        harms=_harms(asdict(harm) for harm in summary.harms),
        blocks=_blocks((j.record.trial.workload, j.record.trial.block) for j in summary.usable),
        **_circumstances(circumstances),
    )


def of_document(document: Mapping[str, Any], origin: Path) -> Measured:
    """A report.json; StoreError if its schema is not ours or a part of it is damaged."""
    schema = document.get("schema_version")
    if schema != rows.SCHEMA_VERSION:
        raise StoreError(
            f"{origin} has schema_version {schema}, this version reads {rows.SCHEMA_VERSION}.",
            next_step="Make it again with `harness report` from its run.",
        )
    try:
        found = {key: comparison(row) for row in document["rows"] for key in [_key(row)]}
        trials, skipped = document["trials"], document["skipped_arms"]
        return Measured(
            str(document["run"]),
            found,
            _unique([*(w for w, _, _ in found), *(t["workload"] for t in trials)]),
            _with_collectors(document),
            lambda workload, arm, metric: _missing(trials, skipped, workload, arm),
            harms=_harms(document.get("harms", ())),
            blocks=_blocks((t["workload"], t["block"]) for t in trials if t["status"] == "ok"),
            **_circumstances(document),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{origin} is not a whole report.json.", repr(error), _MAKE_AGAIN
        ) from error


def _with_collectors(document: Mapping[str, Any]) -> tuple[str, ...]:
    if "arms" in document:
        return tuple(arm["name"] for arm in document["arms"] if arm["collectors"])
    # reports did not always list their arms; then all but the baseline had collectors
    every = ("rows", "trials", "skipped_arms")
    named = _unique(item["arm"] for key in every for item in document[key])
    return tuple(arm for arm in named if arm != BASELINE)


def _blocks(usable: Iterable[tuple[str, int]]) -> int:
    """Blocks of the workload with the fewest, of those that have usable trials."""
    found: dict[str, set[int]] = {}
    for workload, block in usable:
        found.setdefault(workload, set()).add(block)
    return min(map(len, found.values()), default=0)


def _settings(about: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: about[key] for key in ("idle_poll", *_LENGTHS) if about.get(key) is not None}
    found["stack"] = about.get("stack") or "sink"  # of reports that did not say so too
    found["load"] = (about.get("load_node") or {}).get("target") or "beside the service"
    found |= {
        f"arrivals of {workload}": each["arrivals"]
        for workload, each in _calibration(about).items()
        if "arrivals" in each
    }
    if had := (about.get("placement") or {}).get("workload"):
        found["service_cpus"] = len(had)
    if "arms" in about:
        found["arms"] = {arm["name"]: _phrase(arm) for arm in about["arms"]}
    return found


def _calibration(about: Mapping[str, Any]) -> Mapping[str, Any]:
    return about.get("calibration") or {}


def _phrase(arm: Mapping[str, Any]) -> str:
    against = f" against {'+'.join(arm['against'])}" if arm["against"] else ""
    return f"{'+'.join(arm['collectors']) or 'no collectors'}{against}, {arm['method']}"


def _circumstances(about: Mapping[str, Any]) -> dict[str, Any]:
    bare = tuple(arm["name"] for arm in about.get("arms", ()) if not arm["collectors"])
    return {
        "bare": bare or (BASELINE,),
        "controls": _controls(about.get("arms", ())),
        "settings": _settings(about),
        "started": str(about.get("started") or ""),
        "complete": bool(about.get("complete", False)),
        "facts": about.get("facts") or {},
        "version": str(about.get("version") or ""),
        "warnings": tuple(about.get("warnings") or ()),
        "rates": {w: float(found.get("rate", 0.0)) for w, found in _calibration(about).items()},
    }


def _harms(told: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Sentences, and whether each is certain, by workload and arm."""
    found: dict[tuple[str, str], tuple[Any, ...]] = {}
    for harm in told:
        at = harm["workload"], harm["arm"]
        found[at] = (*found.get(at, ()), (str(harm["sentence"]), bool(harm["certain"])))
    return found


def _controls(arms: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """For each arm the one with nothing installed that is compared by the same method."""
    bare: dict[str, str] = {}
    for arm in arms:
        if not arm["collectors"]:
            bare.setdefault(arm["method"], arm["name"])
    return {arm["name"]: bare[arm["method"]] for arm in arms if arm["method"] in bare}


def comparison(row: Mapping[str, Any]) -> Comparison:
    """A row of report.json, or of a submission."""
    kept: dict[str, Any] = {
        name: math.nan if value is None and name in _NUMBERS else value
        for name, value in row.items()
        if name in _FIELDS
    }
    return Comparison(**kept)


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["workload"], row["arm"], row["metric"]


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _missing(trials: Any, skipped: Any, workload: str, arm: str) -> str:
    for item in skipped:
        if item["arm"] == arm:
            return f"The arm was skipped: {item.get('reason', 'no reason was given')}"
    arms = {t["arm"] for t in trials}
    own = arm if arm in arms else FACTORIAL  # whose trials tell of an arm that has none
    mine = [t for t in trials if (t["workload"], t["arm"]) == (workload, own)]
    reasons = [f"{t['trial']}: {t['reason']}" for t in mine if t["status"] != "ok"]
    return " ".join(reasons[:1]) or "The report has no such row."


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(
            f"Cannot read {path}: {why}.",
            next_step="Give a run's folder below reports/, or a report.json.",
        ) from error


def _parsed(text: str, origin: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"{origin} is not JSON.", str(error), _MAKE_AGAIN) from error
    if not isinstance(document, dict):
        raise InputError(f"{origin} is not a report.json.", next_step=_MAKE_AGAIN)
    return document
