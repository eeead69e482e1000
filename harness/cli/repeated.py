"""The options of a roll-out, as a person says them again; for `cluster`."""

from __future__ import annotations

import re
import shlex

from harness.cli import external, selectors
from harness.targets.kubernetes import keepers
from harness.targets.kubernetes.chosen import Options

_SECRET = re.compile(r"(?:pass(?:word|wd|phrase)?|secret|token|key)\"?\s*[=:]", re.IGNORECASE)
"""The end of a name whose value is nobody else's, of a variable or in a mapping that is one."""


def given(options: Options) -> str:
    """What was said of nodes, images, data and machines; secrets are not said again."""
    bundle, registry, secret = options.bundle, options.registry, options.pull_secret
    asked = options.machines
    names = {
        "nodes": options.nodes, "image": options.image, "retention": options.retention_hours,
        "bundle": bundle, "registry": registry, "pull-secret": secret,
        "storage": options.storage, "storage-class": options.storage_class,
        "dashboards": options.dashboards, **keepers.said(options.keepers), "charts": options.charts,
        "inventory": asked.inventory, "create": asked.create,
        "control-planes": asked.control_planes if asked.control_planes > 1 else "",
        "upgrade": asked.upgrade,
        **selectors.given(options.selectors),
        **external.given(options.external),
        "machines": asked.maker if asked.create and asked.maker != "containers" else "",
    }  # fmt: skip
    words = "".join(
        f" --{name} {shlex.quote(str(value))}" for name, value in names.items() if value
    )
    words += "".join(f" --values {shlex.quote(each)}" for each in options.values)
    flags = {"keep": options.keep, "unaccelerated": asked.unaccelerated}
    words += "".join(f" --{name}" for name, value in flags.items() if value)
    return words + "".join(f" --set {shlex.quote(_hidden(each))}" for each in asked.variables)


def _hidden(variable: str) -> str:
    """NAME=VALUE, or NAME=... where that is secret."""
    name = variable.partition("=")[0]
    return f"{name}=..." if _SECRET.search(variable) else variable
