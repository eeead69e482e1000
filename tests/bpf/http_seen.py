"""What a receiver has of `http`'s requests; for its tests."""

from __future__ import annotations

from typing import Any

DURATION = "http.server.request.duration"


def counted(receiver: Any) -> dict[tuple[str, str, int], int]:
    """(method, route, status; 0 for none) -> requests, as the receiver decoded them last."""
    found = {}
    for point in receiver.points(DURATION):
        labels = receiver.attributes(point)
        key = (
            labels["http.request.method"],
            labels["http.route"],
            labels.get("http.response.status_code", 0),
        )
        found[key] = point.count
    return found


def ends(receiver: Any) -> dict[tuple[str, int, str], int]:
    """(route, status, error.type) -> requests."""
    found = {}
    for point in receiver.points(DURATION):
        a = receiver.attributes(point)
        status, error = a.get("http.response.status_code", 0), a.get("error.type", "")
        found[a["http.route"], status, error] = point.count
    return found
