"""In CI a skipped test fails: a suite that must run and did not is not a pass.

Tests of the observability stack are excepted: they need programs that take ten minutes to build,
and run where these are in the cache (`make stack` puts them there).
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    excepted = hasattr(report, "wasxfail") or item.get_closest_marker("stack")
    if report.skipped and os.environ.get("CI") and not excepted:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where it must run: {report.longrepr}"
    return report
