"""An API server of pods as an agent asks one: it lists them, and tells what comes to them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Api:
    """Pods by uid; `node` is the only one that is known. `refusing` is a status for all."""

    def __init__(self, node: str = "worker") -> None:
        self.asked: list[tuple[Mapping[str, list[str]], str]] = []  # queries, and Accept
        self.refusing = 0
        self._pods: dict[str, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._first = 1  # version of the first event that is still known
        self._changed = threading.Condition()
        self._open = True
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = parse_qs(parts.query)
                api.asked.append((query, self.headers["Accept"]))
                known = query["fieldSelector"] == [f"spec.nodeName={node}"]
                if api.refusing or parts.path != "/api/v1/pods" or not known:
                    self.send_error(api.refusing or 404)
                    return
                self.send_response(200)
                self.end_headers()
                if "watch" in query:
                    api.tell(self, int(query["resourceVersion"][0]))
                else:
                    self.wfile.write(json.dumps(api.listed()).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def put(self, uid: str, namespace: str = "shop", **labels: str) -> None:
        """Make a pod, or give it other labels."""
        kind = "MODIFIED" if uid in self._pods else "ADDED"
        self._pods[uid] = {"uid": uid, "namespace": namespace, "labels": labels}
        self._happen(kind, self._pods[uid])

    def remove(self, uid: str) -> None:
        self._happen("DELETED", self._pods.pop(uid))

    def forget(self) -> None:
        """Know no version before now, and end all watches."""
        with self._changed:
            self._first = self._version + 2
            self._events.clear()
            self._changed.notify_all()

    def listed(self) -> dict[str, Any]:
        with self._changed:
            items = [{"metadata": each} for each in self._pods.values()]
            return {"metadata": {"resourceVersion": str(self._version)}, "items": items}

    def tell(self, to: BaseHTTPRequestHandler, version: int) -> None:
        """What happens after this version."""
        while self._open:
            with self._changed:
                if version + 1 < self._first:
                    error = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
                    to.wfile.write(json.dumps(error).encode() + b"\n")
                    return
                waiting = self._events[version + 1 - self._first :]
                if not waiting:
                    self._changed.wait(0.1)
            for event in waiting:
                to.wfile.write(json.dumps(event).encode() + b"\n")
                to.wfile.flush()
            version += len(waiting)

    def close(self) -> None:
        self._open = False
        self._server.shutdown()
        self._server.server_close()

    @property
    def _version(self) -> int:
        return self._first - 1 + len(self._events)

    def _happen(self, kind: str, pod: Mapping[str, Any]) -> None:
        with self._changed:
            of = {**pod, "resourceVersion": str(self._version + 1)}
            self._events.append({"type": kind, "object": {"metadata": of}})
            self._changed.notify_all()
