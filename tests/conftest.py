"""In CI a skipped test fails: a suite that must run and did not is not a pass.

Tests of the observability stack and of clusters are excepted: they need programs that take ten
minutes and more to build; `make test-stack` and `make test-cluster` run them.
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
    apart = item.get_closest_marker("stack") or item.get_closest_marker("cluster")
    excepted = hasattr(report, "wasxfail") or apart
    if report.skipped and os.environ.get("CI") and not excepted:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where it must run: {report.longrepr}"
    return report
