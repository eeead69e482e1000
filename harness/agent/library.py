"""libbpf.so.1 with its signatures, and its log kept for errors; used by libbpf and maps."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections import deque
from ctypes import c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

from harness.agent.errors import AgentError

_INT, _PTR, _STR, _U32 = c_int, c_void_p, c_char_p, c_uint32

PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
SAMPLE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)

# name -> (result, arguments)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (_PTR, (PRINT,)),
    "libbpf_num_possible_cpus": (_INT, ()),
    "libbpf_bpf_prog_type_str": (_STR, (_INT,)),
    "bpf_object__open_file": (_PTR, (_STR, _PTR)),
    "bpf_object__load": (_INT, (_PTR,)),
    "bpf_object__close": (None, (_PTR,)),
    "bpf_object__btf": (_PTR, (_PTR,)),
    "bpf_object__next_program": (_PTR, (_PTR, _PTR)),
    "bpf_object__next_map": (_PTR, (_PTR, _PTR)),
    "bpf_object__find_program_by_name": (_PTR, (_PTR, _STR)),
    "bpf_object__find_map_by_name": (_PTR, (_PTR, _STR)),
    "bpf_program__name": (_STR, (_PTR,)),
    "bpf_program__section_name": (_STR, (_PTR,)),
    "bpf_program__type": (_INT, (_PTR,)),
    "bpf_program__fd": (_INT, (_PTR,)),
    "bpf_program__autoload": (c_bool, (_PTR,)),
    "bpf_program__set_autoload": (_INT, (_PTR, c_bool)),
    "bpf_program__attach": (_PTR, (_PTR,)),
    "bpf_program__attach_cgroup": (_PTR, (_PTR, _INT)),
    "bpf_program__attach_perf_event": (_PTR, (_PTR, _INT)),
    "bpf_program__attach_tracepoint": (_PTR, (_PTR, _STR, _STR)),
    "bpf_program__attach_uprobe": (_PTR, (_PTR, c_bool, _INT, _STR, c_size_t)),
    "bpf_link__destroy": (_INT, (_PTR,)),
    "bpf_map__name": (_STR, (_PTR,)),
    "bpf_map__fd": (_INT, (_PTR,)),
    "bpf_map__type": (_INT, (_PTR,)),
    "bpf_map__key_size": (_U32, (_PTR,)),
    "bpf_map__value_size": (_U32, (_PTR,)),
    "bpf_map__max_entries": (_U32, (_PTR,)),
    "bpf_map__set_key_size": (_INT, (_PTR, _U32)),
    "bpf_map__set_max_entries": (_INT, (_PTR, _U32)),
    "bpf_map__set_autocreate": (_INT, (_PTR, c_bool)),
    "bpf_map__initial_value": (_PTR, (_PTR, ctypes.POINTER(c_size_t))),
    "bpf_map_lookup_elem": (_INT, (_INT, _PTR, _PTR)),
    "bpf_map_update_elem": (_INT, (_INT, _PTR, _PTR, c_uint64)),
    "bpf_map_delete_elem": (_INT, (_INT, _PTR)),
    "bpf_map_lookup_and_delete_elem": (_INT, (_INT, _PTR, _PTR)),
    "bpf_map_get_next_key": (_INT, (_INT, _PTR, _PTR)),
    "bpf_map_lookup_batch": (_INT, (_INT, _PTR, _PTR, _PTR, _PTR, _PTR, _PTR)),
    "bpf_map_lookup_and_delete_batch": (_INT, (_INT, _PTR, _PTR, _PTR, _PTR, _PTR, _PTR)),
    "bpf_obj_get_info_by_fd": (_INT, (_INT, _PTR, ctypes.POINTER(_U32))),
    "btf__find_by_name_kind": (_INT, (_PTR, _STR, _U32)),
    "btf__type_by_id": (_PTR, (_PTR, _U32)),
    "btf__name_by_offset": (_STR, (_PTR, _U32)),
    "btf__load_vmlinux_btf": (_PTR, ()),
    "btf__free": (None, (_PTR,)),
    "ring_buffer__new": (_PTR, (_INT, SAMPLE, _PTR, _PTR)),
    "ring_buffer__consume": (_INT, (_PTR,)),
    "ring_buffer__free": (None, (_PTR,)),
}

_ARENA_MAX = -8  # M_ARENA_MAX of <malloc.h>

# what follows the verifier's last words, and what libbpf says of itself
_NOISE = re.compile(r"^processed |-- (BEGIN|END) |failed to load|RLIMIT_MEMLOCK \(err")

# a va_list arrives as a pointer on x86-64 and arm64
_C = ctypes.CDLL(None)
_C.vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)
_log: deque[str] = deque(maxlen=200)


def _keep(level: int, template: bytes, arguments: int) -> int:
    if level > 1:  # debugging
        return 0
    line = ctypes.create_string_buffer(1 << 24 if b"LOAD LOG" in template else 4096)
    _C.vsnprintf(line, len(line), template, arguments)
    _log.extend(line.value.decode(errors="replace").splitlines())
    return 0


_PRINT = PRINT(_keep)  # must outlive the library


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise AgentError(
            "libbpf.so.1 cannot be loaded.", str(error), "Install libbpf 1.0 or newer (libbpf1)."
        ) from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(_PRINT)
    return library


LIB = _load()


def failure(what: str, code: int | None = None) -> AgentError:
    """An AgentError for a failed call; `code` is its negative result, or errno is taken."""
    number = -code if code is not None and code < 0 else ctypes.get_errno()
    words = [line.removeprefix("libbpf: ") for line in _log if not _NOISE.search(line)]
    _log.clear()
    reason = os.strerror(number) if number else "libbpf gave no reason"
    detail = "; ".join([f"{reason} ({errno.errorcode.get(number, number)})", *words[-2:]])
    if number in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
        return AgentError(what, "Loading BPF programs needs root.", "Run it as root (sudo).")
    if number == errno.EPERM:
        return AgentError(what, detail, "It needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.")
    return AgentError(what, detail, "`harness doctor` says what this kernel can run.")


def checked(code: int, what: str) -> int:
    """`code`, or AgentError when it is negative."""
    if code < 0:
        raise failure(what, code)
    return code


def existing(pointer: int | None, what: str) -> int:
    """`pointer`, or AgentError when it is null."""
    if not pointer:
        raise failure(what)
    return pointer


def give_back_memory() -> None:
    """Return what was freed to the system, where the C library can."""
    if hasattr(_C, "malloc_trim"):
        _C.malloc_trim(0)


def share_heap() -> None:
    """Let all threads allocate from one heap: one for each would keep what was freed in it."""
    if hasattr(_C, "mallopt"):
        _C.mallopt(_ARENA_MAX, 1)
