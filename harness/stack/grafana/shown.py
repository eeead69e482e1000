"""What a running Grafana shows, asked by its HTTP API; the proof of a cluster asks for it."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import ComponentError
from harness.stack import client
from harness.stack.config import PROGRAMS, Stack
from harness.stack.grafana import sources
from harness.stack.grafana.boards import BOARDS

USER = "admin"
SECONDS = 60.0
"""Until all has to be there: Grafana reads its files when it has begun to answer."""
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Shown:
    """What was found: its version, who of those that it asks answer it, dashboards by their uid.

    `lacks` says in a sentence which signals it has no data source for.
    """

    version: str
    sources: Sequence[str]
    dashboards: Sequence[str]
    lacks: str = ""


def prove(stack: Stack, password: str, limit_seconds: float = SECONDS) -> Shown:
    """Find Grafana healthy, an answer from each of its data sources, and each of our dashboards.

    ComponentError says what of that is not so, when the time is over.
    """
    until, grafana = time.monotonic() + limit_seconds, Grafana(stack.url("grafana"), password)
    names, uids = sources.had(stack), [board.uid for board in BOARDS]
    while amiss := list(grafana.amiss(names, uids)):
        if time.monotonic() > until:
            raise ComponentError(
                "Grafana does not show what it should.",
                " ".join(amiss),
                "Its log says more.",
            )
        time.sleep(_POLL_SECONDS)
    return Shown(grafana.version, names, uids, sources.lacking(stack))


class Grafana:
    """One that is asked as its administrator; the password is in no message of an error."""

    def __init__(self, url: str, password: str) -> None:
        login = base64.b64encode(f"{USER}:{password}".encode()).decode()
        self._url, self._headers = url, {"Authorization": f"Basic {login}"}
        self.version = ""

    def amiss(self, names: Sequence[str], uids: Sequence[str]) -> Iterator[str]:
        """What is not as it should be now: its health, these data sources, these dashboards."""
        health = self._told("/api/health")
        if isinstance(health, str) or health.get("database") != "ok":
            yield f"It is not healthy: {health}."
            return
        self.version = str(health.get("version", ""))
        for name in names:
            store = PROGRAMS[name].store
            assert store is not None
            said = self._told(f"/api/datasources/proxy/uid/{name}{store.probe}", parsed=False)
            if isinstance(said, str):
                yield f"Its data source {name} has no answer: {said}."
        found = self._told("/api/search?type=dash-db&limit=5000")
        if isinstance(found, str):
            yield f"Dashboards cannot be searched: {found}."
            return
        there = {each.get("uid") for each in found}
        if lacking := [uid for uid in uids if uid not in there]:
            yield f"It has no dashboard {', '.join(lacking)}."

    def _told(self, path: str, *, parsed: bool = True) -> Any:
        """The answer, as JSON if it is to be `parsed`; a text that says why there is none."""
        try:
            body = client.get(self._url + path, headers=self._headers)
            return json.loads(body) if parsed else body
        except urllib.error.HTTPError as error:
            return client.refusal(error)
        except client.FAILURES as error:
            return f"{getattr(error, 'reason', error)}"
        except ValueError:
            return "what it answers is not JSON"
