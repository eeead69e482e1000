"""Each kernel that this machine can have: programs load or are refused with a reason, and see all.

What is kept of a guest is written when it ended, whatever the tests say of it: docs/kernels.md
shows what is wrong, too.
"""

from __future__ import annotations

import os
import shlex
import shutil
from typing import Any

import pytest

from tests.kernels import debian, machine, record
from tests.kernels.events import CASES
from tests.kernels.scene import EVENTS

pytestmark = pytest.mark.kernels

SECONDS = float(os.environ.get("HARNESS_KERNEL_SECONDS", "3600"))
WANTED = os.environ.get("HARNESS_KERNEL_SUITES", "").split() or list(debian.SUITES)
TESTS = shlex.split(os.environ.get("HARNESS_KERNEL_TESTS", ""))  # tests/bpf, or some of them
TAKES_ALL = (6, 1)  # this kernel and later ones run every included collector
_ran: list[str] = []


@pytest.fixture(scope="session", params=WANTED)
def guest(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is kept of a guest that has just ended."""
    if not os.environ.get("HARNESS_KERNELS"):
        pytest.skip("`make test-kernels` boots the kernels: minutes each")
    if os.geteuid() != 0 or shutil.which(machine.QEMU) is None:
        pytest.skip(f"root and {machine.QEMU} are needed (`make test-kernels` installs it)")
    try:
        kernel = debian.kernel(request.param)
        results = machine.run(kernel, debian.CACHE / request.param / "guest", SECONDS, *TESTS)
    except debian.Missing as error:
        pytest.skip(f"{debian.SUITES[request.param]}: {error}")
    found = record.of(results, request.param)
    record.write(request.param, found)
    _ran.append(request.param)
    return found


def test_every_collector_loads_and_sees_all_or_is_refused_with_a_reason(
    guest: dict[str, Any],
) -> None:
    told = {(row["collector"], row["what"]): row for row in guest["cases"]}
    assert told.keys() == {(case.collector, case.what) for case in CASES}
    assert {key: row for key, row in told.items() if not _good(row)} == {}


def test_nobody_is_refused_by_a_kernel_that_has_all(guest: dict[str, Any]) -> None:
    """A reason excuses an old kernel; a program that a newer one refuses is a defect of ours."""
    version = tuple(int(part) for part in guest["release"].split(".")[:2])
    refused = [(row["collector"], row["what"]) for row in guest["cases"] if "refused" in row]
    assert version < TAKES_ALL or not refused


def test_every_type_of_hook_runs_a_program_or_is_refused_with_a_reason(
    guest: dict[str, Any],
) -> None:
    assert [row for row in guest["hooks"] if not _good(row)] == []


def _good(row: dict[str, Any]) -> bool:
    if "refused" in row:
        return bool(row["refused"]["what"] and row["refused"]["why"])
    return row.get("seen") == EVENTS


def test_the_doctor_says_what_is_so(guest: dict[str, Any]) -> None:
    """What it calls there runs a program, and what it calls refused does not."""
    tried = {row["name"]: "refused" not in row for row in guest["hooks"]}
    named = {"cgroup_skb": "cgroup_skb", "tp_btf": "tp_btf", "fentry": "fentry",
             "kprobe": "kprobe", "uprobe": "uprobe", "tp": "tracepoint", "perf_event": "perf_event",
             "raw_tp": "raw_tracepoint", "iter": "iter"}  # fmt: skip
    said = {name: not guest["doctor"][name] for name in named}
    assert said == {name: tried[hook] for name, hook in named.items()}


def test_one_kernel_at_least_was_there() -> None:
    if not os.environ.get("HARNESS_KERNELS"):
        pytest.skip("`make test-kernels` boots the kernels: minutes each")
    assert _ran, "no kernel could be booted; the reasons are above"
