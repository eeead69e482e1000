"""The API of the cluster as an agent reads it: the metadata of a node's pods; used by `pods`.

It is asked for metadata only, of which a page of a node's pods is small.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from harness.agent.errors import AgentError

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_SECONDS = 10.0
_WATCH_SECONDS = 60  # the server ends a watch after that: a connection that died is noticed
_META = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_NEXT_STEP = "Agents need the pods' rights list and watch: manifests/poc gives them."
_GONE = 410
_FORBIDDEN = (401, 403, 404)


class ExpiredError(AgentError):
    """A version is too old to go on from: list again."""


class ForbiddenError(AgentError):
    """The API does not let this be read, or there is no such API: waiting changes nothing."""


@dataclass(frozen=True)
class Pod:
    """What is known of a pod; `namespace` and `labels` are what selects it."""

    uid: str
    namespace: str
    labels: Mapping[str, str]


class KubernetesApi:
    """Lists and watches the pods of one node; AgentError where it cannot.

    ForbiddenError if it may not.
    """

    def __init__(self, url: str, node: str) -> None:
        import ssl
        import urllib.request  # a MB that most agents do without

        self._url = (url or _in_cluster()).rstrip("/")
        self._node = node
        own = self._url.startswith("https:") and (_ACCOUNT / "ca.crt").exists()
        context = ssl.create_default_context(cafile=_ACCOUNT / "ca.crt" if own else None)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # CAs of clusters often lack extensions
        handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        self._opener = urllib.request.build_opener(*handlers)

    def pods(self) -> tuple[list[Pod], str]:
        """Those that there are, and the version from which changes follow."""
        with self._asked("List", _TIMEOUT_SECONDS) as answer:
            found = json.load(answer)
            return [_pod(each) for each in found["items"]], found["metadata"]["resourceVersion"]

    def changes(self, version: str) -> Iterator[tuple[str, Pod | None, str]]:
        """What happened since, as long as one watch lasts: the event, the pod, the new version.

        ExpiredError if that version is known no more. A bookmark tells a version and no pod.
        """
        more = {
            "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }  # fmt: skip
        with self._asked("", _WATCH_SECONDS + _TIMEOUT_SECONDS, more) as answer:
            for line in answer:
                event = json.loads(line)
                kind, one = event["type"], event["object"]
                if kind == "ERROR":
                    raise _failed(one.get("code", 0), one.get("message", ""))
                pod = None if kind == "BOOKMARK" else _pod(one)
                yield kind, pod, one["metadata"]["resourceVersion"]

    @contextmanager
    def _asked(
        self, kind: str, seconds: float, more: Mapping[str, str] | None = None
    ) -> Iterator[Any]:
        import urllib.error
        import urllib.request

        query = urlencode({"fieldSelector": f"spec.nodeName={self._node}", **(more or {})})
        headers = {"Accept": _META.format(kind), "User-Agent": "harness-agent"}
        if self._url.startswith("https:") and (token := _token()):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"{self._url}/api/v1/pods?{query}", headers=headers)
        try:
            with self._opener.open(request, timeout=seconds) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode(errors="replace")
            raise _failed(error.code, f"{error.code} {said or error.reason}") from error
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            raise _failed(0, str(error)) from error


def _in_cluster() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), "KUBERNETES_SERVICE_PORT"
    if not host:
        raise AgentError(
            "Pods cannot be selected: this is no pod of a cluster.",
            "KUBERNETES_SERVICE_HOST is not set.",
            "Say where the API answers: --kubernetes-api URL, as that of `kubectl proxy`.",
        )
    return f"https://{f'[{host}]' if ':' in host else host}:{os.environ.get(port, '443')}"


def _token() -> str:
    """Read each time, for kubelets replace it."""
    try:
        return (_ACCOUNT / "token").read_text().strip()
    except OSError:
        return ""


def _pod(found: Mapping[str, Any]) -> Pod:
    of = found["metadata"]
    return Pod(of["uid"], of.get("namespace", ""), of.get("labels") or {})


def _failed(code: int, why: str) -> AgentError:
    kind = AgentError
    if code in (_GONE, *_FORBIDDEN):
        kind = ExpiredError if code == _GONE else ForbiddenError
    said = " ".join(why.split()) or "It said nothing."
    return kind("The pods of this node cannot be read from the cluster's API.", said, _NEXT_STEP)
