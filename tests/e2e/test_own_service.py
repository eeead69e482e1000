"""A service as there are many: a login, a limit, an application behind it; all of it is told."""

from __future__ import annotations

import base64
import json
import socket
import sys
from pathlib import Path

import pytest

from harness.linux import processes
from harness.results.run import Run

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 400  # requests a second
EXPERIMENT = """
workloads = ["own"]
blocks = 1
replacements = 0
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
calibration_seconds = 1.0
switched_seconds = 3.0
steady_seconds = 1.0
metered_seconds = 0.5
[[arms]]
name = "baseline"
[[arms]]
name = "http"
collectors = ["http"]
"""
SERVICE = """
import http.client, os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, LIMIT, LOGIN = int(os.environ["PORT"]), float(os.environ["LIMIT"]), os.environ["LOGIN"]
mine, lock, tokens, last = threading.local(), threading.Lock(), 40.0, time.monotonic()

def allowed():
    global tokens, last
    with lock:
        now = time.monotonic()
        tokens, last = min(40.0, tokens + (now - last) * LIMIT), now
        if tokens < 1:
            return False
        tokens -= 1
        return True

class Back(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_GET(self):
        self.answer(200)

    def log_message(self, *_):
        pass

class Front(Back):
    def do_GET(self):
        if self.headers["Authorization"] != "Basic " + LOGIN:
            self.answer(401)
        elif not allowed():
            self.answer(429)
        else:
            if not hasattr(mine, "upstream"):
                mine.upstream = http.client.HTTPConnection("127.0.0.1", back.server_port)
            mine.upstream.request("GET", "/upstream")
            mine.upstream.getresponse().read()
            self.answer(200)

ThreadingHTTPServer.request_queue_size = 128
back = ThreadingHTTPServer(("127.0.0.1", 0), Back)
threading.Thread(target=back.serve_forever, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", PORT), Front).serve_forever()
"""
TWINS = """
workloads = ["own"]
blocks = 1
replacements = 0
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
switched_seconds = 3.0
steady_seconds = 1.0
loads = { own = { rate = 150 } }
[[arms]]
name = "baseline"
[[arms]]
name = "flows"
collectors = ["flows"]
method = "twin"
[[arms]]
name = "within"
collectors = ["WITHIN"]
"""
WITHIN = """
name = "within"
purpose = "Stands for an agent within the service: a ms of CPU a request"
kind = "in-process"
environment = { SLOW = "0.001" }

[source]
way = "path"
name = "python3"
"""
PLAIN = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        end = time.thread_time() + float(os.environ.get("SLOW", 0))
        while time.thread_time() < end:
            pass
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass

ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_each_process_of_a_program_of_ones_own_gets_a_port_so_that_two_are_compared(
    tmp_path: Path,
) -> None:
    (tmp_path / "within.toml").write_text(WITHIN)
    (tmp_path / "e.toml").write_text(TWINS.replace("WITHIN", f"{tmp_path}/within.toml"))
    (tmp_path / "service.py").write_text(PLAIN)
    processes.run(
        [sys.executable, "-m", "harness", "evaluate", f"{tmp_path}/e.toml", "--run", "r",
         "--reports", str(tmp_path / "reports"), "--url", "http://127.0.0.1:{port}/",
         "--command", f"{sys.executable} {tmp_path}/service.py {{port}}"],
        timeout=300, cwd=ROOT,
    )  # fmt: skip
    run = Run.open(tmp_path / "reports/r")
    records = [r for r in run.records() if r.trial.kind == "switched"]
    assert [(r.status, r.reason) for r in records] == [("ok", "")] * 3
    for record in (r for r in records if r.trial.arm != "baseline"):
        rows = run.windows(record.trial)
        on, off = ([row.meters for row in rows if row.window.on is state]
                   for state in (True, False))  # fmt: skip
        requests, plain = sum(w["requests"] for w in on), sum(w["requests.twin"] for w in off)
        assert min(requests, plain) > 100
        if record.trial.arm == "within":
            cost, own = (sum(w[meter] for w in rows) / number for meter, rows, number in
                         (("cpu.workload", on, requests), ("cpu.twin", off, plain)))  # fmt: skip
            assert cost > 0.001
            assert own < cost


def test_what_the_load_met_is_in_the_report_and_the_password_is_not(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    (tmp_path / "service.py").write_text(SERVICE)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    login = base64.b64encode(b"m3user:s3cr/t").decode()
    command = f"PORT={{port}} LIMIT={LIMIT} LOGIN={login} {sys.executable} {tmp_path}/service.py"
    done = processes.run(
        [sys.executable, "-m", "harness", "evaluate", f"{tmp_path}/e.toml", "--run", "r",
         "--reports", str(tmp_path / "reports"), "--command", command,
         "--url", f"http://m3user:s3cr%2Ft@127.0.0.1:{port}/"],
        timeout=300, cwd=ROOT,
    )  # fmt: skip
    run = tmp_path / "reports/r"
    report = json.loads((run / "report.json").read_text())
    (found,) = report["calibration"].values()
    assert 0 < found["rate"] < found["capacity"] < 2 * LIMIT
    assert found["refused"] > 0
    assert set(found["failures"]) == {"429 Too Many Requests"}
    told = " ".join(report["warnings"])
    assert "x 429 Too Many Requests). Its capacity, of which the load is a share" in told
    assert "a second were not (" in done.stderr
    covered = [row for row in report["rows"] if row["metric"] == "coverage_percent[requests]"]
    assert [row["estimate"] for row in covered] == [100]
    assert told.count("http also told of ") == 1
    assert f"at port {port}," not in told
    for path in (each for each in run.rglob("*") if each.is_file()):
        assert b"s3cr" not in path.read_bytes(), path
        assert b"m3user" not in path.read_bytes(), path
    assert "s3cr" not in done.stdout + done.stderr
