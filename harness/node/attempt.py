"""A trial tried: whatever goes wrong becomes its result, with what is over by it; for `session`."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path

from harness.errors import (
    CollectorError,
    HarnessError,
    LoadError,
    NeedError,
    StoreError,
    UnavailableError,
    WorkloadError,
)
from harness.node import trial
from harness.node.line import Gone
from harness.node.testbed import Testbed
from harness.wire.files import is_full
from harness.wire.spec import TrialResult, TrialSpec


def run(testbed: Testbed, spec: TrialSpec, folder: Path) -> TrialResult:
    """Run a trial; an error is its result, with the traceback in `folder`/error.txt."""
    try:
        return trial.run(testbed, spec, folder)
    except Exception as error:  # of a collector's answer, a damaged file: it is this trial's
        if (end := _end_behind(error)) is not None:
            raise end from error
        failure = told(error, str(folder))
        with suppress(OSError):
            (folder / "error.txt").write_text(traceback.format_exc())
    with suppress(LoadError, StoreError):  # no phase was running; one that was fails the next trial
        testbed.driver.finish(folder / "unfinished.npz")
    ends, service = failure.ends, ""
    try:
        testbed.service.check()
    except WorkloadError as error:  # it is dead: its own sentence says more
        service = str(error)
        ends = "block" if ends == "trial" else ends
    culprit = failure.collector if isinstance(failure, CollectorError) else ""
    return TrialResult(
        "skipped" if isinstance(failure, UnavailableError) else "failed",
        details={"failed_collector": culprit} if spec.shared and culprit else {},
        error=failure.to_dict(),
        over="" if ends == "trial" else ends,
        service=service,
    )


def _end_behind(error: BaseException | None) -> BaseException | None:
    """The end of the session, if something failed while that ended the trial."""
    while error is not None and not isinstance(error, Gone | KeyboardInterrupt):
        error = error.__context__
    return error


def told(error: Exception, where: str, other: type[HarnessError] = CollectorError) -> HarnessError:
    """The error as it is told; what the machine lacks for one collector ends only its trials."""
    if isinstance(error, NeedError) and other is CollectorError:
        return CollectorError(error.what, error.why, error.next_step)
    if isinstance(error, HarnessError):
        return error
    if isinstance(error, OSError) and is_full(error.errno):
        return StoreError(
            f"The disk of {where} is full.", str(error), "Make room there, then resume."
        )
    return other(f"It failed: {type(error).__name__}: {error}.")
