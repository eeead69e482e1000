"""Several collectors in one process: each is switched and told by itself, all send together."""

from __future__ import annotations

import http.client
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from harness.wire import control
from tests.bpf.guarded import HUNG, policy
from tests.waiting import until

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
ALL = ("http", "flows", "profile", "guard")
PATIENCE_SECONDS = 60
# A file of a container whose file system never answers, from the moment that another file is there.
HUNG_ELF = """
import os, sys, time
from harness.agent import images
class Hung(images.Elf):
    def __init__(self, path):
        while os.path.exists({flag!r}):
            open({flag!r} + ".seen", "w").close()
            time.sleep(0.1)
        super().__init__(path)
images.Elf = Hung
from harness.agent.__main__ import main
sys.exit(main(sys.argv[4:]))
"""
# A receiver that takes its time for each request, of which there are many.
SLOW = """
import sys, time
from harness.agent import lanes, otlp, outbox
lanes.BATCH, outbox.END_SECONDS = 1, 0.5
send = otlp.Exporter.send_spans
def slowly(self, batch):
    time.sleep(0.3)
    return send(self, batch)
otlp.Exporter.send_spans = slowly
from harness.agent.__main__ import main
sys.exit(main(sys.argv[4:]))
"""


@dataclass
class Together:
    """A process of several collectors: `calls` talk to each of them."""

    process: processes.Process
    ready: dict[str, Any]
    clients: dict[str, control.Client]

    def call(self, name: str, command: str) -> dict[str, Any]:
        return self.clients[name].call(command)

    def close(self) -> None:
        for each in self.clients.values():
            each.close()
        processes.stop(self.process)


@pytest.fixture
def host(
    launch: Callable[..., Any], service: Any, receiver: Any, tmp_path: Path
) -> Iterator[Callable[..., Together]]:
    """Start one process: `host(("http", "flows"), "--sample", "1")`; `code` is run instead."""
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def start(names: Sequence[str], *options: str, code: str = "") -> Together:
            process, ready = launch(
                tmp_path / "log", "+".join(names), sockets / "{name}.sock", service.path,
                receiver.url, "--instance-id", "{name}@here", *options,
                through=(sys.executable, "-c", code) if code else (),
            )  # fmt: skip
            stack.callback(processes.stop, process)
            assert ready["ready"], ready
            clients = {name: control.Client(sockets / f"{name}.sock") for name in names}
            return stack.enter_context(closing(Together(process, ready, clients)))

        yield start


@pytest.fixture
def ask(service: Any) -> Callable[[int], None]:
    """Make so many requests, all on a connection of their own."""
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")

    def requests(times: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            for _ in range(times):
                connection.request("GET", "/")
                connection.getresponse().read()

    return requests


def loaded(ready: dict[str, Any]) -> bool:
    return any(
        not processes.run(
            ["bpftool", "prog", "show", "id", str(each["id"])], check=False
        ).returncode
        for each in ready["programs"]
    )


def told(receiver: Any, name: str) -> dict[tuple[str, str], float]:
    """The metric as it arrived last, added up by collector and by who sent it."""
    latest: dict[tuple[str, str], float] = {}
    for resource, metric in receiver.told:
        if getattr(metric, "name", "") == name:
            points = getattr(metric, metric.WhichOneof("data")).data_points
            values = [getattr(each, each.WhichOneof("value")) for each in points]
            whose = receiver.attributes(points[0])["harness.collector"]
            latest[whose, resource["service.instance.id"]] = sum(values)
    return latest


def test_each_is_ready_and_answers_on_a_socket_of_its_own(
    host: Callable[..., Together], tmp_path: Path
) -> None:
    together = host(ALL, "--off")
    each = {one["name"]: one for one in together.ready["collectors"]}
    assert tuple(each) == ALL
    assert together.ready["name"] == "http+flows+profile+guard"
    ids = [program["id"] for one in each.values() for program in one["programs"]]
    assert [program["id"] for program in together.ready["programs"]] == ids
    for name in ALL:
        mine = {program["id"] for program in each[name]["programs"]}
        assert {program["id"] for program in together.call(name, "stats")["programs"]} == mine
        assert together.call(name, "flush")["errors"] == 0


def test_each_is_switched_by_itself(
    host: Callable[..., Together], ask: Callable[[int], None]
) -> None:
    together = host(("http", "flows"), "--sample", "1", "--off")
    together.call("http", "on")
    ask(23)
    assert together.call("http", "flush")["events"] == 23
    assert together.call("flows", "flush")["events"] == 0
    together.call("http", "off")
    together.call("flows", "on")
    ask(7)
    assert together.call("http", "flush")["events"] == 23
    assert until(lambda: together.call("flows", "flush")["events"] >= 2)  # opened and closed


def test_one_that_is_stopped_is_unloaded_and_the_last_ends_the_process(
    host: Callable[..., Together], ask: Callable[[int], None]
) -> None:
    together = host(("http", "flows"))
    http_, flows = together.ready["collectors"]
    assert together.call("flows", "stop")["unsent"] == 0
    assert until(lambda: not loaded(flows))
    assert loaded(http_)
    ask(23)
    assert together.call("http", "flush")["events"] == 23
    together.call("http", "stop")
    assert together.process.wait(60) == 0
    assert until(lambda: not loaded(together.ready))


def test_a_signal_ends_all_with_their_clients_connected(host: Callable[..., Together]) -> None:
    together = host(("http", "flows", "guard"))
    together.process.send_signal(signal.SIGTERM)
    assert together.process.wait(60) == 0
    assert until(lambda: not loaded(together.ready))


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_an_end_does_not_wait_for_all_that_a_slow_receiver_would_take(
    host: Callable[..., Together],
    ask: Callable[[int], None],
    receiver: Any,
    tmp_path: Path,
    how: str,
) -> None:
    together = host(("http", "flows"), "--sample", "1", "--drain", "0.1", code=SLOW)
    ask(60)
    assert until(lambda: together.call("http", "stats")["waiting"] + len(receiver.spans) >= 60)
    if how == "stop":
        said = together.call("http", "stop")
        assert said["dropped"]["spans"] == {"unsent": said["unsent"]}
        together.call("flows", "stop")
    else:
        together.process.send_signal(signal.SIGTERM)
    assert together.process.wait(60) == 0
    words = r"(\d+) spans, log records and profiles were taken by no receiver"
    told = re.search(words, _log(tmp_path))
    assert told, _log(tmp_path)
    assert int(told[1]) == 60 - len(receiver.spans) > 0


def _log(folder: Path) -> str:
    return (folder / "log").read_text()


@pytest.mark.parametrize(("name", "code"), [("guard", HUNG), ("profile", HUNG_ELF)])
def test_what_a_thread_that_is_held_up_uses_is_not_freed(
    host: Callable[..., Together], service: Any, tmp_path: Path, name: str, code: str
) -> None:
    """It goes on one day, in a process that others live in."""
    flag, seen = tmp_path / "hung", tmp_path / "hung.seen"
    options = policy(tmp_path, ("open", "/nowhere/*", "report"))
    together = host(("guard", "profile", "flows"), *options, code=code.format(flag=str(flag)))
    told = {each["name"]: each for each in together.ready["collectors"]}
    flag.touch()
    service.start("/bin/sh", "-c", "while :; do :; done")
    assert until(lambda: together.call("guard", "flush") and seen.exists())
    together.call(name, "stop")
    assert until(lambda: not loaded(told[name]))
    threads = Path(f"/proc/{together.process.pid}/task")
    before = len(list(threads.iterdir()))
    flag.unlink()
    assert until(lambda: len(list(threads.iterdir())) < before)
    assert together.call("flows", "flush")["errors"] == 0
    for other in {"guard", "profile", "flows"} - {name}:
        together.call(other, "stop")
    assert together.process.wait(60) == 0
    assert until(lambda: not loaded(together.ready))


def test_telemetry_and_cost_are_told_of_each_and_the_rest_once(
    host: Callable[..., Together], ask: Callable[[int], None], receiver: Any
) -> None:
    host(("http", "flows"), "--sample", "1", "--interval", "0.3", "--drain", "0.1")
    ask(23)
    both = "http+flows"
    whose = {(name, f"{name}@here") for name in ("http", "flows", both)}
    assert until(lambda: set(told(receiver, "process.cpu.time")) == whose)
    assert set(told(receiver, "process.memory.usage")) == {(both, f"{both}@here")}
    assert set(told(receiver, "harness.agent.events")) == whose - {(both, f"{both}@here")}
    assert until(lambda: told(receiver, "harness.agent.events").get(("http", "http@here")) == 23)
    assert until(lambda: len(receiver.spans) == 23)


def test_what_a_collector_burns_is_its_own(host: Callable[..., Together], receiver: Any) -> None:
    """And neither the other's nor nobody's."""
    together = host(("sham", "inject"), "--agent-percent", "20", "--interval", "0.3")

    def burnt() -> float:
        return float(together.call("inject", "stats")["agent_burnt_seconds"])

    assert until(lambda: burnt() > 1)
    seconds = burnt()
    whose = "inject", "inject@here"
    assert until(lambda: told(receiver, "process.cpu.time").get(whose, 0) > seconds - 0.1)
    others = {
        whose: spent
        for (whose, _), spent in told(receiver, "process.cpu.time").items()
        if whose != "inject"
    }
    assert others["sham"] < 0.5 * seconds
    assert set(others) == {"sham", "sham+inject"}


def test_one_socket_for_several_is_refused(
    launch: Callable[..., Any], service: Any, tmp_path: Path
) -> None:
    process, line = launch(
        tmp_path / "log", "http+flows", tmp_path / "s", service.path, "http://127.0.0.1:9"
    )
    assert process.wait(60) == 2
    assert "is one socket for 2 collectors" in line["what"]


def test_an_unknown_one_or_the_same_twice_is_refused_by_name() -> None:
    for names, said in (("http+nothing", "'nothing'"), ("http+http", "twice")):
        argv = [sys.executable, "-m", "harness.agent", names]
        done = processes.run(argv, check=False)
        assert done.returncode == 2
        assert said in done.stderr
