"""One checked file with the figures of a run, for a pull request; `evidence` and `cli` call it.

It holds figures, the machine and versions, and nothing that names who measured what: no command
line, host name, address or path, no name of a service, arm, experiment or run of one's own.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import __version__
from harness.analysis import STATISTICS, controls
from harness.analysis.summary import Summary, summarize
from harness.collectors import REGISTRY, subject
from harness.collectors.claim import together
from harness.errors import StoreError
from harness.model import Arm, Comparison
from harness.plan import workloads
from harness.report import submission_check
from harness.results import check, documents
from harness.results.folder import writing
from harness.results.run import Run
from harness.wire.files import write_whole

SCHEMA = submission_check.SCHEMA
SUFFIX = ".submission.json"
MACHINE = submission_check.MACHINE
LEFT_OUT = (
    "command line, environment, host names, addresses and paths",
    "names of the run, of its experiment and arms, and of services that do not ship",
)
LEAST_BLOCKS = 2
MOST_BYTES = 1_000_000
_CPU = submission_check.CPU
_PLAIN = re.compile(r"([a-z0-9-]+)(:[a-z-]+=[0-9.]+(,[a-z-]+=[0-9.]+)*)?")
_KEPT = ("metric", "unit", "estimate", "low", "high", "n", "mde", "level", "p")
_AGAIN = "Make a run with: harness evaluate."


def make(run: Run) -> dict[str, Any]:
    """The submission of a run; StoreError, a sentence for each reason, if it is fit for none."""
    if not (run.path / "trials").is_dir():
        raise StoreError(
            f"{run.path} holds no trials: only its report is kept, which cannot be checked.",
            next_step="Submit the folder that harness evaluate wrote.",
        )
    _refuse(run, check.check(run), "is damaged")
    summary = summarize(run)
    _refuse(run, list(_unfit(summary)), "is not fit to be compared")
    return _signed(_document(summary))


def write(document: Mapping[str, Any], folder: Path) -> Path:
    """Into a folder, by its date and checksum; StoreError where that fails."""
    name = _name(document)
    with writing(folder / name, "harness submit RUN --to FOLDER"):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, json.dumps(document, indent=1) + "\n")
    return folder / name


def read(path: Path) -> dict[str, Any]:
    """A submission; StoreError that says what is wrong with it."""
    try:
        found = json.loads(_text(path))
        problem = next(submission_check.problems(found, checksum), "")
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"The submission {path} cannot be read.", f"{error}.",
            "Take the file again from who made it, or remove it.",
        ) from error  # fmt: skip
    if not problem and path.name != _name(found):  # a name is shown, and one run counts once
        problem = f"its name is not that which harness submit gave it: {_name(found)}."
    if problem:
        raise StoreError(
            f"The submission {path.name} is not taken: {problem}",
            next_step="Make it again from its run: harness submit RUN.",
        )
    return dict(found)


def _text(path: Path) -> str:
    """What a file holds that somebody gave; ValueError if it is no plain file, or too large."""
    kind = path.lstat()
    if not stat.S_ISREG(kind.st_mode):
        raise ValueError("It is no regular file")
    if kind.st_size > MOST_BYTES:
        raise ValueError(f"It has {kind.st_size:,} bytes, and {MOST_BYTES:,} are the most")
    return path.read_text(encoding="utf-8")


def _name(document: Mapping[str, Any]) -> str:
    return f"{document['began']}-{document['sha256'][:12]}{SUFFIX}"


def checksum(document: Mapping[str, Any]) -> str:
    """Of all but itself. It shows damage and an edit by mistake; who wants to can make another."""
    told = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def target(command: Sequence[str]) -> str:
    """The kind of target of a command line, without its name or host."""
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == "--target" or word.startswith("--target="):
            told = following if word == "--target" else word.removeprefix("--target=")
            return re.split("[:,]", told)[0]
    return "local"


def machine(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a machine: nothing that names it."""
    return {key: facts[key] for key in MACHINE if key in facts}


def _refuse(run: Run, problems: Sequence[str], what: str) -> None:
    if problems:
        raise StoreError(f"{run.path} {what}.", " ".join(problems[:3]), _AGAIN)


def _unfit(summary: Summary) -> Iterator[str]:
    """Why a whole run says too little."""
    if not summary.about.complete:
        yield "It is not complete: `harness evaluate --resume` goes on with it."
    if not _usable_arms(summary):
        yield "No arm with collectors that ship has a valid trial."
    for workload in summary.experiment.workloads:
        blocks = {
            j.record.trial.block for j in summary.usable if j.record.trial.workload == workload
        }
        if len(blocks) < LEAST_BLOCKS:
            yield (
                f"{workload} has valid trials in {len(blocks)} block(s), and processes differ: "
                f"{LEAST_BLOCKS} are the least."
            )
    nulls = [row for row in summary.rows if row.metric == _CPU and row.arm in _nulls(summary)]
    if not nulls:
        yield "It has no arm with nothing installed (A/A) to believe its differences by."
    for row in nulls:
        if controls.excludes_zero(row):
            yield (
                f"Its A/A failed: with nothing installed the CPU of {row.workload} differs by "
                f"{row.estimate:+.3g} % [{row.low:+.3g}, {row.high:+.3g}]."
            )


def _nulls(summary: Summary) -> set[str]:
    return {arm.name for arm in summary.experiment.arms if not arm.collectors}


def _usable_arms(summary: Summary) -> list[Arm]:
    """The arms of collectors that ship, which have figures; options that are paths stay at home."""
    measured = {row.arm for row in summary.rows}
    return [
        arm for arm in summary.experiment.arms
        if arm.collectors and not arm.against and arm.name in measured
        and all(_ships(each) for each in arm.collectors)
    ]  # fmt: skip


def _ships(spec: str) -> bool:
    found = _PLAIN.fullmatch(spec)
    return found is not None and (found[1] in REGISTRY or found[1] in subject.names())


def _document(summary: Summary) -> dict[str, Any]:
    about = summary.about
    nulls = [arm for arm in summary.experiment.arms if not arm.collectors]
    arms = [*nulls, *_usable_arms(summary)]
    names = {arm.name: f"{i}-{together(arm.collectors) or 'baseline'}"
             for i, arm in enumerate(arms)}  # fmt: skip
    services = _services(summary.experiment.workloads)
    fewer = len(arms) < len(summary.experiment.arms)
    versions = about.facts.get("versions") or {}
    return {
        "schema": SCHEMA,
        "statistics": STATISTICS,
        "version": about.version or __version__,
        "began": str(about.started or "")[:10],
        "target": re.split("[:,]", about.target)[0],
        "machine": machine(about.facts),
        "versions": {**{str(k): str(v) for k, v in versions.items()}, **_subjects(arms)},
        "arms": {
            names[arm.name]: {"collectors": together(arm.collectors), "method": arm.method}
            for arm in arms
        },
        "rates": {
            services[w]: float(found["rate"])
            for w, found in about.calibration.items() if w in services and "rate" in found
        },
        "trials": dict(Counter(judged.status for judged in summary.trials)),
        "silent": sorted([services[w], names[a]] for w, a in summary.idle if a in names),
        "harmed": sorted(
            [services[harm.workload], names[harm.arm]]
            for harm in summary.harms if harm.certain and harm.arm in names
        ),
        "figures": [
            _figure(row, services[row.workload], names[row.arm])
            for row in summary.rows if row.arm in names and _is_told(row)
        ],
        "left_out": [*LEFT_OUT, *["arms with collectors that do not ship, or two sets"] * fewer],
    }  # fmt: skip


def _services(names: Sequence[str]) -> dict[str, str]:
    """What each service is called: one of one's own by its number alone."""
    shipped = workloads.names()
    return {
        name: name if name in shipped else f"own-service-{i}" for i, name in enumerate(names, 1)
    }


def _subjects(arms: Sequence[Arm]) -> dict[str, str]:
    """The versions of other people's collectors."""
    found = {spec: subject.find(spec) for arm in arms for spec in arm.collectors}
    return {
        spec: each.subject.source.version
        for spec, each in found.items()
        if each is not None and each.subject is not None and each.subject.source.version
    }


def _is_told(row: Comparison) -> bool:
    return submission_check.is_known(row.metric) and all(
        map(math.isfinite, (row.estimate, row.low, row.high))
    )


def _figure(row: Comparison, workload: str, arm: str) -> dict[str, Any]:
    told = asdict(row)
    kept = {key: told[key] for key in _KEPT}
    # methods may name what else was on
    method = re.sub(r"less those of .*", "less those of others", row.method)
    figure: dict[str, Any] = documents.finite(
        {"workload": workload, "arm": arm, **kept, "method": method}
    )
    return figure


def _signed(document: dict[str, Any]) -> dict[str, Any]:
    whole = json.loads(json.dumps(document))  # what a reader will have
    signed = {**whole, "sha256": checksum(whole)}
    for problem in submission_check.problems(signed, checksum):
        raise StoreError(
            f"The run gives no submission that would be taken: {problem}",
            next_step="See docs/claims.md for what is taken, and what `harness report` says.",
        )
    return signed
