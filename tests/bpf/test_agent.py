"""The agent as a process: its ready line, its commands, and what it leaves behind (nothing)."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from harness.wire import control
from tests.waiting import until

pytestmark = pytest.mark.bpf

CAPABILITIES = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")


def loaded(number: int) -> bool:
    said = processes.run(["bpftool", "prog", "show", "id", str(number)], check=False)
    return said.returncode == 0


def gone(ready: dict[str, Any]) -> bool:
    """Whether all its programs are unloaded; the kernel frees them a little later."""
    return until(lambda: not any(loaded(program["id"]) for program in ready["programs"]))


def test_the_ready_line_tells_hooks_and_programs(start_agent: Any) -> None:
    agent = start_agent("http", "--off")
    assert agent.ready["name"] == "http"
    assert sorted(agent.ready["hooks"]) == [
        "cgroup/sock_release", "cgroup_skb/egress", "cgroup_skb/ingress",
        "tp_btf/inet_sock_set_state",
    ]  # fmt: skip
    types = {program["type"] for program in agent.ready["programs"]}
    assert types == {"cgroup_skb", "cgroup_sock", "tracing"}
    assert all(loaded(program["id"]) for program in agent.ready["programs"])
    assert agent.ready["load_seconds"] > 0
    assert agent.ready["attach_seconds"] > 0


def test_switching_says_when_it_took_effect(start_agent: Any) -> None:
    agent = start_agent("http", "--off")
    began = time.monotonic_ns()
    on, off = agent.call("on"), agent.call("off")
    assert began < on["at_ns"] < off["at_ns"] < time.monotonic_ns()
    assert on["seconds"] > 0
    assert off["seconds"] > 0


def test_stats_tell_memory_and_programs(start_agent: Any) -> None:
    agent = start_agent("http")
    stats = agent.call("stats")
    assert (stats["events"], stats["lost"]) == (0, 0)
    assert stats["map_bytes"] >= 256 * 1024  # the ring buffer at least
    ids = {program["id"] for program in stats["programs"]}
    assert ids == {program["id"] for program in agent.ready["programs"]}


def test_stays_below_50_mb(start_agent: Any) -> None:
    agent = start_agent("http")
    agent.call("flush")
    rollup = Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text().splitlines()
    pss = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    assert pss < 50 * 1024


def test_stop_unloads_everything(start_agent: Any) -> None:
    agent = start_agent("http")
    assert agent.stop()["detach_seconds"] > 0
    assert gone(agent.ready)


def test_sigterm_ends_it_with_a_client_connected(start_agent: Any) -> None:
    agent = start_agent("http")
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(60) == 0
    assert gone(agent.ready)


def test_kill_leaves_no_program(start_agent: Any) -> None:
    agent = start_agent("http")
    agent.process.kill()
    agent.process.wait(60)
    assert gone(agent.ready)


def test_survives_a_client_that_disappears(start_agent: Any) -> None:
    agent = start_agent("http")
    agent.client.close()
    with control.Client(agent.socket) as another:
        assert another.call("stats")["events"] == 0


def test_a_receiver_that_is_not_there(start_agent: Any) -> None:
    agent = start_agent("http", otlp="http://127.0.0.1:9")
    agent.call("stats")
    assert agent.stop()["detach_seconds"] > 0


def test_a_file_that_cannot_be_written_is_outlived_and_counted(
    start_agent: Any, service: Any, tmp_path: Path
) -> None:
    profiles = tmp_path / "pprof"
    profiles.mkdir()
    service.start(sys.executable, "-c", "while True: pass")
    fast = ("--frequency=199", "--drain=0.1", "--interval=0.2")
    agent = start_agent("profile", *fast, "--pprof", str(profiles))
    shutil.rmtree(profiles)
    assert until(lambda: agent.call("stats")["failures"].get("ENOENT", 0) >= 2)
    told = agent.call("stats")
    assert told["errors"] == told["failures"]["ENOENT"]
    agent.stop()


@pytest.fixture
def refused(
    launch: Callable[..., Any], service: Any, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Start an agent that must not become ready; its line, after it exited with 2."""

    def start(*options: str, **where: Any) -> dict[str, Any]:
        cgroup = where.pop("cgroup", service.path)
        socket, url = tmp_path / "s", "http://127.0.0.1:9"
        process, line = launch(tmp_path / "log", "http", socket, cgroup, url, *options, **where)
        try:
            assert process.wait(60) == 2
        finally:
            processes.stop(process)
        assert line["ready"] is False
        assert not socket.exists()
        return line

    return start


def test_without_the_object_file(refused: Any, tmp_path: Path) -> None:
    line = refused("--bpf", str(tmp_path))
    assert line["what"] == f"The BPF object {tmp_path}/http.bpf.o is missing."
    assert line["next_step"] == "Run `make bpf`."


def test_with_a_damaged_object_file(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "http.bpf.o").write_bytes(b"\x7fELF nothing")
    assert "cannot be opened" in refused("--bpf", str(tmp_path))["what"]


def test_without_btf(refused: Any, tmp_path: Path) -> None:
    line = refused("--btf", str(tmp_path / "vmlinux"))
    assert "type information" in line["what"]
    assert "BTF" in line["next_step"]
    assert "`profile` alone" in line["next_step"]


def test_profile_alone_does_with_a_file_of_btf(
    launch: Any, refused: Any, service: Any, tmp_path: Path
) -> None:
    """In a mount namespace in which the kernel's own cannot be seen."""
    copy, socket = tmp_path / "btf", tmp_path / "socket"
    copy.write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
    hide = 'mount -t tmpfs none /sys/kernel/btf && exec "$0" "$@"'
    where = {"through": ("unshare", "--mount", "sh", "-c", hide)}
    options = ("--btf", str(copy))
    url = "http://127.0.0.1:9"
    log = tmp_path / "profile.log"
    process, line = launch(log, "profile", socket, service.path, url, *options, **where)
    processes.stop(process)
    assert line["ready"], line
    assert "kernel BTF" in refused(*options, **where)["why"]


def test_without_the_capabilities(refused: Any) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    line = refused(through=CAPABILITIES)
    assert line["what"] == "The kernel refused the collector `http`."
    assert "CAP_BPF" in line["next_step"]


def test_outside_of_cgroup_v2(refused: Any, tmp_path: Path) -> None:
    assert "is not a cgroup v2 directory" in refused(cgroup=tmp_path)["what"]


def test_an_unknown_collector_is_refused_by_name() -> None:
    argv = [sys.executable, "-m", "harness.agent", "nothing"]
    said = processes.run(argv, check=False)
    assert said.returncode == 2
    assert "invalid choice: 'nothing'" in said.stderr
