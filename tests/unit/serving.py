"""Archives made and served by HTTP on loopback; for tests of what is fetched."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """Its address without a path, and the paths that were asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """A server of the files of a folder, as long as it is entered."""
    asked: list[str] = []

    class Noting(_Quiet):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Noting, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Site(f"http://127.0.0.1:{server.server_port}", asked)
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def trickling(piece: bytes, every: float, whole: int) -> Iterator[str]:
    """The address of a file of `whole` bytes that comes by pieces, with a pause before each."""

    class Slow(_Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(whole))
            self.end_headers()
            with contextlib.suppress(OSError):  # nobody listens any more
                for _ in range(whole // len(piece)):
                    time.sleep(every)
                    self.wfile.write(piece)

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/a.tar.gz"
        finally:
            server.shutdown()
            thread.join()


def packed(path: Path, files: Mapping[str, bytes], mode: int = 0o755) -> str:
    """Make a .tar.gz of files by their names; its sha256."""
    with tarfile.open(path, "w:gz") as bundle:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            bundle.addfile(entry, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()
