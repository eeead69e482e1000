"""Where CPython 3.9 to 3.14 keeps threads, frames and code objects; used by python_frames, profile.

Up to 3.12 this is `offsetof` over the headers of the release, in a 64-bit build. Since 3.13 the
interpreter says it itself: `_Py_DebugOffsets`, the first member of `_PyRuntime`, whose own members
are as in Include/internal/pycore_runtime.h of 3.13 and pycore_debug_offsets.h of 3.14.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass, replace

from harness.agent.memory import Memory

_COOKIE = b"xdebugpy"
_FREE_THREADED = 2  # words into _Py_DebugOffsets
_FIRST_OF_A_STATE = (0, 8, 16)  # prev, next, interp of PyThreadState, in every release

INTERPRETER = struct.Struct("=QQ9IiII")  # struct interpreter of profile_python.bpf.h


@dataclass(frozen=True)
class Layout:
    """Offsets of the members that are walked.

    `current` is where `_PyRuntime` has the state that holds the only lock, 0 where each interpreter
    has a lock; `cframe_frame` is -1 where there is no cframe.
    """

    head: int  # _PyRuntime.interpreters.head
    current: int
    following: int  # PyInterpreterState.next
    threads: int
    gil: int
    holder: int
    locked: int
    next: int  # PyThreadState.next
    thread: int  # native_thread_id, or thread_id
    by_pthread: bool
    frame: int
    cframe_frame: int
    code: int
    previous: int
    filename: int
    name: int
    first_line: int
    ascii_size: int
    compact_size: int

    def packed(self, runtime: int) -> bytes:
        """struct interpreter of profile_python.bpf.h."""
        return INTERPRETER.pack(
            runtime + self.head,
            runtime + self.current if self.current else 0,
            self.following,
            self.threads,
            self.gil,
            self.holder,
            self.locked,
            self.next,
            self.thread,
            self.by_pthread,
            self.frame,
            self.cframe_frame,
            self.code,
            self.previous,
        )


# its threads are told by pthread_self(), which is known to the kernel on x86-64 only
_3_9 = Layout(
    head=32, current=568, following=0, threads=8, gil=0, holder=0, locked=0, next=8,
    thread=176, by_pthread=True, frame=24, cframe_frame=-1, code=32, previous=24,
    filename=104, name=112, first_line=40, ascii_size=48, compact_size=72,
)  # fmt: skip
_3_11 = Layout(
    head=40, current=576, following=0, threads=16, gil=0, holder=0, locked=0, next=8,
    thread=160, by_pthread=False, frame=56, cframe_frame=8, code=32, previous=48,
    filename=112, name=128, first_line=72, ascii_size=48, compact_size=72,
)  # fmt: skip
_3_12 = Layout(
    head=40, current=0, following=0, threads=72, gil=384, holder=8, locked=16, next=8,
    thread=144, by_pthread=False, frame=56, cframe_frame=0, code=0, previous=8,
    filename=112, name=128, first_line=68, ascii_size=40, compact_size=56,
)  # fmt: skip
_BY_MACHINE = {
    "x86_64": {(3, 9): _3_9, (3, 10): _3_9, (3, 11): _3_11, (3, 12): _3_12},
    # two pthread_mutex_t before it, each of which has 8 bytes more
    "aarch64": {(3, 11): replace(_3_11, current=592), (3, 12): _3_12},
}
LAYOUTS = _BY_MACHINE.get(platform.machine(), {})
"""By version; of those that do not say it themselves."""

# words into _Py_DebugOffsets; gil_state is where an interpreter has a lock of its own
_WORDS = {
    (3, 13): {
        "head": 5, "following": 8, "threads": 9, "gil": 14, "gil_state": 15, "locked": 17,
        "holder": 18, "next": 21, "frame": 23, "thread": 25, "previous": 29, "code": 30,
        "filename": 35, "name": 37, "first_line": 39,
    },
    (3, 14): {
        "head": 5, "following": 8, "threads": 9, "gil": 15, "gil_state": 16, "locked": 18,
        "holder": 19, "next": 24, "frame": 26, "thread": 28, "previous": 32, "code": 33,
        "filename": 40, "name": 42, "first_line": 44,
    },
}  # fmt: skip


def layout(memory: Memory, runtime: int, version: tuple[int, int]) -> Layout | None:
    """The layout of the interpreter with this `_PyRuntime`; None if it is not known."""
    if version not in _WORDS:
        return LAYOUTS.get(version)
    if memory.read(runtime, len(_COOKIE)) != _COOKIE:
        return None
    places = _WORDS[version]
    count = max(places.values()) + 1
    words = struct.unpack(f"={count}Q", memory.read(runtime, 8 * count))
    before = places["next"] - 1
    if words[_FREE_THREADED] or words[before : before + 3] != _FIRST_OF_A_STATE:
        return None
    offsets = {name: words[place] for name, place in places.items()}
    lock = offsets.pop("gil_state")
    offsets["holder"] -= lock
    offsets["locked"] -= lock
    return Layout(
        **offsets, current=0, by_pthread=False, cframe_frame=-1, ascii_size=40, compact_size=56
    )
