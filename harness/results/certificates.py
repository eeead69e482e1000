"""This machine's certificate: what `calibrate` found out about it, for `evaluate` to go by."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from harness.errors import StoreError

SCHEMA = 2
FILE = "certificate.json"
MACHINE = ("cpu_model", "cpus_online", "kernel")  # what must be the same for it to hold


def machine(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that tell whether a certificate is this machine's."""
    return {key: facts.get(key) for key in MACHINE}


def read(path: Path) -> dict[str, Any]:
    """A certificate file; StoreError if there is none, or one of another schema."""
    try:
        found = cast(dict[str, Any], json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise StoreError(
            f"There is no certificate {path}.", next_step="`harness calibrate` writes one."
        ) from error
    except ValueError as error:
        raise StoreError(
            f"The certificate {path} is damaged.", str(error), "Remove it, or calibrate again."
        ) from error
    if found.get("schema") != SCHEMA:
        raise StoreError(
            f"The certificate {path} has schema {found.get('schema')}, "
            f"this version reads {SCHEMA}.",
            next_step="Calibrate again, or remove the file: without one the default windows are "
            "used.",
        )
    return found


def load(reports: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The certificate below `reports` if it is of the machine of these facts, else None.

    Its keys are in docs/calibration.md; `window_seconds` and `guard_seconds` are what to measure
    with, `entry_ns` what entering a program of each hook costs. StoreError if it is damaged.
    """
    if not (reports / FILE).exists():
        return None
    found = read(reports / FILE)
    return found if found.get("machine") == machine(facts) else None


def run(reports: Path) -> str:
    """The run whose certificate is the one below `reports`; "" if none can be read."""
    try:
        return str(read(reports / FILE).get("run", ""))
    except StoreError:
        return ""


def publish(reports: Path, certificate: Mapping[str, Any]) -> bool:
    """Make it the machine's certificate below `reports`; whether it is.

    It is not where a fuller one of the same machine is there, one that took more minutes. One that
    cannot be read is replaced.
    """
    try:
        there = load(reports, certificate["machine"]) or {}
    except StoreError:
        there = {}
    if (there.get("minutes") or 0) > certificate["minutes"]:
        return False
    save(reports, certificate)
    return True


def save(folder: Path, certificate: Mapping[str, Any]) -> Path:
    """Write a certificate into a folder, whole or not at all; what is not a number is null."""
    path = folder / FILE
    partial = folder / f".{FILE}.partial"
    try:
        partial.write_text(json.dumps(finite({"schema": SCHEMA, **certificate}), indent=1) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}.") from error
    return path


def finite(value: Any) -> Any:
    """The same with None for every number that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value
