"""What the process list shows of a login that was given on a command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from harness.linux import arguments
arguments.conceal("me:s3cret")
arguments.conceal("")
print(sys.argv[1:], flush=True)
sys.stdin.read()
"""


def test_a_secret_is_overwritten_for_everybody_else() -> None:
    given = ["--url", "http://me:s3cret@h/", "x", "me:s3cret"]
    with subprocess.Popen(
        [sys.executable, "-c", CODE, *given],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().strip() == str(given)
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        process.stdin.close()
    assert shown[3:-1] == [b"--url", b"http://*********@h/", b"x", b"*********"]
