"""What Prometheus works out and raises alarm about; written beside its configuration."""

from __future__ import annotations

from typing import Any


def rules() -> dict[str, Any]:
    """The rule file: groups of alerting and recording rules."""
    return {"groups": []}
