"""What agents that speak no OTLP send, just enough of it to take it and let them go on; for `sink`.

Elastic's: a stream of JSON lines. Datadog's: traces in MessagePack. Of Pyroscope's clients:
profiles in protobuf. `meters.intake` reads them.
"""

from __future__ import annotations

import json

from harness.stack.http import Request, Response

ELASTIC = "/intake/v2/events"
DATADOG = ("/v0.4/traces", "/v0.5/traces")
PYROSCOPE = "/push.v1.PusherService/Push"
METHODS = {"datadog": ("PUT", "POST")}  # by which each posts, where it is not POST alone
_JSON = "application/json"
_ELASTIC_SERVER = json.dumps({"version": "8.17.0"}).encode()  # what agents ask before they send
_RATES = json.dumps({"rate_by_service": {"service:,env:": 1}}).encode()  # all is kept
_DROPPED = ("/telemetry/", "/v0.6/stats")  # what they tell of themselves


def kind(request: Request) -> str:
    """What is to be kept of it: the name of who sends it; empty if it is no telemetry of these."""
    if request.path == PYROSCOPE:
        return "pyroscope"
    if request.path == ELASTIC:
        return "elastic"
    return "datadog" if request.path in DATADOG else ""


def taken(found: str) -> Response:
    """The answer to a post of this kind that was kept."""
    if found == "pyroscope":
        return Response(200, b"", "application/proto")  # a message without fields
    return Response(200, _RATES if found == "datadog" else b"{}", _JSON)


def answer(request: Request) -> Response | None:
    """The answer to what else these agents ask; None if it is nothing that they do."""
    if request.method == "GET" and request.path == "/":
        return Response(200, _ELASTIC_SERVER, _JSON)
    if request.path.startswith(_DROPPED):
        return Response(200, b"{}", _JSON)
    return None
