"""Other people's collectors: a definition is data, and one more takes nothing else."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.analysis.account import bill_rows
from harness.analysis.cell import Cell, coverage_rows, value_rows
from harness.analysis.compare import Estimate
from harness.analysis.summary import summarize
from harness.cli import choice
from harness.collectors import REGISTRY, resolve, subject
from harness.collectors.definition import Definition
from harness.controller import resolved, skipping
from harness.errors import CollectorError, ComponentError, InputError, UnavailableError
from harness.linux import processes
from harness.model import Arm, Measurement, Trial
from harness.node import answers, in_process, subject_source
from harness.node.in_process import InProcessAgent
from harness.node.install import _process
from harness.node.limited_log import LimitedLog
from harness.node.subject_process import SubjectProcess
from harness.plan import definitions, experiment, methods, trials
from harness.plan.experiment import Experiment
from harness.report import headline
from harness.results.run import TrialRecord
from harness.wire import codec
from harness.wire.spec import CollectorSpec, Spawn, TrialSpec
from harness.wire.subject import Source, Subject
from tests import waiting
from tests.unit import synthetic

MINE = """
name = "mine"
purpose = "Counts what it likes"
kind = "process"
method = "block"
reach = "host"
command = ["mine", "--pid", "{pid}", "--of", "{here}"]
ready = "^ready"
events = '^seen (\\d+)$'

[source]
way = "path"
name = "mine"
package = "mine-tools"

[[claims]]
text = "< 1 % CPU"
source = "its README"
date = "2026-08"
"""
WITHIN = """
name = "within"
purpose = "Traces what it is in"
kind = "in-process"
language = "Python"
wrap = ["{home}/bin/run"]
environment = { PYTHONPATH = "{site}", TO = "{otlp}/x", AS = "{service}" }

[source]
way = "pypi"
name = "within"
version = "1.0"
lock = "within.lock"

[telemetry]
signal = "server_spans"
kind = "spans"
scope = "within"
seconds = 5.0
"""
SHIPPED = subject.names()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where definitions are, with two in it: nothing but this is done to add them."""
    monkeypatch.setattr(subject, "FOLDER", tmp_path)
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "within.toml").write_text(WITHIN)
    (tmp_path / "within.lock").write_text("within==1.0 --hash=sha256:00\n")
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_can_be_read_and_says_whose_claims_it_repeats(name: str) -> None:
    found = resolve(name)
    assert (found.name, found.slug) == (name, name)
    assert name not in REGISTRY
    assert found.subject is not None
    assert all(re.fullmatch(r"(read )?20\d\d-\d\d", claim.date) for claim in found.claims)
    assert found.subject.source.way == "none" or found.subject.source.name


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_fetched_is_pinned_by_hashes_and_names_no_index(name: str) -> None:
    source = _subject(resolve(name)).source
    if source.way == "maven":
        assert re.fullmatch(r"[0-9a-f]{64}", source.sha256)
        assert source.sha256.strip("0")
    if source.way != "pypi":
        return
    text = subject.lock(source)
    pins = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    assert (source.name, source.version) in [(each, version) for each, version in pins]
    assert "://" not in text
    for block in re.split(r"\n(?=\S)", text):
        assert block.startswith("#") or "--hash=sha256:" in block, block


def test_adding_one_takes_one_definition(folder: Path) -> None:
    assert subject.names() == ["mine", "within"]
    found = resolve("mine")
    assert (found.method, _subject(found).reach) == ("block", "host")
    e = replace(_experiment("mine", "within"), blocks=6)
    assert [arm.method for arm in e.arms] == ["switch", "block", "twin"]
    planned = experiment.plan(e)
    known = definitions.resolve_all(e)
    for trial in planned:
        asked = trials.trial(e, trial, known)
        assert codec.load(TrialSpec, json.loads(json.dumps(codec.dump(asked)))) == asked
    assert any("traces the whole host" in line for line in choice.plan(e))


@pytest.mark.usefixtures("folder")
def test_it_is_kept_with_the_run_as_it_was() -> None:
    for name in ("mine", "within"):
        found = resolve(name)
        kept = json.loads(json.dumps(definitions.to_dict(found)))
        assert definitions.from_dict(kept) == found


def test_one_of_ones_own_is_given_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    found = resolve(str(tmp_path / "mine.toml"))
    assert found.command == ("mine", "--pid", "{pid}", "--of", str(tmp_path))
    (arm,) = choice.parse_arms([str(tmp_path / "mine.toml")])[1:]
    assert (arm.name, arm.method) == ("mine", "block")


def test_a_report_can_be_made_where_the_definition_is_not(tmp_path: Path) -> None:
    gone = Arm("mine", (str(tmp_path / "mine.toml"),), method="block")
    assert experiment.plan(Experiment("e", ("flask",), (Arm("baseline"), gone)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("kind =", "kinds ="), "cannot be used: it has unknown keys: kinds"),
        (('kind = "process"', 'kind = "daemon"'), "kind is one of in-process, process"),
        (('"mine"\npurpose', '"Mine"\npurpose'), "'Mine' cannot be its name"),
        (('way = "path"', 'way = "luck"'), "source.way is one of"),
        (('way = "path"', 'way = "maven"'), "source lacks version, sha256, which maven needs"),
        (('way = "path"', 'way = "pypi"\nversion = "1"\nlock = "no"'), "no lock file no"),
        (("{pid}", "{pod}"), "unknown placeholders: pod"),
        (("'^seen (\\d+)$'", "'('"), "events is no regular expression"),
        (('date = "2026-08"', ""), "a claim lacks date"),
        (('command = ["mine"', 'commands = ["mine"'), "unknown keys: commands"),
        (('reach = "host"', 'wrap = ["x"]'), "wrap is of what runs within"),
        (('reach = "host"', 'reach = "all"'), "reach is one of service, host"),
    ],
)
def test_a_wrong_definition_is_refused_in_words(
    change: tuple[str, str], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace(*change))
    with pytest.raises(InputError, match=re.escape(words)):
        subject.read(path)


def test_what_runs_within_has_one_method_and_is_alone_in_its_process(folder: Path) -> None:
    (folder / "other.toml").write_text(WITHIN.replace('"within"', '"other"', 1))
    for arm, words in (
        (Arm("a", ("within",), method="block"), "its method is twin"),
        (Arm("a", ("within",), method="switch"), "its method is twin"),
        (Arm("a", ("mine",), method="switch"), "its method is twin or block"),
        (Arm("a", ("within", "other"), method="twin"), "within and other in one process"),
    ):
        with pytest.raises(InputError, match=words):
            Experiment("e", ("flask",), (Arm("baseline"), arm))


@pytest.mark.usefixtures("folder")
def test_beside_ours_it_is_compared_as_what_is_harder_to_compare() -> None:
    def method(*specs: str) -> str:
        (_, arm) = methods.chosen([Arm("baseline"), Arm("a", specs)])
        return arm.method

    assert method("http") == "switch"
    assert method("http", "mine") == "block"
    assert method("http", "within") == method("mine", "within") == "twin"


@pytest.mark.usefixtures("folder")
def test_what_has_no_programs_has_no_metered_trial() -> None:
    kinds = {(t.arm, t.kind) for t in experiment.plan(_experiment("within", "mine"))}
    assert ("mine", "metered") in kinds
    assert ("within", "metered") not in kinds
    e = Experiment("e", ("flask",), (Arm("baseline"), Arm("a", ("within", "http"), (), "twin")))
    known = definitions.resolve_all(e)
    specs = [trials.trial(e, t, known) for t in experiment.plan(e) if t.arm == "a"]
    names = {spec.method: [each.name for each in spec.candidates] for spec in specs}
    assert names == {"twin": ["within", "http"], "bpf_time": ["http"]}


@pytest.mark.usefixtures("folder")
def test_a_service_is_driven_gently_beside_what_may_multiply_its_cost() -> None:
    flask = SimpleNamespace(name="flask")
    assert trials._fraction(_experiment("mine"), flask.name) == 0.4
    assert trials._fraction(_experiment("within"), flask.name) == trials.WITHIN_FRACTION
    told = experiment.from_dict(
        {
            "name": "e", "workloads": ["flask"], "loads": {"flask": {"fraction": 0.3}},
            "arms": [{"name": "baseline"}, {"name": "a", "collectors": ["within"]}],
        }
    )  # fmt: skip
    assert trials._fraction(told, flask.name) == 0.3


@pytest.mark.usefixtures("folder")
def test_a_service_of_another_language_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def service(name: str) -> Any:
        return SimpleNamespace(name=name, language="Go")

    monkeypatch.setattr(resolved.workloads, "load", service)
    with pytest.raises(InputError, match="'within' runs in services of Python, and 'go' is one"):
        resolved.check(replace(_experiment("within"), workloads=("go",)))
    resolved.check(replace(_experiment("mine"), workloads=("go",)))


@pytest.mark.parametrize("language", ["", "Python"])
def test_nothing_is_compiled_into_a_service_whose_source_is_not_known(
    language: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def service(name: str) -> Any:
        return SimpleNamespace(name=name, language=language)

    monkeypatch.setattr(resolved.workloads, "load", service)
    build = 'build = ["sh"]\nprogram = "{folder}/x"\n[source]'
    (folder / "built.toml").write_text(
        WITHIN.replace("[source]", build).replace('"within"', '"built"', 1)
    )
    asked = replace(_experiment("built"), workloads=("mine",))
    if language:
        resolved.check(asked)
        return
    with pytest.raises(InputError, match="the source of 'mine' is and in which language is not"):
        resolved.check(asked)
    resolved.check(replace(_experiment("within"), workloads=("mine",)))


def test_one_that_is_ready_by_its_first_data_is_alone_in_its_arm(folder: Path) -> None:
    by_data = MINE.replace('kind = "process"', 'kind = "process"\nready_by = "data"')
    by_data = "\n".join(line for line in by_data.splitlines() if not line.startswith("ready ="))
    (folder / "mine.toml").write_text(by_data)
    arms = Arm("baseline"), Arm("a", ("mine",), (), "block"), Arm("b", ("http",), (), "block")
    resolved.check(Experiment("e", ("flask",), arms))
    two = Arm("a", ("mine", "http"), (), "block")
    with pytest.raises(InputError, match="'mine' is ready by its first data"):
        resolved.check(Experiment("e", ("flask",), (arms[0], two)))


# --- on the node ---------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "harness" / "subjects"


def test_the_service_is_started_with_it(folder: Path, cache: Path) -> None:
    spec = trials.collector(resolve("within"))
    source = _subject(spec).source
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


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source("none", "x", why="Nobody has it."), "cannot be had here: Nobody has it."),
        (Source("path", "no-such-program", package="tools"), "no program no-such-program on PATH"),
        (Source("maven", "a:b", "1", "00"), "no mvn on PATH"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_why_one_cannot_be_had_is_one_sentence(
    source: Source, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = subject_source.refusal("mine", Subject("process", source))
    assert isinstance(found, UnavailableError)
    assert words in found.what
    assert found.what.rstrip(".").count(". ") == 0
    with pytest.raises(UnavailableError):
        subject_source.get("mine", Subject("process", source), "")


def test_a_registry_that_gives_nothing_is_an_answer_and_leaves_nothing(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is asked with an index that is not there."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    lock = (folder / "within.lock").read_text().replace("00", 64 * "0")
    asked = {"within": {"subject": codec.dump(_subject(resolve("within"))), "lock": lock}}
    found = answers.obtain(asked)
    assert found["within"]["class"] == "UnavailableError"
    assert "PyPI did not give it" in found["within"]["what"]
    assert list(cache.iterdir()) == []


def test_a_jar_that_is_another_one_is_thrown_away(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mvn is a script that brings a file."""
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho jar > "${5#-DoutputDirectory=}/b-1.jar"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    told = "b1b6ffa1a2ebd5ae8a3ac2b5e8ffb1ef48e1fa29b44db3c4ba9b48db5ef6f0f2"
    with pytest.raises(ComponentError, match="is not what its definition names"):
        subject_source.get("b", Subject("in-process", Source("maven", "a:b", "1", told)), "")
    assert list(cache.iterdir()) == []


def test_only_what_a_registry_has_is_asked_for(folder: Path) -> None:
    asked: list[tuple[str, Any]] = []

    def ask(question: str, about: Any) -> dict[str, Any]:
        asked.append((question, about))
        return {}

    target: Any = SimpleNamespace(ask=ask)
    known = {name: resolve(name) for name in ("mine", "within", "http")}
    assert skipping.obtained(target, known, lambda _: None) == {}
    ((question, about),) = asked
    assert question == "obtain"
    assert {name: each["lock"] for name, each in about.items()} == {
        "within": (folder / "within.lock").read_text()
    }
    asked.clear()
    again = {**known, "also": resolve("within")}
    assert skipping.obtained(target, again, lambda _: None) == {}
    assert [list(each) for _, each in asked] == [["within"], ["also"]]  # each in its own time
    (folder / "within.lock").write_text("within==2.0 --hash=sha256:00\n")
    with pytest.raises(InputError, match="is not what the run began with"):
        skipping.obtained(target, known, lambda _: None)


def test_what_could_not_be_had_is_skipped_with_its_reason() -> None:
    refused = UnavailableError("Collector 'a' cannot be had here: no.", "", "Leave it out.")
    target: Any = SimpleNamespace(ask=lambda *_: {})
    e = Experiment("e", ("flask",), (Arm("baseline"), Arm("a", ("ddtrace",), (), "twin")))
    found = skipping.skipped(target, e, {}, {"ddtrace": refused.to_dict()})
    assert found == {"a": str(refused)}


def _subject(of: Definition | CollectorSpec) -> Subject:
    assert of.subject is not None
    return of.subject


def _experiment(*specs: str) -> Experiment:
    arms = [Arm("baseline"), *(Arm(spec, (spec,)) for spec in specs)]
    return Experiment("e", ("flask",), tuple(methods.chosen(arms)))


# --- in the report -------------------------------------------------------------------------------


def test_who_saw_less_than_95_percent_is_named_in_the_first_sentences(tmp_path: Path) -> None:
    found = summarize(synthetic.write(tmp_path / "run"))
    rows = [row for row in found.rows if not row.metric.startswith("coverage_percent")]
    seen = next(row for row in found.rows if row.metric == "coverage_percent[requests]")

    def told(percent: float, high: float, metric: str = seen.metric) -> str:
        row = replace(seen, metric=metric, estimate=percent, low=percent - 1, high=high, n=3000)
        return headline.verdict(replace(found, rows=(*rows, row)))

    words = f"saw only 71 % of 3,000 requests of the {seen.workload} service"
    assert words in told(71.0, 72.0)
    assert "saw only" not in told(94.0, 95.2)  # it may have been 95
    assert "saw only" not in told(100.0, 100.0)
    assert "saw only" not in told(50.0, 60.0, "coverage_percent[samples]")  # an expectation
    assert "saw none" in told(0.0, 0.1)
    assert "TLS" in told(0.0, 0.1)
    started = replace(seen, metric="startup_s", estimate=2.0)
    found = replace(found, rows=(*found.rows, started))
    rows.append(started)
    assert "does it know this kind of server?" in told(0.0, 0.1)
    assert "saw only" not in told(0.0, 0.1)


def test_of_what_runs_in_the_service_its_cpu_is_the_whole_bill() -> None:
    """90 of 100 requests were told of, and the service takes 300 us more for each."""
    trial = Trial(0, "flask", 0, "a", "switched", 1)
    told = {
        "startup_seconds": 2.0, "startup_plain_seconds": 0.5, "service_rss_bytes": 9e7,
        "plain_rss_bytes": 5e7, "signal_seen": 90, "signal_made": 100, "agent_pss_bytes": 3e7,
    }  # fmt: skip
    labels = {"collector": "a", "signal": "requests"}
    values = tuple(
        Measurement(name, each, "1", "flask", "a", 0, trial.name, labels=labels)
        for name, each in told.items()
    )
    arm = Arm("a", ("a",), (), "twin")
    one = Cell("flask", arm, ((TrialRecord(trial, "ok", values=values), ()),), ())

    def rows(microseconds: float) -> dict[str, float]:
        centre = Estimate(microseconds, microseconds - 20, microseconds + 20, 9)
        cost = one.row("workload_cpu_us", centre, 600.0, "by windows")
        every = (*value_rows(one), *coverage_rows(one), *bill_rows(one, [cost], {}))
        return {row.metric: row.estimate for row in every}

    found = rows(300.0)
    assert (found["startup_s"], found["startup_plain_s"]) == (2.0, 0.5)
    assert (found["service_rss_mb"], found["plain_rss_mb"]) == (90.0, 50.0)
    assert found["bill_us"] == 300.0
    assert found["bill_event_us"] == pytest.approx(300 / 0.9)
    assert found["coverage_percent[requests]"] == pytest.approx(90)
    assert "agent_us" not in found
    assert "bill_us" not in rows(-5.0)  # chance


def test_an_arm_that_only_blocks_compare_goes_with_an_experiment_that_has_a_pilot() -> None:
    assert choice.chosen("quick", workloads=["flask"]).pilot_blocks
    e = choice.chosen("quick", workloads=["flask"], arms=["bpftrace", "ddtrace"])
    assert (e.pilot_blocks, e.arm("bpftrace").method) == (0, "block")


@pytest.mark.parametrize(("pause", "told"), [(0.05, True), (60, False)])
def test_what_it_counted_is_told_by_its_next_word_alone(
    pause: float, told: bool, tmp_path: Path
) -> None:
    said = f"import time\nfor n in range(99): print('seen', n, flush=True); time.sleep({pause})"
    one = SubjectProcess.__new__(SubjectProcess)
    one._subject = Subject("process", Source("path", "x"), events=r"^seen (\d+)$")
    one.spec, one.name = SimpleNamespace(export_seconds=0.5, signal=None), "x"  # type: ignore[assignment]
    one._attend, one._log = lambda: None, tmp_path / "log"
    one._process = processes.spawn([sys.executable, "-c", said], log=one._log)
    one._words = LimitedLog(one._log, 0)
    try:
        while one._counted(one._said()) is None:
            time.sleep(0.01)
        assert ("events" in one.flush()) == told
        assert "events" in one.stats()
    finally:
        processes.stop(one._process)
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
        assert one._counted(one._said()) == (9.0 if again else 7.0)
        assert one.stats() == told
    finally:
        processes.stop(one._process)
        one._words.close()
