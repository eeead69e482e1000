"""`profile` to a real Parca: after one request the service is found there, by its function."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from harness.stack.config.description import KEEPS
from harness.stack.config.parca import Parca, write
from harness.targets.kubernetes import values
from tests.bpf.conftest import remove_cgroup
from tests.bpf.contained import Container
from tests.bpf.profiled import compiled, sample
from tests.running_parca import running
from tests.waiting import until

pytestmark = [pytest.mark.bpf, pytest.mark.stack]

SERVICE = """import http.server, json, time
def hot():
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        hot()
        self.send_response(204)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"ready": True, "port": server.server_port}), flush=True)
server.serve_forever()
"""


@pytest.fixture
def parca(tmp_path: Path) -> Iterator[str]:
    with running(tmp_path) as stack:
        yield stack.url("parca")


def test_after_one_request_its_profile_is_found(
    service: Any, start_agent: Callable[..., Any], receiver: Any, tmp_path: Path, parca: str
) -> None:
    program = tmp_path / "service.py"
    program.write_text(SERVICE)
    port = service.serve("/usr/bin/python3", str(program))
    began = time.time_ns()
    agent = start_agent("profile", "--frequency", "99", "--service-name", "shop", "--parca", parca)
    urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
    stats = agent.call("flush")
    assert stats["waiting"] == stats["lost"] == 0
    keeper = Parca(parca)
    hot = 3 * 10**8  # of half a second
    assert until(lambda: keeper.samples("service.name", "shop", began).get("hot", 0) > hot)
    assert keeper.samples("service.name", "another", began) == {}
    assert not receiver.profiles
    assert receiver.metrics  # as before


def test_what_has_no_names_is_found_by_its_file(
    service: Any, start_agent: Callable[..., Any], parca: str, tmp_path: Path
) -> None:
    began = time.time_ns()
    agent = start_agent("profile", "--frequency", "99", "--service-name", "busy", "--parca", parca)
    service.start(str(compiled(tmp_path)))
    sample(agent, 50)
    keeper = Parca(parca)
    assert until(lambda: keeper.samples("service.name", "busy", began))
    assert any(name.startswith("busy+0x") for name in keeper.samples("service.name", "busy", began))


def test_the_agent_of_a_node_writes_stacks_of_its_containers(
    service: Any, launch: Callable[..., Any], receiver: Any, tmp_path: Path, parca: str
) -> None:
    """With the arguments that the chart has; the proof of a cluster asks by the container's id."""
    stack = values.stack("shop", keeps={**KEEPS, "profiles": "parca"})
    (option,) = values.collectors(stack)["profile"]
    options = (
        "--containers",
        "--sample=1",
        "--interval=1",
        option.replace(stack.url("parca"), parca),
    )
    pod = service.path / "pod2a6f4d5e-1b2c-4d3e-8f90-0123456789ab"
    one = Container(pod / ("0af1" * 16), tmp_path / "container.log")
    one.path.mkdir(parents=True)
    names, began, keeper = "flows+guard+http+profile", time.time_ns(), Parca(parca)
    with tempfile.TemporaryDirectory() as sockets:
        process, ready = launch(
            tmp_path / "agent.log",
            names,
            Path(sockets, "{name}"),
            service.path,
            receiver.url,
            *options,
        )
        try:
            assert ready["ready"], ready
            one.burn("hot")
            wanted = ("service.instance.id", one.path.name, began)
            assert until(lambda: "hot" in keeper.samples(*wanted))
            assert keeper.samples("k8s.pod.uid", pod.name.removeprefix("pod"), began)
        finally:
            processes.stop(process)
            one.remove()
            remove_cgroup(pod)
    assert not receiver.profiles
    assert receiver.metrics


def test_nothing_is_found_of_a_container_of_which_nothing_was_ever_written(parca: str) -> None:
    """As the proof of a cluster asks it first, when no profile has such a label yet."""
    keeper = Parca(parca)
    assert keeper.samples("service.instance.id", "0af1", 0) == {}  # nothing is there at all
    write(parca, "0af1" * 8)
    assert until(lambda: keeper.has("0af1" * 8))
    assert keeper.samples("service.instance.id", "0af1", 0) == {}
