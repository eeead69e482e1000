"""What somebody else's collector says that it saw: one number of all, many, or a line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.collectors import resolve
from harness.node import subject_count
from harness.node.limited_log import KEPT, LimitedLog
from harness.node.subject_count import await_word, counted, of_log, of_page
from harness.wire.subject import Source, Subject, Temporality
from tests.unit.clocked import Clock

PATH = Source("path", "x")
BCC = """Tracing syscalls, printing top 500... Ctrl+C to quit.
[14:00:01]
SYSCALL                   COUNT
epoll_pwait                 120
write                        61

[14:00:02]
SYSCALL                   COUNT
write                        19
[unknown: 467]                2

"""
LIFE = """PID     COMM             LADDR           LPORT RADDR           RPORT  TX_KB  RX_KB MS
7       server           127.0.0.1       8080  127.0.0.1       40000      1      2 3.14
7       server           127.0.0.1       8080  127.0.0.1       40001      1      2 2.72
"""


PAGE = 'seen_total{of="a"} 90\nseen_total{of="b"} 8\nlost_total{of="a"} 1\nlost_total{of="b"} 1\n'


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LimitedLog]:
    (tmp_path / "log").write_text("7 of an earlier start\n")
    found = LimitedLog(tmp_path / "log", (tmp_path / "log").stat().st_size)
    yield found
    found.close()


def say(tmp_path: Path, text: str) -> None:
    with (tmp_path / "log").open("a") as file:
        file.write(text)


def mine(events: str, temporality: Temporality = "cumulative", page: str = "") -> Subject:
    return Subject("process", PATH, events=events, temporality=temporality, page=page)


@pytest.mark.parametrize(
    ("subject", "text", "events"),
    [
        (mine(r"^seen (\d+)$"), "seen 3\nseen 9\n", 9),
        (mine(r"^seen (\d+)$", "delta"), "seen 3\nseen 9\n", 12),
        (mine(r"^seen (\d+)$", page="x"), "seen 3\nseen 9\n", 12),
        (mine(r"^seen"), "seen 3\nseen 9\n", 2),
        (mine(r"^seen"), "", 0),
        (mine(r"^seen (\d+)$", "delta"), "", None),
        (mine(r"^seen (\d+)$"), "", None),
        (mine(""), "seen 3\n", None),
    ],
)
def test_numbers_are_the_last_or_all_and_lines_are_events(
    subject: Subject, text: str, events: float | None
) -> None:
    assert counted(subject, text) == events


@pytest.mark.parametrize("subject", [mine(r"seen(.*)$"), mine(r"seen(.*)$", "delta")])
@pytest.mark.parametrize("said", ["", " 1,234", " nan", " -"])
def test_what_is_no_number_is_not_taken_for_one(subject: Subject, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^'{said}' is no number$"):
        counted(subject, f"seen{said}")


@pytest.mark.parametrize(
    ("name", "text", "events"),
    [("bpfcc-syscount", BCC, 202), ("libbpf-syscount", BCC, 202), ("libbpf-tcplife", LIFE, 2)],
)
def test_tables_and_lines_of_tools_that_people_use_by_hand(
    name: str, text: str, events: float
) -> None:
    subject = resolve(name).subject
    assert subject is not None
    assert counted(subject, text) == events


@pytest.mark.parametrize("subject", [mine(r"^(\d+) of.*\n", "delta"), mine(r"^\d+ of")])
def test_what_is_added_up_is_of_this_start_and_whole(
    subject: Subject, tmp_path: Path, log: LimitedLog
) -> None:
    say(tmp_path, "1 of mine\n1 of mine\n1 of mi")
    assert of_log(subject, log, 0) == 2
    say(tmp_path, "ne\n")
    assert of_log(subject, log, 0) == 3
    say(tmp_path, "x" * (2 * KEPT))
    assert of_log(subject, log, 0) is None  # what lies between may have had more of them


@pytest.mark.parametrize(
    ("subject", "said", "seconds", "told"),
    [
        (mine(r"^seen (\d+)$", "delta"), ["seen 1\nse", "en 2\n"], 30.0, 3),
        (mine(r"^seen"), ["seen\n", "seen\n"], 2.0, 2),
        (mine(r"^seen"), [], 2.0, 0),
    ],
)
def test_a_word_is_awaited_until_it_was_said_whole(
    subject: Subject,
    said: list[str],
    seconds: float,
    told: float,
    tmp_path: Path,
    log: LimitedLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says a piece between two looks."""
    monkeypatch.setattr(subject_count, "time", Clock())
    left = list(said)

    def attend() -> bool:
        if left:
            say(tmp_path, left.pop(0))
        return True

    assert await_word(subject, log, seconds, attend)
    assert of_log(subject, log, 0) == told


def test_a_table_that_is_left_out_where_nothing_is_new_is_not_missed(
    tmp_path: Path, log: LimitedLog
) -> None:
    """As libbpf-tools' syscount of an idle service: what it told before is all that there was."""
    subject = mine(r"^seen (\d+)$", "delta")
    assert await_word(subject, log, 0.05, lambda: True)
    assert of_log(subject, log, 0) is None  # it has never told of any: nobody knows that it would
    say(tmp_path, "seen 3\n")
    assert await_word(subject, log, 0.05, lambda: True)
    assert of_log(subject, log, 0) == 3


def test_who_says_nothing_or_has_ended_is_not_awaited_for_ever(
    log: LimitedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(subject_count, "time", clock)
    begun = clock.monotonic()
    assert not await_word(mine(r"^seen (\d+)$"), log, 0.05, lambda: True)
    assert await_word(mine(r"^seen (\d+)$"), log, 1e3, lambda: False)
    assert clock.monotonic() - begun < 0.25


@pytest.mark.parametrize(
    ("text", "among", "told"),
    [
        (PAGE, False, {"events": 98, "lost": 2}),
        (PAGE, True, {"events": 96, "lost": 2}),
        ("seen_total 5\nlost_total 0\n", False, {"events": 5, "lost": 0}),
        ("seen_total 5\n", False, {"events": 5}),  # it does not say
        ("lost_total 2\n", False, {}),
        ("", False, {}),
    ],
)
def test_what_a_page_says_was_lost_is_told_where_there_are_events(
    text: str, among: bool, told: dict[str, float]
) -> None:
    page = "http://127.0.0.1:{free}/metrics"
    lost, events = r"^lost_total(?:{.*})? (\S+)$", r"^seen_total(?:{.*})? (\S+)$"
    own = Subject("process", PATH, events=events, page=page, lost=lost, lost_among=among)
    assert of_page(own, text) == told


def test_a_page_of_which_nothing_is_said_to_be_lost_tells_no_loss() -> None:
    own = mine(r"^seen_total(?:{.*})? (\S+)$", page="http://127.0.0.1:{free}/metrics")
    assert of_page(own, PAGE) == {"events": 98}
