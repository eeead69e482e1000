"""Backends of a person's own, by URL, not the stack's; for `chosen`, `rollout` and `condition`.

Agents send to their receiver by OTLP, and nothing that keeps data is installed. Who keeps a signal
may be named with the URL at which this machine reaches it: then the proof looks there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import SplitResult, urlsplit

from harness.errors import InputError, NeedError
from harness.plan.url import hidden
from harness.stack import catalog
from harness.stack.config import Stack
from harness.targets.kubernetes import namespaces, values
from harness.targets.kubernetes.dashboards import Choice
from harness.targets.kubernetes.kubectl import Cluster

HEADERS, AUTHORITY = "headers", "ca.crt"
DASHBOARDS = Choice(False, "Agents send to a receiver of yours, and no backend is installed.")

Tree = dict[str, Any]


@dataclass(frozen=True)
class External:
    """As a person says it: the receiver as pods reach it, and KIND=URL for who keeps a signal.

    `secret` is one of the namespace that has HEADERS, which go with every post, or AUTHORITY, who
    issued the receiver's certificate, or both.
    """

    otlp: str = ""
    secret: str = ""
    traces: str = ""
    metrics: str = ""
    logs: str = ""

    def __bool__(self) -> bool:
        return bool(self.otlp)

    @property
    def queries(self) -> Mapping[str, str]:
        """Who keeps which signal, as far as it was said."""
        found = {"traces": self.traces, "metrics": self.metrics, "logs": self.logs}
        return {signal: said for signal, said in found.items() if said}


def check(asked: External, others: Mapping[str, object]) -> None:
    """InputError unless these are URLs, or nothing; of `others` none may be given with them."""
    given = [f"--query-{signal}" for signal in asked.queries]
    given += ["--otlp-secret"] if asked.secret else []
    if not asked:
        if given:
            raise InputError(
                f"{' and '.join(given)} says nothing without --otlp.",
                "It is of backends of yours, to which agents would send instead of to ours.",
                "Say where these take OTLP over HTTP: --otlp http://RECEIVER.NAMESPACE:4318.",
            )
        return
    if refused := [f"--{name}" for name, value in others.items() if value]:
        raise InputError(
            f"{' and '.join(refused)} does not go with --otlp.",
            "It is of the backends that would be installed, and yours are taken instead.",
            "Leave it out.",
        )
    host = _parts("--otlp", asked.otlp).hostname or ""
    if _is_loopback(host):
        raise InputError(
            f"--otlp {asked.otlp} leads nowhere from a pod.",
            f"There {host} is the pod itself.",
            "Name the receiver as pods reach it: http://SERVICE.NAMESPACE:4318.",
        )
    for signal, said in asked.queries.items():
        _keeper(signal, said)


def stack(asked: External) -> Stack:
    """What the proof asks: who keeps which signal, and where that is."""
    named = {signal: _keeper(signal, said) for signal, said in asked.queries.items()}
    return Stack(
        values.FOLDER,
        keeps={signal: name for signal, (name, _) in named.items()},
        urls=dict(named.values()),
    )


def agents(asked: External, version: str = "") -> Tree:
    """The chart's values of `agents` that say where they send to.

    `version` is of the Secret: pods read it when they start, and are made anew with each.
    """
    found = {"otlp": asked.otlp, "otlpSecret": asked.secret, "otlpSecretVersion": version}
    return {name: value for name, value in found.items() if value}


def kept(asked: External) -> Tree:
    """What a release keeps of it, for a later `harness status`; `of` reads it."""
    return {each.name: said for each in fields(asked) if (said := getattr(asked, each.name))}


def of(release: Mapping[str, Any] | None) -> External:
    """What a release was made with; nothing if there is none, or it has backends of ours."""
    return External(**(release or {}).get("external", {}))


def require_secret(cluster: Cluster, asked: External) -> str:
    """The version of the Secret that is named, empty if none is.

    NeedError unless it is there, with something in it that is read.
    """
    if not asked.secret:
        return ""
    found = cluster.get("secret", asked.secret)
    keys = sorted(found[0].get("data") or {}) if found else []
    if {HEADERS, AUTHORITY} & set(keys):
        return str(found[0]["metadata"]["resourceVersion"])
    had = f"It has: {', '.join(keys) or 'nothing'}." if found else "There is no such Secret."
    secret = (
        f"{cluster.shown} create secret generic {asked.secret} "
        f"--from-literal={HEADERS}='authorization=Basic%20...' --from-file={AUTHORITY}=FILE"
    )
    raise NeedError(
        f"The Secret {asked.secret} of the namespace {cluster.namespace} has neither {HEADERS} nor "
        f"{AUTHORITY}.",
        had,
        f"Make it: {'; '.join([*namespaces.by_hand(cluster), secret])}; one of its two will do.",
    )


def require_no_data(asked: External, release: Mapping[str, Any] | None) -> None:
    """NeedError if volumes of the stack that is there would go: its backends would."""
    if asked and release and release["storage"]:
        raise NeedError(
            "The stack that is there keeps its data in volumes, which would be deleted.",
            "With --otlp it has no backends.",
            "Take another --namespace; or give the data up with harness down, and run this again.",
        )


def _keeper(signal: str, said: str) -> tuple[str, str]:
    """The name of who keeps a signal, and its URL."""
    known = [each.name for each in catalog.keepers(signal)]
    name, _, url = said.partition("=")
    option = f"--query-{signal}"
    if name not in known:
        port = catalog.known()[known[0]].ports["http"]
        raise InputError(
            f"{option} {hidden(name)} does not say what keeps the {signal}.",
            f"It is KIND=URL, and the kinds are: {', '.join(known)}.",
            f"Write for instance {option} {known[0]}=http://127.0.0.1:{port}.",
        )
    _parts(option, url)
    return name, url.rstrip("/")


def _parts(option: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(url)
    except ValueError:
        raise InputError(
            f"{option}: {hidden(url)!r} is no URL.",
            "It begins with http:// or https:// and a host.",
            "Say for instance http://receiver.telemetry:4318.",
        ) from None
    if parts.query or parts.fragment:
        raise InputError(
            f"{option}: {hidden(url.split('?')[0].split('#')[0])} goes on with a query.",
            "Nobody would be asked with it, and a login in it would be read by who may see pods.",
            "Leave it out. Agents send what a Secret holds: --otlp-secret NAME.",
        )
    if "@" in parts.netloc:
        raise InputError(
            f"{option}: {hidden(url)} has a login in it.",
            "It would be read in the cluster's objects by who may see pods.",
            "Agents send what a Secret holds: --otlp-secret NAME. Questions are asked without one.",
        )
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
