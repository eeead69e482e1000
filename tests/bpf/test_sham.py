"""Empty programs on the real kernel: attached exactly while on, run there, and count nothing."""

from __future__ import annotations

import http.client
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from harness.meters import bpfstats

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
DEFAULT = {"sham_ingress", "sham_egress", "sham_state"}
REQUESTS = 23


def ask(service: Any) -> None:
    """23 requests over as many connections."""
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    for _ in range(REQUESTS):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/status/204")
            connection.getresponse().read()


def runs(agent: Any) -> dict[str, int]:
    told = {program["id"] for program in agent.ready["programs"]}
    return {each.name: each.run_cnt for each in bpfstats.programs() if each.id in told}


def attached(service: Any) -> set[str]:
    """The programs on the cgroup itself."""
    shown = processes.run(["bpftool", "-j", "cgroup", "show", str(service.path)], check=False)
    return {each["name"] for each in json.loads(shown.stdout.strip() or "[]")}


def test_it_takes_the_hooks_of_http_and_flows(start_agent: Any, service: Any) -> None:
    agent = start_agent("sham", "--off")
    assert {program["name"] for program in agent.ready["programs"]} == DEFAULT
    assert attached(service) == set()
    agent.call("on")
    assert attached(service) == {"sham_ingress", "sham_egress"}
    agent.call("off")
    assert attached(service) == set()


def test_it_runs_only_while_on_and_sees_nothing(start_agent: Any, service: Any) -> None:
    agent = start_agent("sham", "--off")
    with bpfstats.StatsEnabled():
        ask(service)
        assert runs(agent) == dict.fromkeys(DEFAULT, 0)
        agent.call("on")
        ask(service)
        agent.call("off")
        ran = runs(agent)
        assert min(ran.values()) >= REQUESTS
        ask(service)
        assert runs(agent) == ran
    stats = agent.call("flush")
    assert (stats["events"], stats["lost"], stats["spans"]) == (0, 0, 0)


def test_it_takes_every_hook_that_is_asked_for(start_agent: Any, service: Any) -> None:
    agent = start_agent("sham", "--hooks", "profile+guard")
    assert agent.ready["hooks"] == [
        "tp_btf/sched_process_exec", "cgroup/connect4", "cgroup/connect6",
        "cgroup/sendmsg4", "cgroup/sendmsg6", "perf_event/cpu-clock@19Hz",
    ]  # fmt: skip
    with bpfstats.StatsEnabled():
        assert processes.ended(service.start("/bin/true"), 60) == 0
        assert runs(agent)["sham_exec"] >= 1


def test_it_leaves_nothing_behind(start_agent: Any, service: Any) -> None:
    agent = start_agent("sham", "--hooks", "http+flows+profile+guard")
    assert attached(service) >= {"sham_ingress", "sham_connect4"}
    agent.stop()
    assert attached(service) == set()


def test_hooks_that_are_not_known_are_refused(service: Any, launch: Any, tmp_path: Path) -> None:
    options = (tmp_path / "s", service.path, "http://127.0.0.1:9", "--hooks", "http+inject")
    process, ready = launch(tmp_path / "log", "sham", *options)
    assert processes.stop(process) == 2
    assert "'inject', whose hooks are not known" in ready["what"]
    assert "http, flows, profile, guard" in ready["next_step"]
