"""A kubectl of the test's own whose port-forward leads to a page, for a while; for tests."""

from __future__ import annotations

import sys
from pathlib import Path

KUBECTL = """#!{python}
import json, pathlib, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
words, lasts = sys.argv[1:], {lasts}
if "get-contexts" in words:
    print("shop")
elif "get" in words:
    if not {there}:
        sys.exit('Error from server (NotFound): services "prometheus" not found')
    print(json.dumps({{"metadata": {{"name": "prometheus"}}}}))
elif "port-forward" in words:
    with pathlib.Path(__file__ + ".ways").open("a") as file:
        print(*words[words.index("port-forward"):], file=file)
    if lasts == 0:
        sys.exit("error: unable to forward port because pod is not running")
    class Page(BaseHTTPRequestHandler):
        asked = 0
        def do_GET(self):
            Page.asked += 1
            if 0 < lasts < Page.asked:
                return {ends}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the page")
        def log_message(self, *_):
            pass
    port = int(words[words.index("port-forward") + 2].split(":")[0])
    HTTPServer(("127.0.0.1", port), Page).serve_forever()
"""


def kubectl(folder: Path, lasts: int = -1, *, there: bool = True, notices: bool = True) -> Path:
    """The program; its way leads to the page for `lasts` requests (without an end if negative).

    Then it ends, if it `notices` that its pod is gone, else it closes each connection. Each way
    that was asked for is a line in the file that is returned.
    """
    ends = "sys.exit('error: lost connection to pod')" if notices else "None"
    program = folder / "kubectl"
    text = KUBECTL.format(python=sys.executable, lasts=lasts, there=there, ends=ends)
    program.write_text(text)
    program.chmod(0o755)
    return folder / "kubectl.ways"
