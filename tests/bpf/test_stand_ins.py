"""Collectors that no package registry has: each definition against a program that stands for it.

That says that a definition starts, awaits, counts and ends what behaves as the real one's
documentation and source say; it says nothing of the real one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import resolve, subject
from harness.errors import UnavailableError
from harness.linux import bpf_programs, mount, processes
from harness.meters.coverage import Sink, count
from harness.model import Part
from harness.node import subject_source
from harness.node.subject_process import SubjectProcess
from harness.plan import trials
from tests.bpf.conftest import READY_SECONDS, Service
from tests.bpf.stand_in import OTEL, PROGRAMS, SAMPLES, SPANS, install
from tests.waiting import until

pytestmark = pytest.mark.bpf

# by the name of the definition: the version that is told, the events, what arrived of its signal
TOLD: dict[str, tuple[str, float | None, int | None]] = {
    "alloy-pyroscope": ("1.20.0", None, SAMPLES),
    "beyla": ("2.7.1", None, SPANS),
    "coroot": ("1.27.1", None, None),
    "ebpf-exporter": ("2.5.1", 1505.0, None),
    "falco": ("0.41.0", 17609.0, None),
    "inspektor-gadget": ("of an unknown version", 1.0, None),
    "obi": ("0.9.0", None, SPANS),
    "otel-ebpf-profiler": ("0.0.202643", None, None),
    "parca-agent": ("0.42.0", None, None),
    "tetragon": ("1.6.0", 42.0, None),
}

LOST = {"falco": 4.0, "tetragon": 4.0}  # of events, as their pages say
LEFT = {folder for program in PROGRAMS.values() for folder in program.leaves}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    """The receiver of a run."""
    spool = tmp_path / "spool"
    argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(spool)]
    process = processes.spawn(argv, log=tmp_path / "sink.log")
    told = processes.announced(process, READY_SECONDS)
    assert told is not None
    yield Sink(f"http://127.0.0.1:{told['port']}", spool, {})
    processes.stop(process)


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH with the programs that stand for the real ones."""
    install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Of a real one that was there before nothing is touched."""
    if there := [each for each in LEFT if each.exists()]:
        pytest.skip(f"{there[0]} is there: somebody runs such a collector here")
    yield
    assert not [each for each in LEFT if each.exists()]


def _testbed(service: Service, sink: Sink, scratch: Path) -> Any:
    return SimpleNamespace(
        service=SimpleNamespace(
            cgroup=service.path, url="http://127.0.0.1:8080", pids=lambda: [os.getpid()]
        ),
        machine=SimpleNamespace(
            socket=lambda name: scratch / name, make=lambda _: service.path, scratch=scratch
        ),
        placement=SimpleNamespace(collector=()),
        receiver=sink,
        attend=lambda: None,
    )


def _await_count(sink: Sink, part: Part, signal: str, wanted: int) -> float:
    """What arrived, once it is as much as is wanted, or after some time."""
    until(lambda: count(sink.spool, part, signal) >= wanted, READY_SECONDS)
    return count(sink.spool, part, signal)


def _await_words(one: SubjectProcess) -> None:
    """A definition that knows no line that says so takes it to be ready after a second."""
    until(lambda: bool(one._said()), READY_SECONDS)


def test_each_of_them_has_a_program_that_stands_for_it() -> None:
    found = {name: resolve(name).subject for name in subject.names()}
    by_path = {name for name, each in found.items()
               if each and each.source.way == "path" and each.kind == "process"}  # fmt: skip
    why = {name: each.source for name, each in found.items() if each and each.source.why}
    assert by_path & set(why) == set(TOLD)
    assert {why[name].name for name in TOLD} == set(PROGRAMS)


@pytest.mark.parametrize("name", sorted(TOLD))
def test_what_it_attaches_is_what_the_kernel_is_asked_for(name: str) -> None:
    definition = resolve(name)
    assert definition.subject is not None
    assert set(definition.hooks) == set(PROGRAMS[definition.subject.source.name].attaches)


@pytest.mark.parametrize("name", sorted(TOLD))
@pytest.mark.usefixtures("nothing_left")
def test_it_is_started_awaited_counted_and_ended(
    name: str, tmp_path: Path, service: Service, sink: Sink
) -> None:
    version, events, arrived = TOLD[name]
    definition = resolve(name)
    assert definition.subject is not None
    subject_source.get(name, definition.subject, "")  # or says why it cannot be had
    spec = replace(trials.collector(definition), options={"interval": "0.3"}, export_seconds=0.3)
    one = SubjectProcess(spec, _testbed(service, sink, tmp_path), tmp_path)
    one.start()
    try:
        _await_words(one)
        one.await_ready()
        assert version in one.ready["version"]
        (program,) = one.program_ids
        if definition.signal is not None:
            part = Part(definition.scope, 0)
            assert arrived is not None
            assert _await_count(sink, part, definition.signal, arrived) == pytest.approx(arrived)
        told = one.flush()
        assert (told.get("events"), told.get("lost")) == (events, LOST.get(name))
    finally:
        remarks = one.remove()["remarks"]
    assert program not in bpf_programs.ids()
    assert not (tmp_path / f"home-{name}").exists()
    behind = " ".join(each for each in remarks if "left behind" in each)
    stands = PROGRAMS[definition.subject.source.name]
    left = [each for each in stands.leaves if each != OTEL or mount.find("bpf") == OTEL.parent]
    assert [str(each) in behind for each in left] == [True] * len(left)
    assert "could not be removed" not in behind


def test_one_that_does_not_take_what_it_is_told_says_why(
    tmp_path: Path, service: Service, sink: Sink
) -> None:
    definition = replace(resolve("beyla"), command=("beyla", "--flag"))
    one = SubjectProcess(trials.collector(definition), _testbed(service, sink, tmp_path), tmp_path)
    one.start()
    try:
        with pytest.raises(UnavailableError, match="ended before it was ready") as told:
            one.await_ready()
        assert "flag provided but not defined: --flag" in told.value.why
    finally:
        one.kill()


def test_one_that_cannot_start_is_told_with_what_it_said_first(
    tmp_path: Path, service: Service, sink: Sink
) -> None:
    """As BCC's tools do without the headers of a kernel: a traceback follows."""
    words = "print('no headers'); print(*(f'frame {n}' for n in range(40)), sep='\\n'); 1 / 0"
    definition = replace(resolve("beyla"), command=(sys.executable, "-c", words))
    one = SubjectProcess(trials.collector(definition), _testbed(service, sink, tmp_path), tmp_path)
    one.start()
    try:
        with pytest.raises(UnavailableError, match="ended before it was ready") as told:
            one.await_ready()
        assert "no headers" in told.value.why
        assert "ZeroDivisionError" in told.value.why
        assert "frame 20" not in told.value.why
    finally:
        one.kill()
