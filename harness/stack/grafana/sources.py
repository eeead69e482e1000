"""Grafana's data sources, each linked with the others; `files` writes them.

Grafana replaces `$NAME` in files of provisioning by the environment: what is for it to replace
later is written `$$NAME`.
"""

from __future__ import annotations

from harness.stack import catalog
from harness.stack.config import PROGRAMS
from harness.stack.config.description import Stack, Tree


def provisioning(stack: Stack) -> Tree:
    """The file of data sources; Pyroscope is in it only where one is configured."""
    made = [source(stack, name) for name in stack.keeps.values()]
    if stack.profiles_url:
        made.append(_source("pyroscope", "Pyroscope", "grafana-pyroscope-datasource",
                            stack.profiles_url, {}))  # fmt: skip
    return {"apiVersion": 1, "prune": True, "datasources": made}


def source(stack: Stack, name: str) -> Tree:
    """The data source of a component that keeps a signal; that of metrics is the default."""
    component, store = catalog.known()[name], PROGRAMS[name].store
    assert store is not None
    made = _source(name, component.title, component.source, stack.url(name), store.settings(stack))
    return {**made, "isDefault": component.signal == "metrics"}


def _source(uid: str, name: str, kind: str, url: str, settings: Tree) -> Tree:
    return {
        "name": name,
        "type": kind,
        "uid": uid,
        "url": url,
        "access": "proxy",
        "isDefault": False,
        "editable": False,
        "jsonData": _escaped(settings),
    }


def _escaped(tree: object) -> object:
    """The same tree with each `$` in a text doubled."""
    if isinstance(tree, dict):
        return {key: _escaped(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_escaped(value) for value in tree]
    return tree.replace("$", "$$") if isinstance(tree, str) else tree
