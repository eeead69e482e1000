"""Which pods of a node are selected, by what an API server tells as they come and change and go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.agent.errors import AgentError
from harness.agent.kubernetes_api import KubernetesApi
from harness.agent.pods import Pods
from harness.wire.selector import selection
from tests.kubernetes_api import Api
from tests.waiting import until


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    made.put("one", app="go")
    made.put("other", app="dns")
    yield made
    made.close()


@pytest.fixture
def pods(api: Api) -> Iterator[Pods]:
    wanted = selection("shop", "", "app=go")
    assert wanted is not None
    made = Pods(wanted, KubernetesApi(api.url, "worker"))
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
    assert until(lambda: pods.takes("late"))
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


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_api_that_refuses_is_an_error_from_the_start(api: Api, status: int) -> None:
    api.refusing = status
    wanted = selection("shop")
    assert wanted is not None
    with pytest.raises(AgentError, match=f"cannot be read .* {status}"):
        Pods(wanted, KubernetesApi(api.url, "worker"))


def test_outside_of_a_cluster_it_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AgentError, match=r"--kubernetes-api URL"):
        KubernetesApi("", "worker")
