"""What makes each type of hook run, many times in a loop of the C library; used by entry.

No compiler is needed at run time: lfind(3) calls a function of the library for each element of
an array until it returns 0, sendmmsg(2) sends a thousand datagrams, a socket connects anew.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from ctypes import c_int, c_size_t, c_uint, c_void_p
from pathlib import Path
from typing import Protocol

from harness.agent.errors import AgentError
from harness.agent.iterator import Iterator
from harness.agent.libbpf import Object
from harness.agent.maps import Map
from harness.agent.memory import mappings
from harness.agent.perf import Sampler

SAMPLES_HZ = 10_000
_BATCH = 1024  # UIO_MAXIOV: the most that sendmmsg takes
_ELEMENTS = 4096

_C = ctypes.CDLL(None)
_C.lfind.argtypes = (c_void_p, c_void_p, ctypes.POINTER(c_size_t), c_size_t, c_void_p)
_C.lfind.restype = c_void_p


class Switched(Protocol):
    """An attached program."""

    def destroy(self) -> None:
        """Detach it."""
        ...


class Stimulus(Protocol):
    """Makes events; while its program is attached, each of them runs the program once."""

    def attach(self, obj: Object) -> Switched:
        """Attach the one program of `obj`; AgentError where this kernel cannot."""
        ...

    def run(self, count: int) -> float:
        """Make about `count` events; how many there were exactly."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class _Calls:
    """Calls a function of the C library that never returns 0; its program attaches itself."""

    def __init__(self, function: str) -> None:
        self._function = ctypes.cast(getattr(_C, function), c_void_p)

    def attach(self, obj: Object) -> Switched:
        return obj.programs[0].attach()

    def run(self, count: int) -> float:
        _C.lfind(None, None, ctypes.byref(c_size_t(count)), 0, self._function)
        return count

    def close(self) -> None:
        pass


class _Uprobe(_Calls):
    """getpid() of the C library, in this process only."""

    def __init__(self) -> None:
        super().__init__("getpid")
        address = self._function.value or 0
        found = [m for m in mappings(os.getpid()) if m.start <= address < m.limit]
        if not found:
            raise AgentError("The C library is not mapped from a file.")
        self._path = Path(found[0].path)
        self._offset = address - found[0].start + found[0].offset

    def attach(self, obj: Object) -> Switched:
        return obj.programs[0].attach_uprobe(self._path, self._offset, pid=os.getpid())


class _Samples(_Calls):
    """System calls, sampled by the clock; the program counts what came on the caller's CPU."""

    def __init__(self) -> None:
        super().__init__("getpid")
        self._sampler: Sampler | None = None
        self._samples: Map | None = None

    def attach(self, obj: Object) -> Switched:
        if self._sampler is None:
            self._sampler = Sampler(obj.programs[0].fd, SAMPLES_HZ)
            self._samples = obj.map("samples")
        self._sampler.enable()
        return self._sampler

    def run(self, count: int) -> float:
        before = self._counted()
        super().run(count)
        return self._counted() - before

    def _counted(self) -> int:
        if self._samples is None:
            return 0
        values, cpu = self._samples.lookup(bytes(4)) or b"", _C.sched_getcpu()
        return int.from_bytes(values[8 * cpu : 8 * cpu + 8], sys.byteorder)

    def close(self) -> None:
        if self._sampler is not None:
            self._sampler.close()


class _InCgroup:
    """Attaches to the cgroup that this process is in."""

    def __init__(self, cgroup: Path) -> None:
        self._directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)

    def attach(self, obj: Object) -> Switched:
        return obj.programs[0].attach_cgroup(self._directory)

    def close(self) -> None:
        os.close(self._directory)


class _Connects(_InCgroup):
    """connect() of a UDP socket, which sends nothing; for TCP the kernel locks one time less."""

    def __init__(self, cgroup: Path) -> None:
        super().__init__(cgroup)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def run(self, count: int) -> float:
        deque(map(self._socket.connect, itertools.repeat(("127.0.0.1", 9), count)), maxlen=0)
        return count

    def close(self) -> None:
        self._socket.close()
        super().close()


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", c_void_p), ("len", c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", c_void_p),
        ("namelen", c_uint),
        ("iov", ctypes.POINTER(_Vector)),
        ("iovlen", c_size_t),
        ("control", c_void_p),
        ("controllen", c_size_t),
        ("flags", c_int),
        ("len", c_uint),
    )


class _Datagrams(_InCgroup):
    """Datagrams of one byte to a socket that nobody reads: once full, it drops each alike."""

    def __init__(self, cgroup: Path) -> None:
        super().__init__(cgroup)
        self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._receiver.bind(("127.0.0.1", 0))
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect(self._receiver.getsockname())
        self._byte = ctypes.create_string_buffer(1)
        self._vector = _Vector(ctypes.addressof(self._byte), 1)
        one = _Message(iov=ctypes.pointer(self._vector), iovlen=1)
        self._messages = (_Message * _BATCH)(*[one] * _BATCH)

    def run(self, count: int) -> float:
        sent = 0
        while sent < count:
            now = _C.sendmmsg(self._sender.fileno(), self._messages, min(_BATCH, count - sent), 0)
            if now <= 0:
                raise AgentError("Datagrams cannot be sent over the loopback interface.")
            sent += now
        return sent

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()
        super().close()


class _Walks:
    """Walks over a map of thousands of elements while on, over one of a single one while off."""

    def __init__(self) -> None:
        self._walks: tuple[Iterator, Iterator] | None = None
        self._on = False

    def attach(self, obj: Object) -> Switched:
        if self._walks is None:
            for key in range(_ELEMENTS):
                obj.map("many").update(key.to_bytes(4, "little"), bytes(4))
            obj.map("few").update(bytes(4), bytes(4))
            program = obj.programs[0]
            few, many = (Iterator(program, over=obj.map(name)) for name in ("few", "many"))
            self._walks = few, many
        self._on = True
        return self

    def destroy(self) -> None:
        self._on = False

    def run(self, count: int) -> float:
        if self._walks is None:
            return 0
        walks = max(1, count // _ELEMENTS)
        for _ in range(walks):
            self._walks[self._on].run()
        return walks * (_ELEMENTS - 1)

    def close(self) -> None:
        for each in self._walks or ():
            each.close()


# by type of hook; the program is on_TYPE of bpf/empty.bpf.c
STIMULI: dict[str, Callable[[Path], Stimulus]] = {
    "cgroup_skb": _Datagrams,
    "cgroup_sock": _Connects,
    "tp_btf": lambda _: _Calls("wait"),
    "raw_tracepoint": lambda _: _Calls("wait"),
    "tracepoint": lambda _: _Calls("wait"),
    "fentry": lambda _: _Calls("wait"),
    "kprobe": lambda _: _Calls("wait"),
    "uprobe": lambda _: _Uprobe(),
    "perf_event": lambda _: _Samples(),
    "iter": lambda _: _Walks(),
}
