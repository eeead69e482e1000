"""How collectors are named, what their agents are started with, and what an external one needs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent import __main__ as agent
from harness.agent.errors import AgentError
from harness.collectors import REGISTRY, resolve, values
from harness.collectors.definition import EXPORT_SECONDS
from harness.errors import InputError
from harness.linux import bpf_features, processes
from harness.node.agent_process import AgentProcess
from harness.plan.trials import collector
from harness.wire.telemetry import countable

EXTERNAL = """
name = "mine"
purpose = "Counts"
command = ["{python}", "{here}/agent.py", "{cgroup}", "{otlp}", "{control}", "{instance}"]
"""


def process(spec: str, folder: Path, **more: Any) -> AgentProcess:
    definition = resolve(spec)
    return AgentProcess(
        collector(definition),
        target_cgroup=Path("/sys/fs/cgroup/run/workload"),
        own_cgroup=Path("/sys/fs/cgroup/run/agent"),
        otlp_url="http://127.0.0.1:4318",
        folder=folder,
        socket=folder / f"{definition.slug}.sock",
        **more,
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The argv of each process that would have been started."""
    found: list[list[str]] = []
    monkeypatch.setattr(processes, "spawn", lambda argv, **_: found.append(list(argv)))
    return found


def test_a_bare_name_is_the_registered_one() -> None:
    for name, definition in REGISTRY.items():
        assert resolve(name) is definition
        assert definition.name == definition.slug == definition.agent == name
        assert definition.signal in (*countable(), None)


def test_hooks_are_named_as_they_are_tried() -> None:
    for definition in REGISTRY.values():
        assert definition.hooks
        assert {*definition.hooks, *definition.prefers} <= {*bpf_features.PROBES}


def test_who_writes_profiles_gets_a_folder(started: list[list[str]], tmp_path: Path) -> None:
    for name in REGISTRY:
        process(name, tmp_path).start()
    given = {argv[3]: argv[argv.index("--pprof") + 1] for argv in started if "--pprof" in argv}
    assert given == {"profile": str(tmp_path / "pprof")}
    assert not [argv for argv in started if "--parca" in argv]


def test_who_writes_profiles_sends_them_where_they_are_kept(
    started: list[list[str]], tmp_path: Path
) -> None:
    for name in REGISTRY:
        process(name, tmp_path, profiles_url="http://127.0.0.1:7070").start()
    given = {argv[3]: argv[argv.index("--parca") + 1] for argv in started if "--parca" in argv}
    assert given == {"profile": "http://127.0.0.1:7070"}


def test_options_replace_those_of_the_definition(started: list[list[str]], tmp_path: Path) -> None:
    process("profile:frequency=99,drain=0.5", tmp_path).start()
    (argv,) = started
    assert [word for word in argv if word.startswith("--frequency")] == ["--frequency=99"]
    assert {"--drain=0.5", f"--interval={EXPORT_SECONDS:g}", "--off"} <= set(argv)
    assert REGISTRY["profile"].options == {"frequency": "19"}


def test_guard_watches_what_the_services_that_ship_open(
    started: list[list[str]], tmp_path: Path
) -> None:
    process("guard", tmp_path).start()
    (argv,) = started
    (pattern,) = [word.removeprefix("--watch=") for word in argv if word.startswith("--watch=")]
    services = {path.parent.name for path in Path("/").glob(pattern.lstrip("/"))}
    assert services == {"flask", "go", "java", "nodejs"}


def test_underscores_stand_for_hyphens() -> None:
    assert resolve("inject:agent_percent=5").options == {"agent-percent": "5"}


@pytest.mark.parametrize(
    ("spec", "slug"),
    [
        ("profile:frequency=99", "profile-frequency-99"),
        ("inject:ns=0,agent_percent=0.5", "inject-ns-0-agent_percent-0.5"),
    ],
)
def test_the_slug_of_plain_options_can_be_read(spec: str, slug: str) -> None:
    assert resolve(spec).slug == slug


@given(st.text(min_size=1).map(str.strip).filter(lambda text: text and "," not in text))
def test_a_slug_is_safe_and_short_whatever_the_value(value: str) -> None:
    slug = resolve(f"guard:policy={value}").slug
    assert len(slug) <= 40
    assert slug.startswith("guard-policy-"[: len(slug)])
    assert all(c in "abcdefghijklmnopqrstuvwxyz0123456789_.-" for c in slug)


def test_slugs_differ_where_specs_do() -> None:
    long = "/etc/" + "x" * 60
    specs = ["/etc/A", "/etc/a", "/etc:a", f"{long}1", f"{long}2", "-etc-a"]
    assert len({resolve(f"guard:policy={each}").slug for each in specs}) == len(specs)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nothing", "is not known"),
        ("nothing:frequency=9", "is not known"),
        ("http:frequency=9", "has no option 'frequency'"),
        ("http:", "cannot be read at ''"),
        ("http:sample", "cannot be read at 'sample'"),
        ("http:sample=", "cannot be read at 'sample='"),
        ("http:sample=1,sample=2", "cannot be read at 'sample=2'"),
        ("http:interval=0", "interval is a number of seconds"),
        ("http:drain=soon", "drain is a number of seconds"),
        ("http:drain=nan", "drain is a number of seconds"),
        ("http:sample=x", "sample is a whole number of requests, not 'x'"),
        ("http:sample=0", "sample is a whole number"),
        ("profile:frequency=1e3", "frequency is a whole number"),
        ("inject:agent_percent=nan", "agent-percent is a percentage"),
        ("inject:at=home", "there is no at 'home'"),
        ("guard:open_hook=kprobe", "there is no open-hook 'kprobe'"),
        ("flows:udp=quic", "there is no udp 'quic'"),
        ("profile:unwind=dwarf", "there is no unwind 'dwarf'"),
        ("flows:peers=0", "peers is a whole number of peers"),
        ("missing.toml", "cannot be read"),
    ],
)
def test_what_cannot_be_resolved_is_refused_in_words(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve(spec)


def _agent_takes(module: Any, name: str, option: str, value: str) -> bool:
    """Whether the agent of a collector would start with this; nothing is loaded."""
    parser = agent._parser()
    module.add_options(parser)
    argv = [name, "--cgroup=/", "--otlp=http://x", "--control=/x", f"--{option}={value}"]
    try:
        module.create(parser.parse_args(argv))
    except (SystemExit, AgentError):
        return False
    return True


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, key) for name, d in REGISTRY.items() for key in d.accepts if key in values.RANGES],
)
def test_a_range_is_that_of_the_agent(name: str, option: str) -> None:
    try:
        module = importlib.import_module(agent.COLLECTORS[name])
    except AgentError as error:
        pytest.skip(error.what)
    limits = values.RANGES[option]
    for value in (limits.least, limits.most):
        assert _agent_takes(module, name, option, str(int(value) if limits.whole else value))
    assert not _agent_takes(module, name, option, "x")


@pytest.mark.parametrize(
    ("name", "option"), [("inject", "at"), ("guard", "open-hook"), ("flows", "udp")]
)
def test_choices_are_those_of_the_agent(name: str, option: str) -> None:
    try:
        module = importlib.import_module(agent.COLLECTORS[name])
    except AgentError as error:
        pytest.skip(error.what)
    parser = agent._parser()
    module.add_options(parser)
    (action,) = (each for each in parser._actions if f"--{option}" in each.option_strings)
    assert set(action.choices or ()) == set(values.CHOICES[option])


@pytest.mark.parametrize("name", REGISTRY)
def test_every_option_that_a_spec_may_set_is_one_of_the_agent(name: str) -> None:
    definition = REGISTRY[name]
    try:
        module = importlib.import_module(agent.COLLECTORS[definition.agent])
    except AgentError as error:
        pytest.skip(error.what)
    parser = agent._parser()
    module.add_options(parser)
    known = {word for action in parser._actions for word in action.option_strings}
    assert {f"--{option}" for option in definition.accepts} <= known


def test_two_profiles_write_to_two_folders(started: list[list[str]], tmp_path: Path) -> None:
    for spec in ("profile", "profile:frequency=99"):
        process(spec, tmp_path).start()
    folders = [argv[argv.index("--pprof") + 1] for argv in started]
    assert folders == [str(tmp_path / "pprof"), str(tmp_path / "pprof-profile-frequency-99")]


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_an_external_collector_is_started_as_its_file_says(
    started: list[list[str]], tmp_path: Path
) -> None:
    spec = write(
        tmp_path, EXTERNAL + 'signal = "requests"\ntelemetry = "spans"\nscope = "my.scope"'
    )
    definition = resolve(spec)
    assert (definition.signal, definition.telemetry) == ("requests", "spans")
    assert (definition.slug, definition.scope, definition.agent) == ("mine", "my.scope", "")
    process(spec, tmp_path).start()
    assert started == [
        [
            sys.executable,
            f"{tmp_path}/agent.py",
            "/sys/fs/cgroup/run/workload",
            "http://127.0.0.1:4318",
            str(tmp_path / "mine.sock"),
            "mine",
        ]
    ]


def test_telemetry_is_told_apart_where_the_sender_can_say_who_it_is(tmp_path: Path) -> None:
    assert resolve("http").tells_instance
    assert resolve(write(tmp_path, EXTERNAL)).tells_instance
    assert not resolve(write(tmp_path, EXTERNAL.replace(', "{instance}"', ""))).tells_instance


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('name = "mine"', ""), "it lacks name"),
        (('name = "mine"', 'name = "http"'), "that of an included collector"),
        (('name = "mine"', 'name = "../mine"'), "cannot be its name"),
        (('name = "mine"', "name = 7"), "name is a string"),
        (('purpose = "Counts"', 'purpose = "Counts"\nport = 7'), "unknown keys: port"),
        (('purpose = "Counts"', 'purpose = "Counts"\nsignal = "all"'), "signal is one of requests"),
        (("{otlp}", "{url}"), "unknown placeholders: url"),
        (("{control}", "{otlp}"), "lacks the placeholder {control}"),
        (('["{python}"', '[7, "{python}"'), "command is a list of strings"),
        (('purpose = "Counts"', "purpose = "), "is not valid TOML"),
    ],
)
def test_an_external_collector_is_checked(
    change: tuple[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        resolve(write(tmp_path, EXTERNAL.replace(*change)))
