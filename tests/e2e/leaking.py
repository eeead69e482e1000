"""An external collector without programs that grows: by so many kB a second, or not at all.

`python leaking.py CONTROL KB_A_SECOND CGROUP` answers on its socket; the tests of memory start it.
"""

from __future__ import annotations

import json
import socket
import sys
import threading

TICK_SECONDS = 0.25


def grow(kilobytes: float, over: threading.Event, kept: list[bytes]) -> None:
    """Keep that much more each second until it is over; every page of it is written to."""
    while not over.wait(TICK_SECONDS):
        kept.append(b"x" * int(1000 * kilobytes * TICK_SECONDS))


def main(control: str, kilobytes: str, _cgroup: str) -> None:
    """Listen, grow, and answer until told to stop."""
    kept: list[bytes] = []
    over = threading.Event()
    if float(kilobytes):
        threading.Thread(target=grow, args=(float(kilobytes), over, kept), daemon=True).start()
    server = socket.socket(socket.AF_UNIX)
    server.bind(control)
    server.listen()
    print(json.dumps({"ready": True, "programs": []}), flush=True)
    with server.accept()[0].makefile("rw") as stream:
        for line in stream:
            cmd = json.loads(line)["cmd"]
            counts = {"events": 0, "lost": 0, "map_bytes": 0}
            more = counts if cmd in ("stats", "flush") else {}
            stream.write(json.dumps({"ok": True, "seconds": 0.0, **more}) + "\n")
            stream.flush()
            if cmd == "stop":
                break
    over.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
