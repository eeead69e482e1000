"""The two ends of a node's pipe: who hung up, who is silent, what arrives."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.controller.node import Node, session
from harness.errors import ComponentError, NeedError, NodeError
from harness.model import Window, WindowRow
from harness.node.line import Closed, Gone, Line
from harness.wire import codec
from harness.wire.frames import LONGEST, Reader, pack
from harness.wire.spec import Hello, Placement, Timing, TrialResult, TrialSpec
from tests.unit.piped import Channel

PLACE = Placement((0,), (1,), (1,), (1,), "two CPUs")
SPEC = TrialSpec(
    "t", "go", "switch", (), (), (), False, Timing(1, 1, 1, 1, 1, 1, 1, 1, 1)
)  # fmt: skip
HELLO = Hello({"kernel": "6"}, PLACE, True, "/var/tmp/harness-x", "http://127.0.0.1:1")


@pytest.fixture
def channel() -> Iterator[Channel]:
    found = Channel()
    yield found
    found.close()
    for descriptor in (found.far_source, found.far_sink):
        os.close(descriptor)


@pytest.fixture
def line(channel: Channel) -> Line:
    return Line(channel.far_source, channel.far_sink)


def test_pings_are_answered_and_pass_by(channel: Channel, line: Line) -> None:
    channel.send(pack("ping") + pack("trial", name="a"))
    assert line.next().head["name"] == "a"
    assert Reader(channel.receive).read(1.0).kind == "pong"


def test_hanging_up_ends_a_session_at_the_next_look(channel: Channel, line: Line) -> None:
    line.attend()
    channel.close()
    with pytest.raises(Gone, match="hung up"):
        line.attend()


def test_a_controller_that_has_had_enough_is_answered(channel: Channel, line: Line) -> None:
    channel.send(pack("close"))
    with pytest.raises(Closed):
        line.attend()
    line.last_word("closed", warnings=[])
    assert Reader(channel.receive).read(1.0).kind == "closed"
    with pytest.raises(Closed):
        line.attend()  # whatever failed meanwhile, it stays closed


def test_a_silent_controller_is_gone_when_its_lease_ends(channel: Channel, line: Line) -> None:
    line.lease_seconds = 0.0
    with pytest.raises(Gone, match="said nothing"):
        line.attend()


def test_a_lease_holds_while_something_waits_to_be_read(channel: Channel, line: Line) -> None:
    """A phase that takes longer than the lease ends no session whose pings wait in the pipe."""
    channel.send(pack("ping"))
    line._heard -= 1000.0
    line.attend()


def test_a_controller_that_takes_nothing_is_gone(line: Line) -> None:
    line.lease_seconds = 0.01
    with pytest.raises(Gone, match="took nothing"):
        line.reply("file", bytes(1 << 20), name="a", new=True)  # more than a pipe holds
    with pytest.raises(Gone, match="took nothing"):
        line.reply("done")  # nobody waits for it a second time


def test_nonsense_ends_a_session(channel: Channel, line: Line) -> None:
    channel.send(pack("ping") + b"rm -rf\n")
    with pytest.raises(Gone, match="nonsense"):
        line.attend()


def test_once_it_ends_nobody_is_asked_whether_to_go_on(channel: Channel, line: Line) -> None:
    line.over = True
    channel.close()
    line.attend()


@pytest.fixture
def opened(channel: Channel, line: Line, tmp_path: Path) -> Node:
    node = Node(channel)
    line.reply("hello", hello=codec.dump(HELLO))
    assert node.open(session("r", receiver="sink", idle_poll=True), lambda _: None) == HELLO
    node.folder = tmp_path
    assert line.next().kind == "open"
    return node


def test_files_arrive_whole_below_the_run_s_folder(
    opened: Node, line: Line, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(2_500_000))
    said: list[str] = []

    def work() -> None:
        assert line.next().kind == "end_block"
        line.tell("warming up")
        with big.open("rb") as stream:
            line.send_file("trials/t/requests.npz", stream, new=True)
        line.reply("done", warnings=["The cgroup is not empty."])

    other = threading.Thread(target=work)
    other.start()
    assert opened.end_block(said.append) == ["The cgroup is not empty."]
    other.join()
    assert said == ["warming up"]
    assert (tmp_path / "trials/t/requests.npz").read_bytes() == big.read_bytes()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "trials/../../x"])
def test_no_file_is_written_outside_of_the_run_s_folder(
    opened: Node, line: Line, name: str
) -> None:
    line.reply("file", b"x", name=name, new=True)
    with pytest.raises(NodeError, match="sent a file for"):
        opened.end_block(lambda _: None)
    assert opened.lost


def test_an_error_of_the_node_is_raised_with_the_paths_of_this_side(
    opened: Node, line: Line, tmp_path: Path
) -> None:
    told = NeedError("It failed.", "See /var/tmp/harness-x/logs/go.log.", "Try again.")
    line.reply("failed", error=told.to_dict())
    with pytest.raises(NeedError, match=str(tmp_path / "logs/go.log")):
        opened.end_block(lambda _: None)
    assert not opened.lost


@pytest.mark.parametrize(
    "speak",
    [
        lambda line: os.write(line._sink, b"Segmentation fault\n"),
        lambda line: line.reply("weather", today="fine"),
    ],
)
def test_a_node_that_speaks_nonsense_is_lost(
    opened: Node, line: Line, speak: Callable[[Any], object]
) -> None:
    speak(line)
    with pytest.raises(NodeError, match="was lost"):
        opened.end_block(lambda _: None)
    assert opened.lost
    assert opened.close() == []


def test_a_node_that_ends_is_lost_with_its_last_words(opened: Node, channel: Channel) -> None:
    os.close(channel.far_sink)
    with pytest.raises(NodeError, match="Its last words: Killed"):
        opened.end_block(lambda _: None)
    channel.far_sink = os.open("/dev/null", os.O_WRONLY)


def test_closing_takes_what_comes_of_the_work_under_way(
    opened: Node, line: Line, tmp_path: Path
) -> None:
    line.reply("phase", what="warming up")
    line.reply("file", b"spool", name="telemetry.spool", new=False)
    line.reply("done", warnings=["That of the block."])
    line.reply("closed", warnings=["One cgroup is left."])
    assert opened.close() == ["One cgroup is left."]
    assert (tmp_path / "telemetry.spool").read_bytes() == b"spool"


def test_a_new_file_replaces_what_is_there_and_another_is_added_to_it(
    opened: Node, line: Line, tmp_path: Path
) -> None:
    for name in ("trials/t/a", "logs/a"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("before ")
    line.reply("file", b"now", name="trials/t/a", new=True)
    line.reply("file", b"now", name="logs/a", new=False)
    line.reply("done", warnings=[])
    opened.end_block(lambda _: None)
    assert (tmp_path / "trials/t/a").read_text() == "now"
    assert (tmp_path / "logs/a").read_text() == "before now"


def test_what_a_trial_says_of_its_files_leads_to_this_side(
    opened: Node, line: Line, tmp_path: Path
) -> None:
    said = "Its log is /var/tmp/harness-x/trials/t/agent.log."
    result = TrialResult("failed", details={"warnings": [said]}, service=said)
    line.reply("done", result=codec.dump(result))
    found = opened.trial(SPEC, lambda _: None)
    here = f"Its log is {tmp_path}/trials/t/agent.log."
    assert (found.details["warnings"], found.service) == ([here], here)


def test_a_node_that_speaks_all_the_time_still_hears_of_its_controller(
    opened: Node, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.controller.node.PING_SECONDS", 0.0)
    for number in range(3):
        line.reply("phase", what=str(number))
    line.reply("done", warnings=[])
    opened.end_block(lambda _: None)
    assert line._frame(1.0).kind == "end_block"  # type: ignore[union-attr]
    assert line._frame(1.0).kind == "ping"  # type: ignore[union-attr]


def test_a_trial_may_have_more_windows_than_a_message_holds(opened: Node, line: Line) -> None:
    meters = {f"cpu.of_something_with_a_long_name_{i}": 1.0 + i / 3 for i in range(40)}
    window = Window(0, 0, True, 10**18, 10**18 + 1)
    row = WindowRow(window, meters)
    many = 1 + LONGEST // len(json.dumps(codec.dump(row), separators=(",", ":")))
    rows = [replace(row, window=replace(window, index=i)) for i in range(many)]

    def work() -> None:
        assert line.next().kind == "trial"
        line.send_windows(rows)
        line.reply("done", result=codec.dump(TrialResult("ok", details={"hooks": {}})))

    other = threading.Thread(target=work)
    other.start()
    found = opened.trial(SPEC, lambda _: None)
    other.join()
    assert found == TrialResult("ok", tuple(rows), details={"hooks": {}})


def test_windows_of_a_trial_that_was_lost_are_not_those_of_the_next(
    opened: Node, line: Line
) -> None:
    row = WindowRow(Window(0, 0, True, 1, 2), {"seconds": 1.0})
    line.send_windows([row])
    line.reply("failed", error=NeedError("It failed.").to_dict())
    with pytest.raises(NeedError):
        opened.trial(SPEC, lambda _: None)
    line.reply("done", result=codec.dump(TrialResult("ok")))
    assert opened.trial(SPEC, lambda _: None).windows == ()


def test_a_node_that_cannot_be_ended_is_told_of_at_the_end(
    opened: Node, channel: Channel, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_meanwhile: object) -> None:
        raise ComponentError("Process 7 does not end, though it was killed.")

    monkeypatch.setattr(channel, "close", refuse)
    line.reply("closed", warnings=["One cgroup is left."])
    said = ["One cgroup is left.", "Process 7 does not end, though it was killed."]
    assert opened.close() == said
    monkeypatch.undo()


def test_nothing_is_said_to_a_node_that_was_lost(
    opened: Node, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pipe is closed, and the number of that may be another one's by now."""
    opened.lost = True
    monkeypatch.setattr(channel, "send", lambda _: pytest.fail("it was"))
    with pytest.raises(NodeError, match=r"was lost before\."):
        opened.ping()


def test_a_node_that_does_not_listen_is_lost_with_one_sentence_of_why(
    opened: Node, channel: Channel
) -> None:
    os.close(channel.far_source)
    channel.far_source = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(NodeError) as lost:
        opened.ping()
    assert lost.value.why == "Of it: The node does not listen any more. Its last words: Killed"
