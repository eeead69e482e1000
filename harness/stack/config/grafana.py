"""Grafana, where it can be had: its data sources and dashboards are files, nothing is clicked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.stack.config.description import Program, Stack, Tree

PASSWORD = "grafana-password"
_PACKAGED = Path("/usr/share/grafana")
_PLUGINS = Path("/var/lib/grafana/plugins")


def environment(stack: Stack) -> dict[str, str]:
    """All its settings: nobody is let in without the password, and it calls nobody outside.

    The password is named by its file: `$__file{}` is read by Grafana itself, so that it is in no
    list of processes and in no log. What it writes is below its data: in a pod all else is
    read-only.
    """
    own = {
        "PATHS_DATA": stack.data("grafana"),
        "PATHS_LOGS": stack.data("grafana/logs"),
        "PATHS_PLUGINS": str(_PLUGINS) if stack.plugins else stack.data("grafana/plugins"),
        "PATHS_PROVISIONING": str(stack.folder / "grafana" / "provisioning"),
        "LOG_MODE": "console",
        "LOG_LEVEL": "warn",
        "SERVER_HTTP_ADDR": stack.address("grafana"),
        "SERVER_HTTP_PORT": str(stack.port("grafana")),
        "SECURITY_ADMIN_PASSWORD": f"$__file{{{stack.folder / PASSWORD}}}",
        "AUTH_ANONYMOUS_ENABLED": "false",
        "USERS_ALLOW_SIGN_UP": "false",
        "ANALYTICS_REPORTING_ENABLED": "false",
        "ANALYTICS_CHECK_FOR_UPDATES": "false",
        "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "ANALYTICS_FEEDBACK_LINKS_ENABLED": "false",
        "NEWS_NEWS_FEED_ENABLED": "false",
        "PLUGINS_PREINSTALL_DISABLED": "true",
        "PLUGINS_PREINSTALL_AUTO_UPDATE": "false",
        "PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
    }
    return {f"GF_{name}": value for name, value in own.items()}


def home() -> Path:
    """Where its pages and defaults are: beside the program, else where packages put them."""
    found = shutil.which("grafana")
    beside = Path(found).resolve().parent.parent if found else _PACKAGED
    return beside if (beside / "conf" / "defaults.ini").exists() else _PACKAGED


def plugins() -> tuple[str, ...]:
    """Those that are installed on this machine, as `grafana cli plugins install` does it."""
    try:
        return tuple(sorted(each.name for each in _PLUGINS.iterdir()))
    except OSError:
        return ()


def arguments(stack: Stack) -> list[str]:
    """Of the program; its image says by itself where its pages are."""
    return [] if "grafana" in stack.hosts else ["server", f"--homepath={home()}"]


def files(stack: Stack) -> Mapping[str, Tree]:
    """Its data sources and dashboards, by their names in the stack's folder."""
    from harness.stack import grafana  # the builders of dashboards take long to import

    return grafana.files(stack)


PROGRAM = Program(
    None,
    arguments,
    lambda s: s.url("grafana") + "/api/health",
    files=files,
    environment=environment,
    secrets=(PASSWORD,),
)
