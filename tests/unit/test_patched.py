"""What the load replaces inside Locust and geventhttpclient is there, and takes what ours takes.

These are no public names: a new version may move them, and the load would then run unpaced.
"""

from __future__ import annotations

import sys

import pytest

from harness.linux import processes

LOCUST = "from locust.user.task import LOCUST_STATE_STOPPING, DefaultTaskSet, TaskSet"
POOL = "from geventhttpclient.connectionpool import ConnectionPool"


def _said(code: str) -> str:
    """What a process of its own prints: Locust patches the standard library on import."""
    return processes.run([sys.executable, "-c", code]).stdout.strip()


@pytest.mark.parametrize(
    ("made", "name", "takes"),
    [
        (LOCUST, "TaskSet.execute_next_task", ["self"]),
        (LOCUST, "TaskSet.wait", ["self"]),
        (LOCUST, "TaskSet.get_next_task", ["self"]),
        (LOCUST, "DefaultTaskSet.get_next_task", ["self"]),
        (POOL, "ConnectionPool._is_socket_alive", ["self", "sock"]),
    ],
)
def test_methods_that_are_replaced_take_the_same(made: str, name: str, takes: list[str]) -> None:
    code = f"{made}\nimport inspect\nprint(list(inspect.signature({name}).parameters))"
    assert _said(code) == str(takes)


def test_a_task_set_runs_its_next_task_by_the_methods_that_are_replaced() -> None:
    code = f"{LOCUST}\nimport inspect\nprint(inspect.getsource(TaskSet))"
    source = _said(code)
    for call in ("self.execute_next_task()", "self.get_next_task()", "self.wait()", "_task_queue"):
        assert call in source


def test_a_pool_asks_the_method_that_is_replaced() -> None:
    code = f"{POOL}\nimport inspect\nprint(inspect.getsource(ConnectionPool))"
    assert "self._is_socket_alive(" in _said(code)


def test_a_client_tries_again_as_often_as_its_pool_says() -> None:
    code = "from geventhttpclient.client import HTTPClient as client\nimport inspect\n"
    assert "self._connection_pool.size + 1" in _said(f"{code}print(inspect.getsource(client))")


def test_the_state_in_which_a_user_stops_is_named_as_it_was() -> None:
    assert _said(f"{LOCUST}\nprint(LOCUST_STATE_STOPPING)") == "stopping"
