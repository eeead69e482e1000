"""Other people's collectors: a definition is data, and one more takes nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app, choice
from harness.collectors import REGISTRY, resolve, subject
from harness.controller import resolved
from harness.errors import InputError
from harness.model import Arm
from harness.plan import definitions, experiment, methods, trials, workloads
from harness.plan.experiment import Experiment
from harness.wire import codec
from harness.wire.spec import TrialSpec
from tests.unit import defined
from tests.unit.defined import subject_of

SHIPPED = subject.names()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return defined.folder(tmp_path, monkeypatch)


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
    source = subject_of(resolve(name)).source
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
    assert (found.method, subject_of(found).reach) == ("block", "host")
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
    (tmp_path / "mine.toml").write_text(defined.MINE)
    found = resolve(str(tmp_path / "mine.toml"))
    assert found.command == ("mine", "--pid", "{pid}", "--of", str(tmp_path))
    (arm,) = choice.parse_arms([str(tmp_path / "mine.toml")])[1:]
    assert (arm.name, arm.method) == ("mine", "block")


@pytest.mark.parametrize("name", ["beyla", "otel-python", "pixie", "daemonset:pl/vizier-pem"])
def test_who_speaks_no_protocol_of_ours_has_none_that_could_be_checked(name: str) -> None:
    done = CliRunner().invoke(app, ["collector", "check", name])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert f"There is nothing to check of '{name}'. It is somebody else's collector" in said
    assert f"`harness evaluate --plan --arm {name}` says whether it can run here" in said


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
        (("'^seen (\\d+)$'", "'(a)(b)'"), "events has a number in brackets"),
        (("'^seen (\\d+)$'", "'^seen'\ntemporality = \"cumulative\""), "events has a number"),
        (("reach =", 'temporality = "daily"\nreach ='), "temporality is one of cumulative, delta"),
        (("events = '^seen (\\d+)$'", 'temporality = "delta"'), "temporality is of the numbers"),
        (("reach =", 'temporality = "delta"\nreach ='), "telemetry.seconds says how often"),
        (("'^seen (\\d+)$'", "'^.*$'"), "events matches where nothing is said: '^.*$'"),
        (("'^seen (\\d+)$'", "'(\\d*)'"), "events matches where nothing is said"),
        (("'^seen (\\d+)$'", "5"), "events is a string, not 5"),
        (('date = "2026-08"', ""), "a claim lacks date"),
        (('command = ["mine"', 'commands = ["mine"'), "unknown keys: commands"),
        (('reach = "host"', 'wrap = ["x"]'), "wrap is of what runs within"),
        (('reach = "host"', 'reach = "all"'), "reach is one of service, host"),
        (('name = "mine"\npurpose', "name = 5\npurpose"), "name is a string, not 5"),
        (('package = "mine-tools"', "package = 7"), "source.package is a string, not 7"),
        (('reach = "host"', 'telemetry = { seconds = "5" }'), "telemetry.seconds is a number"),
        (('reach = "host"', "telemetry = { frequency = -2 }"), "telemetry.frequency is a number"),
        (('reach = "host"', 'environment = ["x"]'), "environment is a table of strings"),
        (('reach = "host"', 'files = "x"'), "files is a table of strings"),
        (('reach = "host"', 'leaves = "/run/mine"'), "leaves is a list of strings"),
        (
            ('reach = "host"', "lost = '(\\d+)'"),
            "lost has a number in brackets, and is looked for on",
        ),
        (("[source]", "[[source]]"), "source is a table"),
        (("[source]", "[[telemetry]]\nseconds = 1.0\n[source]"), "telemetry is a table"),
        (('reach = "host"', "lost_among = true"), "lost_among is true or false, and is of lost"),
    ],
)
def test_a_wrong_definition_is_refused_in_words(
    change: tuple[str, str], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(defined.MINE.replace(*change))
    with pytest.raises(InputError, match=re.escape(words)):
        subject.read(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"in-process"', '"process"'), "profile is of what runs within the service"),
        (('"**/*.jfr"', '"profile.txt"'), "profile is a pattern of .jfr files in its folder"),
        (('"**/*.jfr"', '"../*.jfr"'), "profile is a pattern of .jfr files in its folder"),
        (('"**/*.jfr"', '"/*.jfr"'), "profile is a pattern of .jfr files in its folder"),
        (("frequency = 50", ""), "profile needs telemetry.signal samples and a telemetry.freq"),
        (('"samples"', '"connections"'), "profile needs telemetry.signal samples"),
    ],
)
def test_a_wrong_profile_is_refused_in_words(
    change: tuple[str, str], words: str, tmp_path: Path
) -> None:
    text = (subject.FOLDER / "jfr.toml").read_text()
    assert change[0] in text
    (tmp_path / "jfr.toml").write_text(text.replace(*change))
    with pytest.raises(InputError, match=re.escape(words)):
        subject.read(tmp_path / "jfr.toml")


def test_what_runs_within_has_one_method_and_is_alone_in_its_process(folder: Path) -> None:
    (folder / "other.toml").write_text(defined.WITHIN.replace('"within"', '"other"', 1))
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

    monkeypatch.setattr(workloads, "load", service)
    with pytest.raises(InputError, match="'within' runs in services of Python, and 'go' is one"):
        resolved.check(replace(_experiment("within"), workloads=("go",)))
    resolved.check(replace(_experiment("mine"), workloads=("go",)))


@pytest.mark.parametrize("language", ["", "Python"])
def test_nothing_is_compiled_into_a_service_whose_source_is_not_known(
    language: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def service(name: str) -> Any:
        return SimpleNamespace(name=name, language=language)

    monkeypatch.setattr(workloads, "load", service)
    build = 'build = ["sh"]\nprogram = "{folder}/x"\n[source]'
    (folder / "built.toml").write_text(
        defined.WITHIN.replace("[source]", build).replace('"within"', '"built"', 1)
    )
    asked = replace(_experiment("built"), workloads=("mine",))
    if language:
        resolved.check(asked)
        return
    with pytest.raises(InputError, match="the source of 'mine' is and in which language is not"):
        resolved.check(asked)
    resolved.check(replace(_experiment("within"), workloads=("mine",)))


def test_one_that_is_ready_by_its_first_data_is_alone_in_its_arm(folder: Path) -> None:
    by_data = defined.MINE.replace('kind = "process"', 'kind = "process"\nready_by = "data"')
    by_data = "\n".join(line for line in by_data.splitlines() if not line.startswith("ready ="))
    (folder / "mine.toml").write_text(by_data)
    arms = Arm("baseline"), Arm("a", ("mine",), (), "block"), Arm("b", ("http",), (), "block")
    resolved.check(Experiment("e", ("flask",), arms))
    two = Arm("a", ("mine", "http"), (), "block")
    with pytest.raises(InputError, match="'mine' is ready by its first data"):
        resolved.check(Experiment("e", ("flask",), (arms[0], two)))


def _experiment(*specs: str) -> Experiment:
    arms = [Arm("baseline"), *(Arm(spec, (spec,)) for spec in specs)]
    return Experiment("e", ("flask",), tuple(methods.chosen(arms)))


def test_an_arm_that_only_blocks_compare_goes_with_an_experiment_that_has_a_pilot() -> None:
    assert choice.chosen("quick", workloads=["flask"]).pilot_blocks
    e = choice.chosen("quick", workloads=["flask"], arms=["bpftrace", "ddtrace"])
    assert (e.pilot_blocks, e.arm("bpftrace").method) == (0, "block")


def test_profilers_that_stand_side_by_side_sample_as_often() -> None:
    """Parca's agent takes 19 a second by itself."""
    alloy = resolve("alloy-pyroscope")
    assert alloy.options["frequency"] == resolve("profile").options["frequency"] == "19"
    assert "sample_rate = 19\n" in subject_of(alloy).files["config.alloy"]
