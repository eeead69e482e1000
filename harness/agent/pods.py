"""Which pods of the node are selected, as namespaces and labels come and go; used by `containers`.

One thread of the process watches the cluster's API for all collectors. A pod that is not known is
not selected: it is seen when the API has told of it, as it tells the kubelet, which starts it then.
"""

from __future__ import annotations

import logging
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from harness.agent.errors import AgentError
from harness.agent.kubernetes_api import ExpiredError, ForbiddenError, KubernetesApi, Pod
from harness.wire.selector import Selection, SelectorError, selection

KEPT_SECONDS = 180.0
"""How long it is known of a pod that is gone whether it was selected."""
_LEAST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 1.0, 30.0
_log = logging.getLogger("harness.agent")

Listener = Callable[[set[str]], None]


def add_options(parser: ArgumentParser) -> None:
    """--namespaces, --excluded-namespaces, --pod-selector, and how pods are known."""
    add = parser.add_argument
    add("--namespaces", default="", help="only pods of these, separated by commas; else of all")
    add("--excluded-namespaces", default="", help="no pods of these, separated by commas")
    add("--pod-selector", default="", help="only pods with these labels, as app=shop,tier!=test")
    add(
        "--always-pods",
        action="append",
        metavar="NAMESPACE:SELECTOR",
        help="pods that are seen whatever else is selected; may be repeated",
    )
    add("--node-name", default="", help="the node whose pods these are, as Kubernetes calls it")
    add("--kubernetes-api", default="", help="its URL, else that of the cluster that this runs in")


def asked(options: Namespace) -> Pods | None:
    """The pods that were asked for, the same of all collectors; None if nothing selects."""
    if not hasattr(options, "selected_pods"):
        options.selected_pods = _made(options)
    found: Pods | None = options.selected_pods
    return found


def _made(options: Namespace) -> Pods | None:
    try:
        wanted = selection(
            options.namespaces,
            options.excluded_namespaces,
            options.pod_selector,
            options.always_pods or (),
        )
    except SelectorError as error:
        raise AgentError(error.what, error.why, error.next_step) from error
    if wanted is None:
        return None
    if not options.node_name:
        raise AgentError(
            "Pods cannot be selected without the name of their node.",
            "The API is asked for the pods of one node only.",
            "Give --node-name NAME.",
        )
    return Pods(wanted, KubernetesApi(options.kubernetes_api, options.node_name))


class Pods:
    """Whether a pod is selected, by its uid; the first list is read on construction.

    Where the API does not answer then, none is until it does; ForbiddenError if it never will.
    """

    def __init__(self, wanted: Selection, api: KubernetesApi) -> None:
        self._wanted, self._api = wanted, api
        self._taken: dict[str, bool] = {}
        self._gone: dict[str, float] = {}
        self._listeners: list[Listener] = []
        self._pause = _FIRST_PAUSE_SECONDS
        self._version = self._first_list()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pods", daemon=True)
        self._thread.start()

    def takes(self, uid: str) -> bool:
        """Whether it is selected."""
        return self._taken.get(uid, False)

    def listen(self, changed: Listener) -> None:
        """Call it with the uids of pods that are selected from now on, or no more."""
        self._listeners.append(changed)

    def leave(self, changed: Listener) -> None:
        """Call it no more; with the last one the watch ends, at its next word."""
        self._listeners.remove(changed)
        if not self._listeners:
            self._ended.set()

    def _first_list(self) -> str:
        try:
            return self._list()
        except ForbiddenError:
            raise
        except AgentError as error:
            _log.warning("No pod is selected until the API answers: %s", error)
            return ""

    def _list(self) -> str:
        found, version = self._api.pods()
        there = {each.uid for each in found}
        now = time.monotonic()
        for uid in self._taken.keys() - there:
            self._gone.setdefault(uid, now)
        self._put(found)
        return version

    def _put(self, found: list[Pod]) -> None:
        changed = set()
        for each in found:
            taken = self._wanted.takes(each.namespace, each.labels)
            if taken != self.takes(each.uid):
                changed.add(each.uid)
            self._gone.pop(each.uid, None)
            self._taken[each.uid] = taken
        self._forget()
        if changed:
            for tell in list(self._listeners):
                tell(changed)

    def _forget(self) -> None:
        """Their last processes may outlive them a little, but not for long."""
        oldest = time.monotonic() - KEPT_SECONDS
        for uid in [each for each, went in self._gone.items() if went < oldest]:
            del self._gone[uid]
            self._taken.pop(uid, None)

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow()
                self._pause = _FIRST_PAUSE_SECONDS
                self._ended.wait(_LEAST_PAUSE_SECONDS)
            except Exception as error:  # whatever a server says, the watch goes on
                if self._ended.is_set():
                    return  # nobody has to know
                self._version = ""  # what a watch missed is in a list
                if not isinstance(error, ExpiredError):
                    _log.warning("Pods are selected as they were until the API answers: %s", error)
                self._ended.wait(self._pause)
                self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def _follow(self) -> None:
        if not self._version:
            self._version = self._list()
        for kind, pod, version in self._api.changes(self._version):
            if self._ended.is_set():
                return
            self._pause = _FIRST_PAUSE_SECONDS
            if pod is not None and kind == "DELETED":
                self._gone[pod.uid] = time.monotonic()
            elif pod is not None:
                self._put([pod])
            self._version = version
