"""Other people's collectors on the node: how they are started, and when they told what."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import resolve
from harness.errors import CollectorError
from harness.linux import processes
from harness.node import in_process, subject_count, subject_source
from harness.node.in_process import InProcessAgent
from harness.node.install import _process
from harness.node.limited_log import LimitedLog
from harness.node.subject_count import counted
from harness.node.subject_process import SubjectProcess
from harness.plan import trials
from harness.wire.spec import Spawn
from harness.wire.subject import Source, Subject
from tests import waiting
from tests.unit import defined
from tests.unit.clocked import Clock
from tests.unit.defined import subject_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return defined.folder(tmp_path, monkeypatch)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return defined.cache(tmp_path, monkeypatch)


def test_the_service_is_started_with_it(folder: Path, cache: Path) -> None:
    spec = trials.collector(resolve("within"))
    source = subject_of(spec).source
    subject_source.home(source).mkdir(parents=True)
    asked = Spawn("shop", ("{python}", "app.py"), "/", {"PYTHONPATH": "own", "KEEP": "it"})
    found = in_process.instrumented(asked, spec, "http://127.0.0.1:4318", cache)
    home = subject_source.home(source)
    site = home / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    assert found.argv == (f"{home}/bin/run", "{python}", "app.py")
    assert found.environment == {
        "PYTHONPATH": f"{site}:own", "KEEP": "it", "TO": "http://127.0.0.1:4318/x", "AS": "shop",
    }  # fmt: skip
    assert home.is_relative_to(cache)


@pytest.mark.usefixtures("folder", "cache")
def test_one_that_was_removed_from_the_cache_spoils_a_trial_in_words() -> None:
    spec = trials.collector(resolve("within"))
    with pytest.raises(CollectorError, match="is gone"):
        in_process.instrumented(Spawn("shop", (), "/"), spec, "", Path("/nowhere"))


@pytest.mark.usefixtures("folder")
def test_each_kind_has_its_agent(tmp_path: Path) -> None:
    made: list[str] = []
    testbed: Any = SimpleNamespace(
        service=SimpleNamespace(cgroup=tmp_path, url="http://127.0.0.1:80", pids=list),
        machine=SimpleNamespace(
            socket=lambda name: tmp_path / name, make=made.append, scratch=tmp_path
        ),
        receiver=SimpleNamespace(mark=lambda: 0, url=""),
        placement=SimpleNamespace(collector=(0,)),
        attend=lambda: None,
    )
    spec = trials.collector(resolve("mine"))
    notes: Any = SimpleNamespace(spec=SimpleNamespace(candidates=(spec,), references=()))
    inside = _process(testbed, trials.collector(resolve("within")), tmp_path, notes)
    assert isinstance(inside, InProcessAgent)
    assert (inside.cgroups, inside.pids(), inside.counts, made) == ([], [], False, [])
    inside.remove()
    beside = _process(testbed, trials.collector(resolve("mine")), tmp_path, notes)
    assert isinstance(beside, SubjectProcess)
    assert made == ["agent-mine"]
    other: Any = SimpleNamespace(subject=SimpleNamespace(leaves=("/run/other",)))
    notes.spec.candidates = (spec, other, SimpleNamespace(subject=None))
    also: Any = _process(testbed, spec, tmp_path, notes)
    assert "/run/other" in also._named
    beside.remove()  # it was never started


def test_it_waits_until_nothing_more_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of its own: what is sent every 2 s arrives until 3 s have passed."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(in_process, "time", clock)
    in_process.await_calm(lambda: int(min(now[0], 3.0)), 2.0, lambda: None)
    assert 3.0 + in_process.CALM * 2.0 <= now[0] <= 3.2 + in_process.CALM * 2.0
    now[0] = 0.0
    in_process.await_calm(lambda: int(10 * now[0]), 2.0, lambda: None)
    assert now[0] == pytest.approx(in_process.LIMIT * 2.0, abs=0.2)


@pytest.mark.parametrize(("later", "told"), [("seen 9\n", {"events": 9.0}), ("", {})])
def test_what_it_counted_is_told_by_its_next_word_alone(
    later: str, told: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject_count, "time", Clock())
    one = SubjectProcess.__new__(SubjectProcess)
    one._subject = Subject("process", Source("path", "x"), events=r"^seen (\d+)$")
    one.spec, one.name = SimpleNamespace(export_seconds=0.5, signal=None), "x"  # type: ignore[assignment]
    one._process = SimpleNamespace(poll=lambda: None, log_start=0)  # type: ignore[assignment]
    one._log = tmp_path / "log"
    one._log.write_text("seen 7\n")

    def speak() -> None:
        with one._log.open("a") as log:
            log.write(later)

    one._attend = speak
    one._words = LimitedLog(one._log, 0)
    try:
        assert one.flush() == told
        assert one.stats() == (told or {"events": 7.0})
    finally:
        one._words.close()


@pytest.mark.parametrize(("again", "told"), [("", {}), ("seen 9", {"events": 9.0})])
def test_a_count_of_another_time_is_not_told(
    again: str, told: dict[str, float], tmp_path: Path
) -> None:
    """It is in what is kept of the begin, and much was said since."""
    said = f"print('seen 7'); print('x' * (3 << 20)); print({again!r}, flush=True); input()"
    one = SubjectProcess.__new__(SubjectProcess)
    one._subject = Subject("process", Source("path", "x"), events=r"^seen (\d+)$")
    one.name, one._log = "x", tmp_path / "log"
    one._process = processes.connect(
        [sys.executable, "-c", f"import sys; sys.stdout = sys.stderr; {said}"], log=one._log
    )
    one._words = LimitedLog(one._log, 0)
    try:
        assert waiting.until(lambda: one._words.said().endswith(f"\n{again}\n"))
        assert counted(one._subject, one._said()) == (9.0 if again else 7.0)
        assert one.stats() == told
    finally:
        processes.stop(one._process)
        one._words.close()


def test_what_it_tells_in_no_number_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("seen 1,234\n")
    one = SubjectProcess.__new__(SubjectProcess)
    one._subject = Subject("process", Source("path", "x"), events=r"^seen (\S+)$")
    one.name, one._log = "x", tmp_path / "log"
    one._process = SimpleNamespace(poll=lambda: None, log_start=0)  # type: ignore[assignment]
    one._words = LimitedLog(one._log, 0)
    try:
        with pytest.raises(CollectorError, match="'x' saw cannot be counted") as caught:
            one.stats()
        assert "'1,234' is no number" in caught.value.what
        assert caught.value.collector == "x"
    finally:
        one._words.close()
