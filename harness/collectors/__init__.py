"""The collectors that can be measured, by name; `evaluate` and the CLI look them up here."""

from harness.collectors.definition import EXPORT_SECONDS, Definition
from harness.collectors.included import REGISTRY
from harness.collectors.process import AgentProcess, switch_all
from harness.collectors.spec import resolve

__all__ = ["EXPORT_SECONDS", "REGISTRY", "AgentProcess", "Definition", "resolve", "switch_all"]
