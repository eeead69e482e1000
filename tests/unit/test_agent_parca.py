"""Profiles to Parca: each container's stacks, its attributes as labels; who refuses is named."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.agent import profile
from harness.agent.errors import AgentError, LaterError, RefusedError, UnansweredError
from harness.agent.origin import Origin
from harness.agent.outbox import Outbox
from harness.agent.parca import Profiles, ToParca
from harness.agent.pprof import Frame, Stack, stacks
from harness.agent.telemetry import Log, Span, Telemetry
from harness.wire import parca
from harness.wire.pprof import Profile
from tests.otlp_profiles import HOT, NATIVE, ONE, ORIGIN, OTHER, READ, WHO
from tests.unit.parcas import Parca, Refusal
from tests.unit.test_otlp import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def server() -> Iterator[Parca]:
    server = Parca()
    yield server
    server.close()


def made() -> Profiles:
    found = Profiles(began_ns=10**18, duration_ns=5 * 10**9, period_ns=10**7)
    found.add(ONE, [READ, NATIVE, HOT], 3, {**WHO, "process.executable.name": "server"})
    found.add(OTHER, [NATIVE], 5, WHO)
    found.add(None, [HOT], 6, {})
    found.add(None, [], 1, {})
    return found


def written(message: bytes) -> dict[str, tuple[dict[str, str], Any]]:
    """By container: the labels of its profile, and that."""
    found = {}
    for series in parca.WriteRawRequest.FromString(message).series:
        labels = {each.name: each.value for each in series.labels.labels}
        assert len(labels) == len(series.labels.labels)  # Parca refuses two of a name
        (sample,) = series.raw
        found[labels.get("container_id", "")] = labels, Profile.FromString(sample.raw_profile)
    return found


def test_each_container_has_its_profile_and_its_labels() -> None:
    assert len(made()) == 3
    found = written(made().encoded(ORIGIN))
    assert list(found) == [ONE.id, OTHER.id, ""]
    labels, of_one = found[ONE.id]
    assert labels["__name__"] == "process_cpu"
    assert (labels["service_instance_id"], labels["k8s_pod_uid"]) == (ONE.id, ONE.pod)
    about = (("process_executable_name", "server"),)
    native = NATIVE._replace(name="server+0x2000")  # Parca hides a profile without any name
    read = READ._replace(name="[kernel.kallsyms]+0x5")
    assert list(stacks(of_one)) == [Stack((read, native, HOT), 3, 42, 43, about)]
    assert (of_one.time_nanos, of_one.duration_nanos) == (10**18, 5 * 10**9)
    labels, of_service = found[""]
    assert labels["service_name"] == "shop"
    nothing = Frame(name="[no stack]")
    assert list(stacks(of_service)) == [Stack((HOT,), 6, 0, 0), Stack((nothing,), 1, 0, 0)]
    units = [of_service.string_table[each.unit] for each in of_service.sample_type]
    assert units == ["count", "nanoseconds"]


def test_what_the_environment_says_of_the_service_is_labels_that_parca_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "empty=,none=0,2nd.zone=b,größe=1,deployment.environment.name=test,=x"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", said)
    found = written(made().encoded(Origin("profile", "shop", lambda: 42)))
    labels, _ = found[""]
    assert {name: labels.get(name) for name in ("empty", "none", "process_pid")} == {
        "empty": "", "none": "0", "process_pid": "42",
    }  # fmt: skip
    assert (labels["_2nd_zone"], labels["gr__e"], labels["_"]) == ("b", "1", "x")
    assert labels["deployment_environment_name"] == "test"
    assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in labels)


def test_profiles_go_to_parca_and_the_rest_to_the_receiver(
    receiver: Receiver, server: Parca
) -> None:
    taken = list[bytes]()

    def take(message: bytes) -> bytes:
        taken.append(message)
        return b""

    server.calls[parca.WRITE] = take
    exporter = ToParca(receiver.url, server.url + "/")
    assert exporter.send_profiles([(ORIGIN, [made(), made()])]) == 0
    assert exporter.send_spans([(ORIGIN, [Span("GET /", 0, 1, {})])]) == 0
    exporter.close()
    assert [list(written(each)) for each in taken] == [[ONE.id, OTHER.id, ""]] * 2
    assert [path for path, _, _ in receiver.asked] == ["/v1/traces"]


def test_parca_takes_profiles_while_the_receiver_is_away(server: Parca) -> None:
    server.calls[parca.WRITE] = lambda _: b""
    with closing(ToParca("http://127.0.0.1:9", server.url)) as exporter:
        outbox = Outbox(exporter)
        outbox.put(ORIGIN, Telemetry(logs=[Log("l", 0, {})], profiles=[made()]))
        with pytest.raises(UnansweredError, match="logs did not reach"):
            outbox.send(now=True)
    assert (outbox.tally(ORIGIN).exported, outbox.tally(ORIGIN).waiting) == (3, 1)


def refusing(status: int) -> Any:
    def call(_: bytes) -> bytes:
        raise Refusal(status, "no")

    return call


def test_what_it_says_decides_whether_it_is_tried_again(receiver: Receiver, server: Parca) -> None:
    batch = [(ORIGIN, [made()])]
    with closing(ToParca(receiver.url, server.url)) as exporter:
        with pytest.raises(RefusedError, match="text/html") as raised:  # a page
            exporter.send_profiles(batch)
        assert raised.value.next_step == "Check what it takes, and that it is Parca."
        server.calls[parca.WRITE] = refusing(3)
        with pytest.raises(RefusedError, match="gRPC status 3: no"):
            exporter.send_profiles(batch)
        server.calls[parca.WRITE] = refusing(14)
        with pytest.raises(LaterError, match="gRPC status 14: no"):
            exporter.send_profiles(batch)
    with closing(ToParca(receiver.url, "http://127.0.0.1:9")) as away:
        with pytest.raises(UnansweredError) as gone:
            away.send_profiles(batch)
        assert gone.value.next_step == "Check that Parca listens there."
    with pytest.raises(AgentError, match="--parca 7070 is no URL of Parca"):
        ToParca(receiver.url, "7070")


def test_stacks_go_to_one_receiver(tmp_path: Path) -> None:
    parser = ArgumentParser(conflict_handler="resolve")
    profile.add_options(parser)
    parser.add_argument("--cgroup")
    parser.add_argument("--interval", type=float, default=3.0)
    given = ["--cgroup", str(tmp_path), "--parca", "http://127.0.0.1:7070", "--profiles", "on"]
    with pytest.raises(AgentError, match="go to one receiver"):
        profile.create(parser.parse_args(given))
