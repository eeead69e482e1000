"""Which collectors there are, what each claims, needs and counts; nothing here runs."""

from harness.collectors.definition import EXPORT_SECONDS, Definition
from harness.collectors.included import REGISTRY
from harness.collectors.spec import resolve

__all__ = ["EXPORT_SECONDS", "REGISTRY", "Definition", "resolve"]
