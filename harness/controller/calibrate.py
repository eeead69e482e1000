"""Calibrates the harness on this machine: noise, entry cost, known effects; the CLI calls it.

reports/<run>/
  calibrate.json               what was asked for, so that it can be resumed
  noise/  injected/            two runs as `evaluate` makes them
  entry.json                   cost of entering an empty program, by hook
  certificate.json .md *.png   computed from those; the JSON is copied to reports/certificates/
                               if none that took longer is there
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import __version__
from harness.analysis import calibration, injection
from harness.controller import beginning, evaluate
from harness.controller import resolved as names
from harness.controller.progress import Tell
from harness.errors import ComponentError, HarnessError, StoreError
from harness.plan.calibration import (
    INJECTED,
    NOISE,
    Asked,
    expected_seconds,
    injected_experiment,
    noise_experiment,
)
from harness.plan.experiment import Experiment
from harness.report import certificate as report
from harness.results import certificates
from harness.results.folder import new_folder, writing
from harness.results.run import Run
from harness.targets.base import Target
from harness.wire.files import write_whole

ENTRY, ASKED = "entry.json", "calibrate.json"


def check(asked: Asked) -> None:
    """Fail before anything is made or touched, if it cannot be run."""
    names.check(injected_experiment(asked, {}))


def create(path: Path, asked: Asked) -> None:
    """Make the folder of a calibration; StoreError if it exists."""
    with new_folder(path) as draft:
        (draft / ASKED).write_text(json.dumps(asdict(asked), indent=1) + "\n")


def withdraw(path: Path) -> bool:
    """Remove the folder of a calibration of which nothing was begun; whether it was that."""
    if any(each.name != ASKED for each in path.iterdir()):
        return False
    (path / ASKED).unlink()
    path.rmdir()
    return True


def asked_of(path: Path) -> Asked:
    """What an existing calibration was asked for; StoreError if the folder is none."""
    try:
        return Asked(**json.loads((path / ASKED).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} is not a calibration: it has no {ASKED}.",
            next_step="`harness calibrate` makes one below reports/.",
        ) from error


def calibrate(path: Path, target: Target, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """Run what of a calibration has not been run, and write its certificate.

    A HarnessError that stops one of its runs is raised; what was measured is kept.
    """
    asked = asked_of(path)
    check(asked)
    whole = expected_seconds(asked)
    quiet = noise_experiment(asked)
    _run(path / NOISE, target, quiet, asked, _part(tell, 0.0, whole), {})
    done = quiet.expected_seconds()
    tell(done, whole, "cost of entering a program")
    entry = _entry(path, target)
    problem = entry.pop("problem", "")
    done += asked.entry_seconds
    noise_run = Run.open(path / NOISE)
    found = calibration.of_noise(noise_run)
    if not found:
        raise ComponentError(
            "The noise of this machine could not be measured.",
            "No trial of the noise run broke no rule.",
            f"{path / NOISE / 'trials'} tells which.",
        )
    rate = noise_run.about().calibration[asked.workload]["rate"]
    experiment = injected_experiment(asked, {**found, "rate": rate})
    _run(path / INJECTED, target, experiment, asked, _part(tell, done, whole), entry)
    if problem:
        Run.open(path / INJECTED).warn(problem)
    certificate = certify(path)
    certificates.publish(path.parent, certificate)
    return certificate


def certify(path: Path) -> dict[str, Any]:
    """Write certificate.json, .md and its figures from what was measured; needs no root."""
    asked, noise_run, injected = asked_of(path), Run.open(path / NOISE), Run.open(path / INJECTED)
    if not injection.readable(injected):
        raise StoreError(
            f"{path} was measured by an earlier version, which did not tell pauses from burns.",
            next_step="Calibrate again; the certificate that it wrote then is still there.",
        )
    about = noise_run.about()
    certificate = {
        "run": path.name,
        "version": __version__,
        "made": about.started,
        "command": asked.command,
        "minutes": asked.minutes,
        "machine": certificates.machine(about.facts),
        "facts": dict(about.facts),
        **calibration.certify(noise_run, injected, _measured_entry(path) or {}),
    }
    certificates.save(path, certificate)
    found = certificates.read(path / certificates.FILE)
    report.write(path, found)
    return found


def _part(tell: Tell, before: float, whole: float) -> Tell:
    """A run's progress as part of the calibration's."""
    return lambda done, _total, label: tell(min(before + done, whole), whole, label)


def _run(
    path: Path,
    target: Target,
    experiment: Experiment,
    asked: Asked,
    tell: Tell,
    entry: dict[str, Any],
) -> None:
    """Evaluate, or go on with what was begun; an error that stopped it is raised."""
    resolved = names.check(experiment)
    if path.exists() and Run.open(path).about().complete:
        return

    begin = beginning.beginning(
        path, experiment, resolved, Run.open(path) if path.exists() else None,
        command=list(asked.command), instrument={"entry_ns": entry}, target=target.name,
    )  # fmt: skip
    name = f"{path.parent.name}-{path.name}"
    outcome = evaluate.evaluate(target, name, experiment, resolved, begin, tell, path)
    if outcome.error is not None:
        raise outcome.error


def _entry(path: Path, target: Target) -> dict[str, Any]:
    """The cost of entry by hook, measured once; where that fails, nothing, and `problem` says why.

    A calibration does not end with it: without it the entry row of the bill is missing, no more.
    """
    if (measured := _measured_entry(path)) is not None:
        return measured
    try:
        found: dict[str, Any] = target.ask("entry")
    except HarnessError as error:
        return {"problem": f"The cost of entering a program was not measured: {error}"}
    with writing(path / ENTRY, f"harness calibrate --resume {path}"):
        write_whole(path / ENTRY, json.dumps(found, indent=1) + "\n")
    return found


def _measured_entry(path: Path) -> dict[str, Any] | None:
    """What was measured before; None if nothing was, or if the file is not whole."""
    try:
        found = json.loads((path / ENTRY).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
