"""In CI a skipped test fails: a suite that must run and did not is not a pass.

Tests of the observability stack, of clusters and of other kernels are excepted: they need what
takes ten minutes and more; `make test-stack`, `make test-cluster` and `make test-kernels` run them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# no test asserts a time, nor how long it takes to make its examples up
settings.register_profile("own", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("own")

# who ends a run early, as `timeout` does, leaves no more behind than Ctrl-C
signal.signal(signal.SIGTERM, signal.default_int_handler)

_APART = ("stack", "cluster", "kernels")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    apart = any(item.get_closest_marker(name) for name in _APART)
    excepted = hasattr(report, "wasxfail") or apart
    if report.skipped and os.environ.get("CI") and not excepted:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where it must run: {report.longrepr}"
    return report
