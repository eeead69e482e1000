"""Functions are named by the files that hold them."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

from harness.agent.elf import Elf
from harness.agent.memory import mappings
from harness.agent.pprof import Frame, Mapping
from harness.node.file_symbols import FileSymbols, KernelSymbols

ADDRESS = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value or 0


def libc() -> Mapping:
    mapping = next(m for m in mappings(os.getpid()) if m.start <= ADDRESS < m.limit)
    with contextlib.closing(Elf(Path(mapping.path))) as elf:
        return mapping._replace(build_id=elf.build_id())


def test_a_function_is_named_by_its_file() -> None:
    symbols = FileSymbols([])
    assert symbols.name(Frame(ADDRESS + 1, libc())) == "qsort"
    assert symbols.name(Frame(libc().start, libc())) == ""  # before the first one


def test_another_file_in_its_place_names_nothing() -> None:
    assert FileSymbols([]).name(Frame(ADDRESS, libc()._replace(build_id="00"))) == ""


def test_what_has_no_file_has_no_name() -> None:
    assert FileSymbols([]).name(Frame(ADDRESS)) == ""
    assert FileSymbols([]).name(Frame(5, Mapping(1, 9, 0, "/no/such/file"))) == ""


def test_the_kernels_functions_are_named_by_what_it_lists(tmp_path: Path) -> None:
    listed = tmp_path / "kallsyms"
    listed.write_text(
        "ffffffff81000100 T vfs_read\nffffffff81000200 D data\n"
        "ffffffff81000080 t do_read\nffffffffc0000000 t hook\t[module]\n"
    )
    names = KernelSymbols(listed)
    assert names.name(0xFFFFFFFF81000100) == "vfs_read"
    assert names.name(0xFFFFFFFF810000FF) == "do_read"
    assert names.name(0xFFFFFFFF81000204) == "vfs_read"  # data is no function
    assert names.name(0xFFFFFFFFC0000010) == "hook"
    assert names.name(0xFFFFFFFF81000000) is None


def test_a_kernel_that_hides_its_addresses_names_nothing(tmp_path: Path) -> None:
    listed = tmp_path / "kallsyms"
    listed.write_text("0000000000000000 T vfs_read\n0000000000000000 T do_read\n")
    assert KernelSymbols(listed).name(0xFFFFFFFF81000100) is None
    assert KernelSymbols(tmp_path / "none").name(1) is None
