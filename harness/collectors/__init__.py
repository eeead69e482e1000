"""The collectors that can be measured, by name; `evaluate` and the CLI look them up here."""

from harness.collectors.included import FLOWS, GUARD, HTTP, PROFILE, AgentProcess, Definition

REGISTRY: dict[str, Definition] = {
    "http": HTTP,
    "flows": FLOWS,
    "profile": PROFILE,
    "guard": GUARD,
}

__all__ = ["REGISTRY", "AgentProcess", "Definition"]
