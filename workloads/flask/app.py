"""A Flask service with the routes that all workloads share; gunicorn serves it."""

import hashlib
import os
import random
import time

from flask import Flask, abort, jsonify, request

MEBIBYTE = 1 << 20
DATABASE_WAIT_MS = int(os.environ.get("WORKLOAD_WAIT_MS", "10"))

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


def filled():
    block = bytearray(MEBIBYTE)
    block[::4096] = b"\1" * (MEBIBYTE // 4096)
    return block


def whole(key, default, limit):
    text = request.args.get(key, str(default))
    if not text.isdecimal() or int(text) > limit:
        abort(400, f"{key} must be 0 to {limit}")
    return int(text)
