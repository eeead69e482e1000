"""Other people's collectors measured as they come, by stand-ins that behave as badly as real ones.

Some from PyPI, npm, Maven Central and the JDK are measured for real.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.collectors import resolve, subject
from harness.linux import mount
from harness.node import subject_source
from harness.report import build, headline
from harness.results.run import Run, TrialRecord
from tests.bpf import stand_in
from tests.e2e.evaluating import beside_a_service, clean_machine, completed, ended
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e
SUBJECTS = Path(__file__).with_name("subjects")

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
os.makedirs(sys.argv[5], exist_ok=True)
os.makedirs(sys.argv[6], exist_ok=True)
os.kill(int(sys.argv[2]), signal.SIGSTOP)  # the service stands still meanwhile
time.sleep(0.4)
os.kill(int(sys.argv[2]), signal.SIGCONT)
open(os.environ["HOME"] + "/written", "w").close()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kept = bytearray(b"x" * (48 << 20))
    while True:
        time.sleep(1)
print("noise\\nready", flush=True)
number = 0
while True:
    number += 7
    print("seen", number, flush=True)
    time.sleep(0.1)
"""
STUBBORN_TOML = """
name = "stubborn"
purpose = "Ignores SIGTERM, forks, leaves files"
kind = "process"
method = "twin"
command = [
  "{python}", "{here}/stubborn.py", "LEFT", "{pid}", "{cgroup}", "{cgroup_id}", "CGROUP", "STRAY",
]
ready = "^ready$"
events = '^seen (\\d+)$'
leaves = ["LEFT*", "CGROUP"]

[source]
way = "path"
name = "python3"

[telemetry]
seconds = 0.5
"""
# imported first in any Python whose path it is on: 40 MB, and a transaction for each request
HEAVY = """
import http.client, json, threading, time
kept = bytearray(b"x" * (40 << 20))
served = []

def post():
    while True:
        time.sleep(0.3)
        count = len(served)
        lines = [{"transaction": {"type": "request", "name": "GET", "timestamp": 1e6 * time.time(),
                  "duration": 1}} for _ in range(count)]
        del served[:count]
        if lines:
            client = http.client.HTTPConnection("OTLP")
            client.request("POST", "/intake/v2/events", "\\n".join(map(json.dumps, lines)))
            client.getresponse().read()
            client.close()

def install():
    import flask
    plain, started = flask.Flask.wsgi_app, []
    def traced(self, environ, start_response):
        if not started:
            started.append(threading.Thread(target=post, daemon=True))
            started[0].start()
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        if environ["PATH_INFO"] != "/api/users/7":
            served.append(1)
        return plain(self, environ, start_response)
    flask.Flask.wsgi_app = traced

install()
"""
HEAVY_TOML = """
name = "heavy"
purpose = "Stands for an agent within the service: a ms of CPU a request, 40 MB"
kind = "in-process"
language = "Python"
wrap = ["env", "HEAVY={instance}"]
environment = { PYTHONPATH = "FOLDER", OTLP = "{otlp}" }

[source]
way = "path"
name = "python3"

[telemetry]
signal = "server_spans"
kind = "spans"
scope = "elastic"
seconds = 0.5
"""


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    yield from clean_machine()


def _run(workload: str, spec: str, folder: Path, blocks: int = 1) -> Run:
    return completed(beside_a_service(workload, spec, blocks), folder)


def _trials(run: Run, kind: str = "switched") -> list[TrialRecord]:
    return [r for r in run.records() if (r.trial.arm, r.trial.kind) == ("theirs", kind)]


def _values(records: list[TrialRecord], metric: str) -> list[float]:
    return [v.value for r in records for v in r.values if v.metric == metric]


@pytest.fixture
def stray() -> Iterator[Path]:
    """A folder that appears in /run and that no definition names."""
    path = Path("/run/stubborn-stray")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_process_that_behaves_badly_is_measured_and_cleaned_up(
    tmp_path: Path, stray: Path
) -> None:
    left, root = tmp_path / "left", mount.find("cgroup2")
    assert root is not None
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    text = STUBBORN_TOML.replace("CGROUP", str(root / "stubborn-left"))
    text = text.replace("LEFT", str(left)).replace("STRAY", str(stray))
    (tmp_path / "stubborn.toml").write_text(text)
    run = _run("go", str(tmp_path / "stubborn.toml"), tmp_path)
    mine = _trials(run)
    assert [r.status for r in mine] == ["ok"]
    for record in mine:
        (killed,) = [w for w in record.extra["warnings"] if "did not end on SIGTERM" in w]
        assert "2 of its processes were killed" in killed
        (gone,) = [w for w in record.extra["warnings"] if "left behind" in w]
        assert str(left) in gone
        assert str(root / "stubborn-left") in gone
    assert not left.exists()
    assert not (root / "stubborn-left").exists()
    assert mine[0].extra["versions"]["stubborn"].startswith("python3 3.")
    assert min(_values(mine, "agent_pss_bytes")) > 40 << 20  # its child's too
    assert min(_values(mine, "attach_peak_rss_bytes")) > 48 << 20
    assert min(_values(mine, "events")) > 7
    metered = _trials(run, "metered")
    assert min(_values(metered, "metered_events")) > 0
    assert min(_values(metered, "attach_meanwhile_worst_ms")) > 300  # it had stopped the service
    before, meanwhile = (
        _values(metered, f"attach_{what}_ms") for what in ("before_p99", "meanwhile_worst")
    )
    assert all(b < m for b, m in zip(before, meanwhile, strict=True))
    told = [w for r in (*mine, *metered) for w in r.extra.get("warnings", ()) if str(stray) in w]
    assert len(told) == 1  # it is there afterwards, and was there before the next one
    assert "left alone" in told[0]
    row = build.made(run).summary.row("go", "theirs", "attach_meanwhile_worst_ms")
    assert row is not None
    assert row.estimate > 300
    assert strangers(run) == []


def test_one_that_ends_meanwhile_spoils_its_trial(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text("import time; print('ready', flush=True); time.sleep(2)")
    text = STUBBORN_TOML.replace("LEFT", str(tmp_path / "left"))
    (tmp_path / "stubborn.toml").write_text(text)
    run = ended(beside_a_service("go", str(tmp_path / "stubborn.toml")), tmp_path).run
    mine = _trials(run)
    assert mine
    assert all("ended while it was measured" in r.reason for r in mine)


def test_what_runs_in_the_service_is_told_beside_a_service_without_it(tmp_path: Path) -> None:
    code = HEAVY.replace('"OTLP"', '__import__("os").environ["OTLP"].partition("//")[2]')
    (tmp_path / "sitecustomize.py").write_text(code)
    (tmp_path / "heavy.toml").write_text(HEAVY_TOML.replace("FOLDER", str(tmp_path)))
    run = _run("flask", str(tmp_path / "heavy.toml"), tmp_path, blocks=2)
    mine = _trials(run)
    assert [r.status for r in mine] == ["ok", "ok"]
    assert not _trials(run, "metered")
    for memory in _values(mine, "agent_pss_bytes"):
        assert memory > 30 << 20
    assert len(_values(mine, "startup_seconds")) == len(_values(mine, "startup_plain_seconds")) == 2
    assert not _values(mine, "steady_agent_cpu_seconds")
    made, seen = (sum(_values(mine, f"signal_{what}")) for what in ("made", "seen"))
    assert 0.95 * made < seen <= made
    summary = build.made(run).summary
    cost = summary.row("flask", "theirs", "workload_cpu_us")
    whole = summary.row("flask", "theirs", "bill_us")
    event = summary.row("flask", "theirs", "bill_event_us")
    assert cost is not None
    assert whole is not None
    assert event is not None
    assert cost.estimate > 500
    assert whole.estimate == pytest.approx(cost.estimate)
    assert event.estimate >= whole.estimate
    assert strangers(run) == []


def test_one_of_pypis_is_fetched_once_and_its_spans_are_counted(tmp_path: Path) -> None:
    run = _run("flask", "otel-python", tmp_path)
    mine = _trials(run)
    assert [r.status for r in mine] == ["ok"]
    assert set(mine[0].extra["versions"].values()) == {"opentelemetry-distro 0.66b1, PyPI"}
    made, seen = (sum(_values(mine, f"signal_{what}")) for what in ("made", "seen"))
    assert 0.99 * made < seen <= made
    assert min(_values(mine, "agent_pss_bytes")) > 5 << 20
    theirs = resolve("otel-python").subject
    assert theirs is not None
    assert subject_source.home(theirs.source).is_dir()
    assert str(subject_source.home(theirs.source)) not in sys.path
    assert strangers(run) == []


def test_one_of_npms_is_fetched_once_and_its_spans_are_counted(tmp_path: Path) -> None:
    text = beside_a_service("nodejs", "otel-node")
    run = completed(text.replace("warmup_seconds = 0.5", "warmup_seconds = 3.0"), tmp_path)
    mine = _trials(run)
    assert [r.status for r in mine] == ["ok"]
    told = {"@opentelemetry/auto-instrumentations-node 0.81.2, npm"}
    assert set(mine[0].extra["versions"].values()) == told
    made, seen = (sum(_values(mine, f"signal_{what}")) for what in ("made", "seen"))
    assert 0.99 * made < seen <= made
    assert min(_values(mine, "agent_pss_bytes")) > 5 << 20
    assert len(_values(mine, "startup_seconds")) == len(_values(mine, "startup_plain_seconds")) == 1
    assert strangers(run) == []


def test_one_by_grpc_is_counted_and_what_the_receiver_refused_is_told(tmp_path: Path) -> None:
    run = _run("flask", str(SUBJECTS / "otel-python-grpc.toml"), tmp_path)
    mine = _trials(run)
    assert [r.status for r in mine] == ["ok"]
    made, seen = (sum(_values(mine, f"signal_{what}")) for what in ("made", "seen"))
    assert 0.99 * made < seen <= made
    posts = [v for r in mine for v in r.values if v.metric == "posts"]
    taken = [v for v in posts if v.labels["outcome"] == "taken"]
    assert any("grpc" in v.labels["sender"].lower() for v in taken)
    refused = [v for v in posts if v.labels["outcome"] == "refused"]
    assert {v.labels["said"] for v in refused} == {"404 /v2/metrics"}
    assert {v.labels["outcome"] for v in posts} == {"taken", "refused"}
    summary = build.made(run).summary
    assert "flask, theirs: the receiver refused" in headline.verdict(summary)
    assert strangers(run) == []


def _other(name: str, folder: Path, *changes: tuple[str, str]) -> str:
    """The path of a definition that ships, with other words in it."""
    told = (subject.FOLDER / f"{name}.toml").read_text()
    for old, new in changes:
        assert old in told
        told = told.replace(old, new)
    (folder / f"{name}.toml").write_text(told)
    if (lock := subject.FOLDER / f"{name}.lock").exists():
        shutil.copy(lock, folder)
    return str(folder / f"{name}.toml")


def test_samples_of_one_that_a_file_starts_are_counted(tmp_path: Path) -> None:
    """Pyroscope's, told to push every second: so it is awaited for less long."""
    often = ('server_address="{otlp}"', 'server_address="{otlp}", upload_interval=1')
    spec = _other("pyroscope-io", tmp_path, often, ("seconds = 10.0", "seconds = 1.0"))
    text = beside_a_service("flask", spec).replace("rate = 120", "rate = 400")
    # a dozen samples are to be expected: of one or two there may be none
    run = completed(text.replace("steady_seconds = 2.0", "steady_seconds = 6.0"), tmp_path)
    mine = _trials(run)
    assert [r.status for r in mine] == ["ok"]
    assert set(mine[0].extra["versions"].values()) == {"pyroscope-io 1.4.0, PyPI"}
    made, seen = (sum(_values(mine, f"signal_{what}")) for what in ("made", "seen"))
    assert 0 < seen < 1.5 * made  # of what holds the GIL, which is less than all
    assert strangers(run) == []


def test_one_whose_coverage_is_not_told_saw_the_requests_all_the_same(tmp_path: Path) -> None:
    """New Relic's, with its audit log, which no measurement has: it holds what would be posted."""
    audit = tmp_path / "audit.log"
    told = f'NEW_RELIC_DEVELOPER_MODE = "true"\nNEW_RELIC_AUDIT_LOG = "{audit}"'
    spec = _other("newrelic", tmp_path, ('NEW_RELIC_DEVELOPER_MODE = "true"', told))
    run = _run("flask", spec, tmp_path)
    assert [r.status for r in _trials(run)] == ["ok"]
    assert not _values(_trials(run), "signal_seen")
    seen = sum(map(int, re.findall(r"'events_seen': (\d+)", audit.read_text())))
    assert seen > sum(_values(_trials(run), "steady_requests"))


@pytest.mark.parametrize("name", ["jfr", "async-profiler"])
def test_a_profiler_of_java_writes_files_whose_samples_are_counted(
    name: str, tmp_path: Path
) -> None:
    text = beside_a_service("java", name).replace("rate = 120", "rate = 400")
    slow = text.replace("warmup_seconds = 0.5", "warmup_seconds = 3.0")  # a JVM that is cold
    run = completed(slow.replace("steady_seconds = 2.0", "steady_seconds = 6.0"), tmp_path)
    mine = _trials(run)
    assert [r.status for r in mine] == ["ok"]
    assert strangers(run) == []
    made, seen = (sum(_values(mine, f"signal_{what}")) for what in ("made", "seen"))
    assert made > 6  # of 50 Hz and more
    assert seen < 1.5 * made
    if name == "async-profiler":  # JFR sees of the time in native code, which is most, nothing
        assert seen > 0.3 * made


def test_one_that_no_registry_has_is_measured_where_its_program_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program that stands for Falco."""
    stand_in.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    run = _run("go", "falco", tmp_path)
    mine = _trials(run)
    assert [r.status for r in mine] == ["ok"]
    assert set(mine[0].extra["versions"].values()) == {"falco 0.41.0, on PATH"}
    assert set(_values(mine, "events")) == {17609.0}  # without the 4 that it lost
    assert strangers(run) == []
