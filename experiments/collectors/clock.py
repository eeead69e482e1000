"""A collector to copy: the CPU time of a cgroup as a metric, in Python's standard library alone.

It has no BPF programs; where yours loads and attaches them is said. The protocol is described in
docs/guide.md, *Your own collector*, and tried by `harness collector check clock.toml`.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any


class Clock:
    """Reads the CPU time of a cgroup while it is on, and sends it to an OTLP receiver."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.file = Path(options.cgroup, "cpu.stat")
        self.on = threading.Event()
        self.events = self.unsent = 0

    def switch(self, on: bool) -> dict[str, Any]:
        """Attach or detach: what is measured is the difference between the two."""
        began = time.perf_counter()
        if on:  # yours attaches its BPF programs here ...
            self.on.set()
        else:  # ... and detaches them here
            self.on.clear()
        return {"ok": True, "seconds": time.perf_counter() - began}

    def stats(self) -> dict[str, Any]:
        """What it saw and lost since its start, and the bytes in its maps."""
        return {"ok": True, "events": self.events, "lost": self.unsent, "map_bytes": 0}

    def flush(self) -> dict[str, Any]:
        """Send all that it has, until the receiver took it."""
        self.send()
        return self.stats()

    def send(self) -> None:
        """Read once, and post it as OTLP over HTTP in JSON."""
        try:
            lines = dict(line.split() for line in self.file.read_text().splitlines())
        except OSError:  # the root of the hierarchy may have no such file
            lines = {}
        self.events += 1
        point = {
            "asDouble": int(lines.get("usage_usec", 0)) / 1e6,
            "timeUnixNano": str(time.time_ns()),
        }
        metric = {"name": "container.cpu.time", "unit": "s"}
        body = _request(self.options.instance, {**metric, "gauge": {"dataPoints": [point]}})
        try:
            post = urllib.request.Request(
                f"{self.options.otlp}/v1/metrics", json.dumps(body).encode(),
                {"content-type": "application/json"},
            )  # fmt: skip
            urllib.request.urlopen(post, timeout=5).close()
        except OSError as error:
            self.unsent += 1
            print("not sent:", error, flush=True)  # into its log

    def export(self) -> None:
        """Export by the clock, for as long as it is on."""
        while True:
            self.on.wait()
            self.send()
            time.sleep(self.options.interval)


def _request(instance: str, metric: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [_attribute("service.instance.id", instance)]}
    scope = {"scope": {"name": "harness.clock"}, "metrics": [metric]}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def main() -> None:
    """Load, listen, say that it is ready, then answer a line with a line until `stop`."""
    parser = argparse.ArgumentParser()
    for name in ("cgroup", "otlp", "control", "instance"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--interval", type=float, default=3.0)
    clock = Clock(parser.parse_args())
    threading.Thread(target=clock.export, daemon=True).start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(clock.options.control)
        listener.listen()
        # yours tells the kernel's ids of its BPF programs, which it has loaded by now
        print(json.dumps({"ready": True, "programs": []}), flush=True)
        connection, _ = listener.accept()
        _serve(clock, connection)


def _serve(clock: Clock, connection: socket.socket) -> None:
    answers = {
        "on": lambda: clock.switch(True), "off": lambda: clock.switch(False),
        "stats": clock.stats, "flush": clock.flush,
        "stop": lambda: {**clock.flush(), **clock.switch(False)},
    }  # fmt: skip
    with connection, connection.makefile("rw") as stream:
        for line in stream:
            cmd = json.loads(line)["cmd"]
            try:
                answer = answers[cmd]()
            except Exception as error:  # whatever it is, the harness is to know it
                answer = {"ok": False, "error": repr(error)}
            print(json.dumps(answer), file=stream, flush=True)
            if cmd == "stop":
                return


if __name__ == "__main__":
    main()
