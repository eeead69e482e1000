"""`harness evaluate` from the outside: a small real evaluation, and every bad day there is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis import validity
from harness.linux import cpu_idle, processes
from harness.plan import experiment
from harness.results.run import Run
from tests.e2e.evaluating import HARNESS, ROOT, SMALL, clean_machine, command, evaluated
from tests.waiting import until

pytestmark = pytest.mark.e2e

OWN = SMALL.replace("go", "own")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test here, however bad its day, leaves the machine as it was."""
    yield from clean_machine()


def _start(tmp_path: Path, *arguments: str | Path) -> processes.Process:
    log = tmp_path / "harness.log"
    return processes.spawn([*HARNESS, *map(str, arguments)], log=log, cwd=ROOT)


def _await(condition: Callable[[], bool], what: str) -> None:
    assert until(condition, 180), f"waited in vain for {what}"


def _trials(run: Path) -> int:
    return len(list(run.glob("trials/*/trial.json")))


def test_small_evaluation(small: Path, tmp_path: Path) -> None:
    done = command("evaluate", small, "--reports", tmp_path, "--run", "r")
    assert "go" in done.stdout
    assert "report.html" in done.stdout
    rows = json.loads((tmp_path / "r/report.json").read_text())["rows"]
    found = {(row["arm"], row["metric"]): row for row in rows}
    assert found["http", "coverage_percent[requests]"]["estimate"] == 100
    assert found["http", "bpf_us"]["estimate"] > 0
    assert found["http", "bill_us"]["estimate"] > found["http", "bpf_us"]["estimate"]
    aa = found["baseline", "workload_cpu_us"]
    assert 4 * 16 <= aa["n"] <= 4 * 20  # windows
    assert aa["low"] < aa["high"]
    assert (tmp_path / "r/measurements.jsonl.gz").stat().st_size > 0


def test_own_program_is_measured(small: Path, tmp_path: Path, port: int) -> None:
    """A program that is not ours, with nothing of ours in it."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    small.write_text(OWN)
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/log;\n"
        "events {}\nhttp { access_log off; keepalive_requests 1000000;\n"
        f"client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;\n"
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u;\n"
        f"scgi_temp_path {tmp_path}/s;\n"
        f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello"; }} }} }}\n'
    )
    command(
        "evaluate", small, "--command", f"nginx -c {conf}", "--url", f"http://127.0.0.1:{port}/",
        "--reports", tmp_path, "--run", "own",
    )  # fmt: skip
    rows = json.loads((tmp_path / "own/report.json").read_text())["rows"]
    coverage = [r for r in rows if r["metric"] == "coverage_percent[requests]"]
    assert [(r["workload"], r["estimate"]) for r in coverage] == [("nginx", 100)]


def test_interrupt_keeps_what_was_measured_and_resume_goes_on(small: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    process = _start(tmp_path, "evaluate", small, "--reports", tmp_path, "--run", "r")
    _await(lambda: _trials(run) == 1, "the first trial")
    process.send_signal(signal.SIGINT)
    assert process.wait(180) == 130
    text = (tmp_path / "harness.log").read_text()
    assert "What was measured is kept" in text
    assert "This is what is known by now" in text
    assert f"Report: {run / 'report.html'}" in text
    assert json.loads((run / "report.json").read_text())["complete"] is False
    assert "--resume" in text
    kept = {p: p.stat().st_mtime_ns for p in run.glob("trials/*/trial.json")}
    command("evaluate", "--resume", run)
    assert _trials(run) == 3
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert json.loads((run / "run.json").read_text())["complete"]


def test_what_is_refused_while_a_run_is_measured_leaves_nothing(
    small: Path, tmp_path: Path
) -> None:
    small.write_text(SMALL.replace("blocks = 1", "blocks = 9"))
    run = tmp_path / "r"
    process = _start(tmp_path, "evaluate", small, "--reports", tmp_path, "--run", "r")
    try:
        _await(lambda: _trials(run) == 1, "the first trial")
        for words in (
            ("evaluate", small, "--run", "second", "--reports", tmp_path),
            ("calibrate", "--run", "second", "--reports", tmp_path, "--minutes", "2"),
            ("evaluate", "--resume", run),
        ):
            done = command(*words, check=False)
            assert done.returncode == 2
            assert "is being measured by process " in done.stderr
            assert "Go on with" not in done.stderr
            assert "not measured" not in done.stdout
            assert not (tmp_path / "second").exists()
            assert not (run / "report.html").exists()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(180)


def test_killed_run_leaves_nothing_and_is_resumed(small: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    process = _start(tmp_path, "evaluate", small, "--reports", tmp_path, "--run", "r")
    _await(lambda: _trials(run) == 1, "the first trial")
    time.sleep(1.0)  # well into the next one
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _await(lambda: not Path("/run/harness").exists(), "the node to undo everything")
    assert "There was nothing to clean." in command("clean").stdout
    command("evaluate", "--resume", run)
    assert _trials(run) == 3


def test_workload_that_dies_in_the_middle(small: Path, tmp_path: Path, port: int) -> None:
    small.write_text(OWN)
    server = tmp_path / "server.py"
    server.write_text(
        "import http.server, os, threading\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.send_header('Content-Length', '2')\n"
        "        self.end_headers(); self.wfile.write(b'ok')\n"
        "    def log_message(self, *a): pass\n"
        "def die():\n"
        "    print('out of luck', file=__import__('sys').stderr, flush=True); os._exit(3)\n"
        "threading.Timer(8, die).start()\n"
        f"http.server.ThreadingHTTPServer(('127.0.0.1', {port}), H).serve_forever()\n"
    )
    done = command(
        "evaluate", small, "--command", f"{sys.executable} {server}",
        "--url", f"http://127.0.0.1:{port}/", "--reports", tmp_path, "--run", "r", check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "died (exit code 3)" in done.stderr
    assert "out of luck" in done.stderr
    assert "--resume" in done.stderr


def test_program_that_goes_to_the_background(small: Path, tmp_path: Path, port: int) -> None:
    """Its first process ends at once and another answers: refused, and nothing of it stays."""
    small.write_text(OWN)
    script = tmp_path / "daemon.sh"
    server = f"setsid {sys.executable} -m http.server --bind 127.0.0.1 {port}"
    script.write_text(f"#!/bin/sh\n{server} >/dev/null 2>&1 &\nsleep 2\n")
    script.chmod(0o755)
    done = command(
        "evaluate", small, "--command", str(script), "--url", f"http://127.0.0.1:{port}/",
        "--reports", tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "died" in done.stderr or "foreground" in done.stderr


def test_port_taken(small: Path, tmp_path: Path) -> None:
    small.write_text(OWN)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(
            "evaluate", small, "--command", "/bin/sleep 60", "--url", f"http://127.0.0.1:{port}/",
            "--reports", tmp_path, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"Port {port} is taken" in done.stderr
    assert f"{os.getpid()}" in done.stderr


def test_old_and_new_take_turns_in_one_run(small: Path, tmp_path: Path) -> None:
    """Both versions are installed, each window belongs to one, and each is told apart."""
    command(
        "evaluate", small, "--arm", "old=profile", "--arm", "new=profile:frequency=997",
        "--reports", tmp_path, "--run", "r",
    )  # fmt: skip
    run = Run.open(tmp_path / "r")
    records = {(r.trial.arm, r.trial.kind): r for r in run.records()}
    assert set(records) == {("baseline", "switched"), ("new", "switched"), ("new", "metered")}
    seen = {
        value.labels["role"]: value.value
        for value in records["new", "switched"].values
        if value.metric == "signal_made"
    }
    assert seen["candidate"] > 10 * seen["reference"] > 0
    slices = run.windows(records["new", "metered"].trial)
    runs = {on: sum(s.meters["bpf.runs"] for s in slices if s.window.on == on)
            for on in (True, False)}  # fmt: skip
    assert runs[True] > 5 * runs[False]  # which may be none: 19 Hz of a few ms of CPU
    assert [s.window.on for s in slices[:4]] in ([True, False, False, True],
                                                 [False, True, True, False])  # fmt: skip
    about = run.about()
    assert about.idle_poll == cpu_idle.DEVICE.exists()
    assert about.warmups[0]["workload"] == "go"


def test_metered_slices_add_up_to_the_whole(small: Path, tmp_path: Path) -> None:
    """A row is a slice; their sums are what the trial tells of the programs."""
    command("evaluate", small, "--reports", tmp_path, "--run", "r")
    run = Run.open(tmp_path / "r")
    record = next(r for r in run.records() if r.trial.kind == "metered")
    slices = run.windows(record.trial)
    assert [s.window.quadruple for s in slices] == [i // 4 for i in range(len(slices))]
    ran = sum(v.value for v in record.values if v.metric == "bpf_run_time_seconds")
    told = next(v.value for v in record.values if v.metric == "metered_requests")
    assert sum(s.meters["bpf.run"] for s in slices) == pytest.approx(ran, rel=0.05)
    assert sum(s.meters["requests"] for s in slices) == told > 0
    assert {v.labels.get("hook") for v in record.values if v.metric == "bpf_run_count"} - {None}


def test_spoilt_trial_is_repeated_once_and_both_are_kept(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write_text(SMALL.split('[[arms]]\nname = "http"')[0])
    chosen = replace(experiment.load(small), replacements=1)
    monkeypatch.setattr(validity, "RULES", (lambda values: "Spoilt.",))
    outcome = evaluated(chosen, tmp_path / "r")
    run = outcome.run
    assert outcome.error is None
    assert [(r.trial.arm, r.trial.attempt, r.status) for r in run.records()] == [
        ("baseline", 0, "ok"), ("baseline", 1, "ok"),
    ]  # fmt: skip


def test_time_that_is_up_ends_the_blocks(small: Path, tmp_path: Path) -> None:
    small.write_text(SMALL.replace("blocks = 1", "blocks = 3"))
    command("evaluate", small, "--minutes", "0.05", "--reports", tmp_path, "--run", "r")
    about = json.loads((tmp_path / "r/run.json").read_text())
    assert about["complete"]
    assert about["ended_early"]["go"]["blocks"] == 1
    assert _trials(tmp_path / "r") == 3
    command("evaluate", "--resume", tmp_path / "r")
    assert _trials(tmp_path / "r") == 3


def test_disk_that_fills_up(small: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    processes.run(["mount", "-t", "tmpfs", "-o", "size=220m", "tmpfs", str(disk)])
    try:
        run = disk / "r"
        process = _start(tmp_path, "evaluate", small, "--reports", disk, "--run", "r")
        _await(lambda: _trials(run) == 1, "the first trial")
        filler = disk / "filler"
        with filler.open("wb") as out:
            try:
                while out.write(bytes(1 << 20)):
                    out.flush()
            except OSError:
                pass
        code = process.wait(300)
        text = (tmp_path / "harness.log").read_text()
        assert code == 2, text
        assert "Make room" in text, text
        assert f"--resume {run}" in text
        assert _trials(run) >= 1
        filler.unlink()
        command("evaluate", "--resume", run)
        assert json.loads((run / "run.json").read_text())["complete"]
    finally:
        processes.run(["umount", str(disk)])


def test_not_root(small: Path, tmp_path: Path) -> None:
    done = processes.run(
        ["unshare", "--user", "--map-user=1000", *HARNESS, "evaluate", str(small),
         "--reports", str(tmp_path)],
        check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Root is needed" in done.stderr
    assert "sudo" in done.stderr


def test_kernel_without_btf(small: Path, tmp_path: Path) -> None:
    script = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'
    done = processes.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *HARNESS, "evaluate", str(small),
         "--reports", str(tmp_path)],
        check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no type information" in done.stderr
    assert not list(tmp_path.glob("*/run.json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "nothing-of-that-name"], "Those that ship: "),
        (["evaluate", "--resume", "nowhere"], "is not a run"),
        (["evaluate", "--command", "x"], "needs both --command and --url"),
        (["evaluate", "--command", "a 'b", "--url", "http://127.0.0.1:1/"], "cannot be read"),
        (["evaluate", "--command", "sh", "--url", "ftp://127.0.0.1:21/"], "not a URL of a service"),
        (["evaluate", "--arm", "old=http"], "nothing to be compared with"),
        (["evaluate", "--arm", "a=nothing"], "Arm 'a': The collector 'nothing' is not known"),
        (["evaluate", "--workload", "perl"], "There is no workload 'perl'"),
        (["report", "nowhere"], "is not a run"),
    ],
)
def test_bad_input_is_one_clear_sentence(arguments: list[str], words: str) -> None:
    done = command(*arguments, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
