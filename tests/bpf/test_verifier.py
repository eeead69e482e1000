"""What the verifier does for each program is within its budget: it grows with every branch.

A budget is twice what was processed when it was set, on Linux 6.18: kernels differ by less. A
program that is near the limit of a million instructions is refused by some kernel, one that needs
many states takes long to load.
"""

from __future__ import annotations

import ctypes
import platform
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agent.libbpf import Object
from harness.agent.library import LIB, checked

OBJECTS = Path(__file__).resolve().parents[2] / "bpf" / ".output"
SET = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
SWITCHED = SET.pop("switched")  # of programs whose switches cost more than what is left of theirs
BUDGETS = SET
SAID = re.compile(r"processed (\d+) insns .* total_states (\d+) ")
STATISTICS = 4  # BPF_LOG_STATS
NEED_MORE = ("lsm", "fentry")  # than every kernel has: where they are refused, others are measured
SINCE = {"profile_tables": (5, 15)}  # of others every kernel is asked


SWITCHES = (
    "targ_selecting",
    "targ_containers",
    "targ_mixed",
)  # what is off is no code for the verifier


@pytest.mark.parametrize("switches", [(), SWITCHES], ids=["plain", "switched"])
@pytest.mark.parametrize("name", sorted(BUDGETS))
def test_each_program_is_verified_within_its_budget(name: str, switches: tuple[str, ...]) -> None:
    found = dict(_verified(OBJECTS / f"{name}.bpf.o", switches))
    budgets = BUDGETS[name] | (SWITCHED.get(name, {}) if switches else {})
    for program, budget in budgets.items():
        if program in found:
            instructions, states = found[program]
            assert instructions <= budget["instructions"], f"{name}/{program}"
            assert states <= budget["states"], f"{name}/{program}"
    assert not found.keys() - BUDGETS[name].keys(), "programs that have no budget"


def test_every_object_has_budgets() -> None:
    assert {path.name.removesuffix(".bpf.o") for path in OBJECTS.glob("*.bpf.o")} == set(BUDGETS)


def test_collectors_have_the_switches_that_are_verified() -> None:
    known = {}
    for path in OBJECTS.glob("*.bpf.o"):
        own = Object(path)
        known[path.name.removesuffix(".bpf.o")] = {
            each for each in SWITCHES if each in own._globals
        }
        own.close()
    both = {"targ_selecting", "targ_containers"}
    assert {name: found for name, found in known.items() if found} == {
        "flows": both, "guard": both, "http": both, "profile": {*both, "targ_mixed"},
    }  # fmt: skip


def _verified(path: Path, switches: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Instructions and states that the verifier went through, of each program that it took."""
    if not path.exists():
        pytest.skip("`make bpf` builds the objects")
    own = Object(path)
    for each in switches:
        if each in own._globals:
            own.set(each, True)
    logs = {}
    for program in own.programs:
        if program.section.startswith(NEED_MORE) or SINCE.get(program.name, ()) > _kernel():
            program.skip()
            continue
        logs[program.name] = _logged(program._pointer)
    try:
        own.load()
        for name, log in logs.items():
            said = SAID.search(log.value.decode(errors="replace"))
            assert said, log.value
            yield name, (int(said[1]), int(said[2]))
    finally:
        own.close()


def _logged(program: int) -> ctypes.Array[ctypes.c_char]:
    """Where the verifier writes its statistics of this program."""
    log = ctypes.create_string_buffer(1 << 16)
    pointer, size = ctypes.c_void_p(program), ctypes.c_size_t(len(log))
    checked(LIB.bpf_program__set_log_level(pointer, STATISTICS), "No level can be set.")
    checked(LIB.bpf_program__set_log_buf(pointer, log, size), "No buffer can be set.")
    return log


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split(".")[:2])
