"""Grafana's data sources, each linked with the others; `files` writes them, `shown` asks for them.

Grafana replaces `$NAME` in files of provisioning by the environment: what is for it to replace
later is written `$$NAME`.
"""

from __future__ import annotations

from collections.abc import Collection

from harness.stack import catalog
from harness.stack.config import PROGRAMS
from harness.stack.config.description import Stack, Tree


def provisioning(stack: Stack) -> Tree:
    """The file of data sources; Pyroscope is in it only where one is configured."""
    made = [source(stack, name) for name in had(stack)]
    if stack.profiles_url:
        made.append(_source("pyroscope", "Pyroscope", "grafana-pyroscope-datasource",
                            stack.profiles_url, {}))  # fmt: skip
    uids = {each["uid"] for each in made}
    linked = [{**each, "jsonData": _leading(each["jsonData"], uids)} for each in made]
    return {"apiVersion": 1, "prune": True, "datasources": linked}


def had(stack: Stack) -> list[str]:
    """Who of those that keep a signal this Grafana has a data source for."""
    known = catalog.known()
    names = stack.keeps.values()
    return [n for n in names if not known[n].plugin or known[n].source in stack.plugins]


def lacking(stack: Stack) -> str:
    """What it cannot show, and why, as a sentence; empty if it shows all that is kept."""
    known = catalog.known()
    missed = [known[name] for name in stack.keeps.values() if name not in had(stack)]
    return " ".join(
        f"Grafana shows no {each.signal}: its data source for {each.title} is a plugin "
        f"({each.source}), which it does not come with."
        for each in missed
    )


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


def _leading(tree: object, uids: Collection[str]) -> object:
    """The same settings without links to a data source that is not there."""
    if isinstance(tree, dict):
        found = {key: _leading(value, uids) for key, value in tree.items()}
        return {key: value for key, value in found.items() if _leads(value, uids)}
    if isinstance(tree, list):
        return [_leading(value, uids) for value in tree if _leads(value, uids)]
    return tree


def _leads(value: object, uids: Collection[str]) -> bool:
    return not isinstance(value, dict) or value.get("datasourceUid") in (None, *uids)
