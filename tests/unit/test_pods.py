"""Which pods of a node are selected, by what an API server tells as they come and change and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from harness.agent import pods as pods_module
from harness.agent.errors import AgentError
from harness.agent.kubernetes_api import ExpiredError, KubernetesApi, Pod
from harness.agent.pods import Pods
from harness.wire.selector import Selection, selection
from tests.kubernetes_api import Api
from tests.waiting import PATIENCE_SECONDS, until

WANTED = selection("shop", "", "app=go") or Selection()


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    made.put("one", app="go")
    made.put("other", app="dns")
    yield made
    made.close()


@pytest.fixture
def pods(api: Api) -> Iterator[Pods]:
    made = Pods(WANTED, KubernetesApi(api.url, "worker"))
    made.listen(_nothing)
    yield made
    made.leave(_nothing)


def _nothing(_: set[str]) -> None:
    pass


def test_those_that_are_there_are_known_at_once(pods: Pods) -> None:
    assert (pods.takes("one"), pods.takes("other"), pods.takes("unknown")) == (True, False, False)


def test_changes_are_told_once_each_to_who_listens(api: Api, pods: Pods) -> None:
    heard: list[set[str]] = []
    pods.listen(heard.append)
    api.put("one", app="go", tier="test")  # still selected
    api.put("other", app="go")
    api.put("one", "bank", app="go")
    api.put("late", app="go")
    assert until(lambda: {"late"} in heard)
    assert pods.takes("late")
    assert heard == [{"other"}, {"one"}, {"late"}]
    pods.leave(heard.append)


def test_one_that_is_gone_is_known_for_a_while(api: Api, pods: Pods) -> None:
    api.remove("one")
    api.put("late", app="go")
    assert until(lambda: pods.takes("late"))
    assert pods.takes("one")


def test_a_watch_whose_version_is_too_old_begins_with_a_list(api: Api, pods: Pods) -> None:
    api.put("late", app="go")
    assert until(lambda: pods.takes("late"))
    api.forget()
    api.put("later", app="go")
    assert until(lambda: pods.takes("later"))


def test_while_the_api_does_not_answer_all_is_as_it_was(
    api: Api, pods: Pods, caplog: pytest.LogCaptureFixture
) -> None:
    api.refusing = 500
    api.forget()
    assert until(lambda: "as they were" in caplog.text)
    assert pods.takes("one")
    api.refusing = 0
    api.put("late", app="go")
    assert until(lambda: pods.takes("late"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_api_that_refuses_is_an_error_from_the_start(api: Api, status: int) -> None:
    api.refusing = status
    with pytest.raises(AgentError, match=f"cannot be read .* {status}"):
        Pods(WANTED, KubernetesApi(api.url, "worker"))


def test_an_api_that_is_away_at_the_start_is_waited_for(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.refusing = 503
    made = Pods(WANTED, KubernetesApi(api.url, "worker"))
    heard: list[set[str]] = []
    made.listen(heard.append)
    try:
        assert "No pod is selected until the API answers" in caplog.text
        assert not made.takes("one")
        api.refusing = 0
        assert until(lambda: made.takes("one"))
        assert until(lambda: heard == [{"one"}])
    finally:
        made.leave(heard.append)


def test_a_server_that_is_nowhere_is_waited_for() -> None:
    made = Pods(WANTED, KubernetesApi("http://127.0.0.1:1", "worker"))
    made.listen(_nothing)
    assert not made.takes("one")
    made.leave(_nothing)


class Watches:
    """An API that lists, and answers each watch by the next of `answers`, then without end."""

    def __init__(self, *answers: list[tuple[str, Pod | None, str]] | AgentError) -> None:
        self.lists, self.answers = 0, list(answers)
        self.over = False  # what became of the last answer is done, too

    def pods(self) -> tuple[list[Pod], str]:
        self.lists += 1
        return [], "1"

    def changes(self, _: str) -> Iterator[tuple[str, Pod | None, str]]:
        if not self.answers:
            self.over = True
            time.sleep(0.01)
            return
        answer = self.answers.pop(0)
        if isinstance(answer, AgentError):
            raise answer
        yield from answer
        raise AgentError("broken")


def paused(monkeypatch: pytest.MonkeyPatch, api: Watches) -> list[float]:
    """How long it was waited after each error."""
    pauses: list[float] = []

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is not None and timeout != pods_module._LEAST_PAUSE_SECONDS:
                pauses.append(timeout)
                return self.is_set()
            return super().wait(timeout)

    monkeypatch.setattr(threading, "Event", Ended)
    made = Pods(WANTED, api)  # type: ignore[arg-type]
    made.listen(_nothing)
    assert until(lambda: api.over)
    made.leave(_nothing)
    made._thread.join(PATIENCE_SECONDS)
    return pauses


def test_it_is_waited_after_each_error_and_longer_until_something_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away, old = AgentError("away"), ExpiredError("old")
    told: list[tuple[str, Pod | None, str]] = [("BOOKMARK", None, "2")]
    api = Watches(away, old, away, told, away)
    assert paused(monkeypatch, api) == [1.0, 2.0, 4.0, 1.0, 2.0]
    assert api.lists == 6  # what was missed meanwhile is in a list


def test_what_goes_wrong_when_nobody_listens_any_more_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked, left = threading.Event(), threading.Event()

    class Last(Watches):
        def changes(self, _: str) -> Iterator[tuple[str, Pod | None, str]]:
            asked.set()
            left.wait(PATIENCE_SECONDS)
            raise AgentError("away")

    made = Pods(WANTED, Last())  # type: ignore[arg-type]
    made.listen(_nothing)
    assert asked.wait(PATIENCE_SECONDS)
    made.leave(_nothing)
    left.set()
    made._thread.join(PATIENCE_SECONDS)
    assert not made._thread.is_alive()
    assert caplog.text == ""


def test_outside_of_a_cluster_it_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AgentError, match=r"--kubernetes-api URL"):
        KubernetesApi("", "worker")
