"""BPF iterators: programs that run once over what the kernel holds, when read; used by flows."""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_int, c_size_t, c_uint32, c_void_p

from harness.agent.libbpf import Map, Program
from harness.agent.library import LIB, checked

_BPF_TRACE_ITER = 28
_READ_BYTES = 4096

LIB.bpf_link_create.argtypes = (c_int, c_int, c_int, c_void_p)
LIB.bpf_iter_create.argtypes = (c_int,)


class _LinkOptions(ctypes.Structure):
    """The beginning of libbpf's struct bpf_link_create_opts."""

    _fields_ = (
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", c_void_p),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
    )


class Iterator:
    """An iterator program made ready; nothing of it runs but in `run`."""

    def __init__(self, program: Program, over: Map | None = None) -> None:
        self.hook = program.section
        fd = c_uint32(0 if over is None else over.fd)  # union bpf_iter_link_info
        options = _LinkOptions(sz=ctypes.sizeof(_LinkOptions))
        if over is not None:
            options.iter_info = ctypes.addressof(fd)
            options.iter_info_len = ctypes.sizeof(fd)
        code = LIB.bpf_link_create(program.fd, 0, _BPF_TRACE_ITER, byref(options))
        self._link = checked(code, f"The iterator {program.name} cannot be attached.")

    def run(self) -> None:
        """Walk once, to the end."""
        fd = checked(LIB.bpf_iter_create(self._link), f"{self.hook} cannot be read.")
        try:
            while os.read(fd, _READ_BYTES):
                pass
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give it up."""
        os.close(self._link)
