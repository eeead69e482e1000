"""A Flask service with the routes that all workloads share; gunicorn serves it."""

import contextlib
import hashlib
import os
import random
import socket
import threading
import time

from flask import Flask, abort, jsonify, request

MEBIBYTE = 1 << 20
DATABASE_WAIT_MS = int(os.environ.get("WORKLOAD_WAIT_MS", "10"))
PROGRAM = os.environ.get("WORKLOAD_PROGRAM", "/bin/true")
WATCHED = os.environ.get("WORKLOAD_FILE", "watched.txt")
UPSTREAM_THREADS = 8

app = Flask(__name__)
kept = []


@app.get("/")
def hello():
    return "hello\n"


@app.get("/healthz")
def healthz():
    return "ok\n"


@app.get("/api/users/<int:number>")
def user(number):
    """Waits as a database would, then answers with JSON."""
    time.sleep(whole("wait_ms", DATABASE_WAIT_MS, 60_000) / 1000)
    return jsonify(id=number, name=f"User {number}", active=number % 2 == 0)


@app.get("/cpu")
def cpu():
    blocks = whole("blocks", 64, 1_000_000)
    digest = hashlib.md5(usedforsecurity=False)
    for _ in range(blocks):
        digest = hashlib.md5(random.randbytes(1024), usedforsecurity=False)
    return jsonify(blocks=blocks, md5=digest.hexdigest())


@app.get("/alloc")
def alloc():
    """Fills `mb` MiB and lets go of them; with keep=1 it leaks 1 MiB too."""
    size = whole("mb", 1, 256)
    for _ in range(size):
        filled()
    if request.args.get("keep") == "1":
        kept.append(filled())
    return jsonify(mb=size, kept_mb=len(kept))


@app.get("/api/orders/<int:number>")
def order(number):
    """Asks the upstream over a connection of its own."""
    with socket.create_connection(upstream, timeout=10) as connection:
        connection.sendall(b"%d\n" % number)
        name = line_from(connection)
    return jsonify(id=number, name=name)


@app.get("/file")
def file():
    """Reads a file that a collector may watch."""
    with open(WATCHED, "rb") as opened:
        return jsonify(bytes=len(opened.read()))


@app.get("/exec")
def execute():
    """Runs a small program and waits for its end."""
    pid = os.posix_spawn(PROGRAM, [PROGRAM], os.environ)
    return jsonify(exit_code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def listen_upstream():
    """Starts what orders wait for: a line in, the wait of a database, a line out; its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    for _ in range(UPSTREAM_THREADS):
        threading.Thread(target=serve_upstream, args=(listener,), daemon=True).start()
    return listener.getsockname()


def serve_upstream(listener):
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):  # whoever hung up meanwhile ends no thread
            line = line_from(connection)
            time.sleep(DATABASE_WAIT_MS / 1000)
            connection.sendall(f"Order {line}\n".encode())


def line_from(connection):
    with connection.makefile("rb") as lines:
        return lines.readline().decode().rstrip("\n")


def filled():
    block = bytearray(MEBIBYTE)
    block[::4096] = b"\1" * (MEBIBYTE // 4096)
    return block


def whole(key, default, limit):
    text = request.args.get(key, str(default))
    if not text.isdecimal() or int(text) > limit:
        abort(400, f"{key} must be 0 to {limit}")
    return int(text)


upstream = listen_upstream()
