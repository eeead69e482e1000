"""Parca as a component: on request only, written to without the Collector, asked by its calls."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import ComponentError
from harness.stack import lifecycle, readback, selection, supply
from harness.stack.config import PROGRAMS, Stack
from harness.stack.config import parca as component
from harness.stack.config.description import KEEPS
from harness.stack.full import Full
from harness.stack.grafana import sources
from harness.wire import parca
from harness.wire.pprof import Profile
from tests.unit.parcas import Parca, Refusal

WITH = {**KEEPS, "profiles": "parca"}


@pytest.fixture
def server() -> Iterator[Parca]:
    server = Parca()
    yield server
    server.close()


@pytest.fixture
def stack(server: Parca, tmp_path: Path) -> Stack:
    return Stack(tmp_path, keeps=WITH, ports={"parca.http": server.port})


def keeping(server: Parca) -> list[str]:
    """Let it keep what is written, and find it by its mark; what it is asked, as it comes."""
    kept, asked, began = dict[str, bytes](), list[str](), time.time()

    def write(message: bytes) -> bytes:
        (series,) = parca.WriteRawRequest.FromString(message).series
        labels = {each.name: each.value for each in series.labels.labels}
        kept[f'{parca.CPU}{{mark="{labels["mark"]}"}}'] = series.raw[0].raw_profile
        return b""

    def query(message: bytes) -> bytes:
        question = parca.QueryRequest.FromString(message)
        asked.append(question.merge.query)
        assert question.merge.start.seconds < time.time()
        assert began < question.merge.end.seconds + 2  # of now, however long that is ago by now
        if question.merge.query not in kept:
            raise Refusal(5, "could not find profile at requested time and selectors")
        found = Profile.FromString(kept[question.merge.query])
        return bytes(parca.QueryResponse(pprof=gzip.compress(cpu(found))).SerializeToString())

    server.calls |= {parca.WRITE: write, parca.QUERY: query}
    return asked


def cpu(profile: Any) -> bytes:
    """The same with CPU time alone, as Parca answers what is of one kind."""
    for sample in profile.sample:
        del sample.value[0]
    return bytes(profile.SerializeToString())


def test_it_is_of_a_stack_only_where_somebody_asks_for_it() -> None:
    assert "profiles" not in [role.name for role in selection.select([])]
    (role,) = [each for each in selection.select(["parca"]) if each.name == "profiles"]
    assert ([each.name for each in role.candidates], role.optional) == (["parca"], False)


def test_nothing_of_it_goes_through_the_collector(stack: Stack) -> None:
    render = PROGRAMS["otelcol"].render
    assert render is not None
    assert render(stack) == render(Stack(stack.folder, ports=stack.ports))


def test_what_it_is_told(stack: Stack) -> None:
    arguments = PROGRAMS["parca"].arguments(stack)
    assert f"--http-address=127.0.0.1:{stack.port('parca')}" in arguments
    assert "--debuginfod-upstream-servers=" in arguments  # else it asks elfutils.org for symbols
    assert component.render(stack)["object_storage"]["bucket"]["type"] == "FILESYSTEM"
    scraped = PROGRAMS["prometheus"].render
    assert scraped is not None
    jobs = [each["job_name"] for each in scraped(stack)["scrape_configs"]]
    assert "parca" in jobs
    (source,) = [
        each for each in sources.provisioning(stack)["datasources"] if each["uid"] == "parca"
    ]
    assert (source["type"], source["url"]) == ("parca", stack.url("parca"))


def test_a_profile_is_written_and_found_again(stack: Stack, server: Parca) -> None:
    asked = keeping(server)
    mark = "0af1" * 8
    assert not readback.found(stack, "profiles", mark)
    readback.send(stack, "profiles", mark)
    assert readback.found(stack, "profiles", mark)
    assert asked == [f'{parca.CPU}{{mark="{mark}"}}'] * 2
    keeper = component.Parca(stack.url("parca"))
    assert keeper.samples("mark", mark, time.time_ns() - 10**9) == {"readback": 10**7}
    assert keeper.samples("service.name", "no", time.time_ns() - 10**9) == {}
    assert asked[-1] == f'{parca.CPU}{{service_name="no"}}'


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda url: component.Parca(url).has("1"), "Parca refused a query"),
        (lambda url: component.write(url, "1"), "Parca did not take a profile"),
    ],
)
def test_a_refusal_is_told(server: Parca, call: Callable[[str], object], what: str) -> None:
    def refuse(_: bytes) -> bytes:
        raise Refusal(13, "disk is full")

    with pytest.raises(ComponentError, match=r"does not answer .* text/html"):  # a page
        call(server.url)
    server.calls |= {parca.WRITE: refuse, parca.QUERY: refuse}
    with pytest.raises(ComponentError, match=rf"{what}. It said gRPC status 13: disk is full"):
        call(server.url)
    with pytest.raises(ComponentError, match="does not answer"):
        call("http://127.0.0.1:9")


@pytest.mark.parametrize("page", ["stack.md", "kubernetes.md"])
def test_a_query_by_hand_is_as_documented(server: Parca, page: str) -> None:
    asked = keeping(server)
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    (example,) = [
        block.partition("```")[0] for block in text.split("```python\n")[1:] if "Parca(" in block
    ]
    example = example.replace("http://127.0.0.1:7070", server.url).replace(
        "\nParca(", "\nfound = Parca("
    )
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["found"] == {}
    assert asked[0].startswith(f"{parca.CPU}{{")


def test_functions_are_by_their_names_and_what_has_none_by_its_address() -> None:
    profile = Profile(string_table=["", "hot", "main"])
    for number, name in ((1, 1), (2, 2)):
        profile.function.add(id=number, name=name)
        profile.location.add(id=number).line.add(function_id=number)
    profile.location.add(id=3, address=0x401000)
    profile.sample.add(location_id=[1, 1, 2], value=[5])  # one that calls itself counts once
    profile.sample.add(location_id=[3, 2], value=[2])
    assert component.by_function(profile) == {"hot": 5, "main": 7, "0x401000": 2}


def test_the_receiver_of_a_run_says_where_profiles_go(stack: Stack) -> None:
    assert Full(stack, {}).profiles_url == stack.url("parca")
    assert Full(Stack(stack.folder), {}).profiles_url == ""


def test_profiles_are_asked_for_by_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    roles = list[str]()

    def require(wanted: list[selection.Role]) -> None:
        roles.extend(f"{role.name}={role.candidates[0].name}" for role in wanted)
        raise SystemExit(0)

    monkeypatch.setattr(lifecycle, "require_all", require)
    monkeypatch.setattr(supply, "choose", lambda *_: None)
    run = CliRunner().invoke
    assert run(app, ["up", "--profiles", "parca", "--require", "parca"]).exit_code == 0
    assert roles[-1] == "grafana=grafana"
    assert "profiles=parca" in roles
    for name, why in (("pyroscope", "AGPL"), ("perf", "nothing called 'perf'")):
        refused = run(app, ["up", "--profiles", name])
        assert refused.exit_code == 2
        assert why in refused.output
    refused = run(app, ["up", "--profiles", "none", "--require", "parca"])
    assert "--require parca does not go with --profiles none" in refused.output
