"""A sink that is sick on command: how it refuses, and until when; the sink asks before each post.

    curl -X PUT    http://127.0.0.1:PORT/refusal -d '{"how": "503", "seconds": 5}'
    curl -X DELETE http://127.0.0.1:PORT/refusal

Without `seconds` it is for good. `reset` cuts the connection, `silence` never answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from harness.stack.http import RESET, SILENCE, Request, Response

PATH = "/refusal"
HOWS = {"429": Response(429), "503": Response(503), "reset": RESET, "silence": SILENCE}


class Refusal:
    """None at first; the sink notes and counts what is refused meanwhile, and takes none of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._answer, self._until = clock, Response(503), float("-inf")

    def now(self) -> Response | None:
        """What a post is answered with; None where it is taken."""
        return self._answer if self._clock() < self._until else None

    def told(self, request: Request) -> Response:
        """Begin, replace or end it, as the request says; 400 where that cannot be understood."""
        if request.method == "DELETE":
            self._until = float("-inf")
            return Response(200)
        if request.method != "PUT":
            return Response(405)
        try:
            asked = json.loads(request.body)
            answer, seconds = HOWS[asked["how"]], float(asked.get("seconds", "inf"))
            if not seconds >= 0:  # NaN is neither
                raise ValueError
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            said = f"how is one of {', '.join(HOWS)}; seconds is a number from 0, or left out\n"
            return Response(400, said.encode(), "text/plain")
        self._answer, self._until = answer, self._clock() + seconds
        return Response(200)
