"""Messages over a pipe: whole or refused, whatever the pipe does to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.wire.frames import NOISE, EndError, FrameError, Reader, pack


class Pipe:
    """Gives what it holds in pieces of a length; then the end, or nothing in time."""

    def __init__(self, data: bytes, piece: int = 1 << 20, ends: bool = True) -> None:
        self.data, self.piece, self.ends = data, piece, ends

    def receive(self, size: int, seconds: float) -> bytes:
        if not self.data and not self.ends:
            raise TimeoutError
        taken = self.data[: min(size, self.piece)]
        self.data = self.data[len(taken) :]
        return taken


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=9), st.binary(max_size=300)), max_size=5),
    st.integers(1, 97),
)
def test_what_is_sent_arrives_in_order_however_it_is_cut(
    messages: list[tuple[str, bytes]], piece: int
) -> None:
    sent = b"".join(pack("file", body, name=name) for name, body in messages)
    reader = Reader(Pipe(sent, piece).receive)
    for name, body in messages:
        frame = reader.read(1.0)
        assert (frame.kind, frame.head["name"], frame.body) == ("file", name, body)
    with pytest.raises(EndError):
        reader.read(1.0)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_message_that_was_changed_on_its_way_is_refused(place: int, change: int) -> None:
    data = bytearray(pack("done", b"x" * 150, result={"status": "ok"}))
    place %= len(data)
    data[place] ^= change
    with pytest.raises(FrameError):
        Reader(Pipe(bytes(data)).receive).read(1.0)


@given(st.integers(1, 100))
def test_a_message_that_is_cut_off_is_the_end_and_no_message(missing: int) -> None:
    data = pack("done", b"x" * 150)
    with pytest.raises(EndError):
        Reader(Pipe(data[:-missing]).receive).read(1.0)


def test_what_is_not_whole_in_time_is_kept_until_it_is() -> None:
    data = pack("hello", b"12345")
    pipe = Pipe(data[:40], ends=False)
    reader = Reader(pipe.receive)
    with pytest.raises(TimeoutError):
        reader.read(0.0)
    pipe.data = data[40:]
    assert reader.read(0.0).body == b"12345"


def test_what_a_login_prints_before_the_first_message_is_skipped() -> None:
    reader = Reader(Pipe(b"Welcome to harness1\nLast login: today\n" + pack("hello"), 7).receive)
    assert reader.read(1.0).kind == "hello"


def test_endless_noise_is_refused() -> None:
    with pytest.raises(FrameError, match="no message came"):
        Reader(Pipe(b"noise\n" * NOISE).receive).read(1.0)


def test_noise_between_messages_is_refused() -> None:
    reader = Reader(Pipe(pack("hello") + b"a print of somebody\n" + pack("done")).receive)
    assert reader.read(1.0).kind == "hello"
    with pytest.raises(FrameError, match="a print of somebody"):
        reader.read(1.0)


def test_a_message_without_end_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="no message"):
        Reader(Pipe(b"harness1 2 99999999999 " + b"0" * 64 + b"\n{}").receive).read(1.0)
