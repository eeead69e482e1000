"""What `flows` counts of a socket's totals, compiled for this machine: nothing is below zero."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.linux import processes

BPF = Path(__file__).parents[2] / "bpf"
SOURCE = """
#include <linux/types.h>
#include "flows_advance.bpf.h"

__u64 advanced(__u64 *counted, __u64 now)
{
	return advance(counted, now);
}
"""
pytestmark = pytest.mark.bpf


@pytest.fixture(scope="module")
def advanced(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], tuple[int, int]]:
    """What is new, and what is counted then."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    assert compiler is not None
    folder = tmp_path_factory.mktemp("host")
    source, library = folder / "advance.c", folder / "advance.so"
    source.write_text(SOURCE)
    flags = ["-O1", "-shared", "-fPIC", "-Wall", "-Werror", f"-I{BPF}"]
    processes.run([compiler, *flags, str(source), "-o", str(library)], timeout=120)
    function = ctypes.CDLL(str(library)).advanced
    function.argtypes = [ctypes.POINTER(ctypes.c_uint64), ctypes.c_uint64]
    function.restype = ctypes.c_uint64

    def call(counted: int, now: int) -> tuple[int, int]:
        kept = ctypes.c_uint64(counted)
        return function(ctypes.byref(kept), now % 2**64), kept.value

    return call


@pytest.mark.parametrize(
    ("counted", "now", "new"),
    [(0, 0, 0), (0, 700, 700), (700, 1000, 300), (700, 700, 0), (1000, 700, 0)],
)
def test_what_is_beyond_is_counted_once(
    advanced: Callable[[int, int], tuple[int, int]], counted: int, now: int, new: int
) -> None:
    assert advanced(counted, now) == (new, counted + new)


@pytest.mark.parametrize("counted", [0, 1, 100_000])
@pytest.mark.parametrize("below", [1, 1448, 1 << 40])
def test_a_difference_below_zero_is_nothing_new(
    advanced: Callable[[int, int], tuple[int, int]], counted: int, below: int
) -> None:
    """More was to be sent again than was sent, for want of memory."""
    assert advanced(counted, -below) == (0, counted)
