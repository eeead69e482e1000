"""Machines' certificates: what `calibrate` found out about one, for `evaluate` to go by.

reports/
  certificates/<hash>.json   a file a machine: several may share a folder of reports
  certificate.json           the one that earlier versions kept; read where there is no other
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from harness.errors import StoreError
from harness.results import documents
from harness.wire.files import write_whole

SCHEMA = 3
FILE = "certificate.json"
FOLDER = "certificates"
MACHINE = ("cpu_model", "cpus_online", "kernel")  # what must be the same for it to hold


def machine(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that tell whether a certificate is this machine's."""
    return {key: facts.get(key) for key in MACHINE}


def machine_hash(facts: Mapping[str, Any]) -> str:
    """A short name for a machine of these facts: the same for the same MACHINE."""
    told = json.dumps(machine(facts), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


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


def path_of(reports: Path, facts: Mapping[str, Any]) -> Path:
    """Where the certificate of the machine of these facts is below `reports`, if it has one."""
    own = reports / FOLDER / f"{machine_hash(facts)}.json"
    return own if own.exists() or not (reports / FILE).exists() else reports / FILE


def load(reports: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The certificate below `reports` of the machine of these facts; None if it has none.

    Its keys are in docs/calibration.md; `window_seconds` and `guard_seconds` are what to measure
    with, `entry_ns` what entering a program of each hook costs. What an earlier version wrote is
    none (`outdated`). StoreError if it is damaged.
    """
    path = path_of(reports, facts)
    if not path.exists() or outdated(reports, facts):
        return None
    found = read(path)
    return found if found.get("machine") == machine(facts) else None


def outdated(reports: Path, facts: Mapping[str, Any]) -> bool:
    """Whether this machine's certificate is one that an earlier version wrote."""
    try:
        schema = json.loads(path_of(reports, facts).read_text())["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(schema, int) and schema < SCHEMA


def run(reports: Path, facts: Mapping[str, Any]) -> str:
    """The run that the certificate of this machine is from; "" if none can be read."""
    try:
        return str((load(reports, facts) or {}).get("run", ""))
    except StoreError:
        return ""


def publish(reports: Path, certificate: Mapping[str, Any]) -> bool:
    """Make it the certificate of its machine below `reports`; whether it is.

    It is not where a fuller one of the same machine is there, one that took more minutes. One that
    cannot be read is replaced.
    """
    facts = certificate["machine"]
    try:
        there = load(reports, facts) or {}
    except StoreError:
        there = {}
    if (there.get("minutes") or 0) > certificate["minutes"]:
        return False
    _write(reports / FOLDER / f"{machine_hash(facts)}.json", certificate)
    return True


def save(folder: Path, certificate: Mapping[str, Any]) -> Path:
    """Write a calibration's own certificate into its folder; what is not a number is null."""
    return _write(folder / FILE, certificate)


def _write(path: Path, certificate: Mapping[str, Any]) -> Path:
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, documents.text({"schema": SCHEMA, **certificate}))
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {error.strerror}.",
            next_step="Make room there, or let it be written to.",
        ) from error
    return path
