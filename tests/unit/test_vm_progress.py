from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.targets.vm.progress import Progress


def event(kind: str, role: str, host: str, time: float, **more: Any) -> dict[str, Any]:
    return {"event": kind, "role": role, "host": host, "time": time, **more}


def told(events: Sequence[dict[str, Any]]) -> list[str]:
    said: list[str] = []
    progress = Progress(said.append)
    for each in events:
        progress.take(each)
    return said


def recap(time: float) -> dict[str, Any]:
    return event("recap", "", "", time, hosts={})


def test_a_role_is_told_when_the_next_begins() -> None:
    said = told(
        [
            event("begun", "host", "a", 10.0),
            event("changed", "host", "a", 30.0),
            event("ok", "host", "b", 31.0),
            event("begun", "control_plane", "a", 31.0),
            event("changed", "control_plane", "a", 72.0),
            recap(72.4),
        ]
    )
    assert said == ["hosts: a, b prepared in 21 s", "control plane: a ready in 41 s"]


def test_a_role_that_changed_nothing_says_so() -> None:
    events = [event("ok", "network", "a", 1.0), event("skipped", "network", "a", 2.0), recap(3.0)]
    assert told(events) == ["network: nothing to change on a"]


def test_roles_that_are_part_of_others_are_not_told() -> None:
    said = told(
        [
            event("ok", "cluster", "a", 0.0),
            event("begun", "worker", "a", 1.0),
            event("changed", "join", "a", 9.0),
            event("ok", "worker", "b", 11.0),
            recap(11.0),
        ]
    )
    assert said == ["workers: a, b joined in 10 s"]


def test_what_a_playbook_says_is_told_of_its_host() -> None:
    said = told([event("said", "reset", "a", 1.0, message="removes package x"), recap(2.0)])
    assert said[0] == "a: removes package x"


def test_a_failure_ends_the_telling_and_is_kept() -> None:
    said: list[str] = []
    progress = Progress(said.append)
    failed = event("failed", "worker", "a", 5.0, message="no")
    for each in (event("ok", "worker", "b", 1.0), failed, recap(6.0)):
        progress.take(each)
    assert progress.failures == [failed]
    assert said == ["workers: stopped after 4 s"]


def test_a_cluster_at_which_nobody_looked_is_not_called_ready() -> None:
    looked = [event("begun", "ready", "a", 1.0), event("ok", "ready", "a", 9.0), recap(9.5)]
    assert told(looked) == ["cluster: seen ready from a in 8 s"]
    passed = [event("skipped", "ready", "a", 1.0), recap(9.0)]
    assert told(passed) == ["cluster: nothing to change on a"]


def test_a_role_that_another_has_called_is_part_of_it() -> None:
    said = told(
        [
            event("ok", "upgrade", "a", 0.0),
            event("changed", "host", "a", 5.0),
            event("changed", "upgrade", "a", 9.0),
            recap(10.0),
        ]
    )
    assert said == ["upgrade: a upgraded in 9 s"]


def test_what_a_playbook_does_between_its_roles_is_told_of_none() -> None:
    said = told(
        [
            event("changed", "worker", "b", 1.0),
            event("ok", "", "b", 5.0),
            event("skipped", "", "a", 6.0),
            recap(6.0),
        ]
    )
    assert said == ["workers: b joined in 5 s"]


def test_who_is_had_alone_is_said_once_and_told_of_no_other_role() -> None:
    said, alone = list[str](), list[str]()
    progress = Progress(said.append, alone.append)
    for each in (
        event("ok", "cluster", "b", 0.0, action="ansible.builtin.include_role"),
        event("skipped", "cluster", "b", 0.0, action="ansible.builtin.command"),
        event("ok", "cluster", "a", 1.0, action="ansible.builtin.command"),
        event("ok", "cluster", "a", 1.0, action="ansible.builtin.assert"),
        event("ok", "ready", "a", 9.0),
        event("ok", "cluster", "a", 9.0, action="ansible.builtin.command"),
        event("ok", "cluster", "a", 9.0, action="ansible.builtin.assert"),
        recap(9.0),
    ):
        progress.take(each)
    assert alone == progress.claimed == ["a"]
    assert said == ["cluster: seen ready from a in 0 s"]


def test_a_host_that_was_asked_and_is_not_had_alone_is_given_back_and_not_said() -> None:
    alone = list[str]()
    progress = Progress(print, alone.append)
    for each in (
        event("ok", "cluster", "a", 0.0, action="ansible.builtin.command"),
        event("failed", "cluster", "a", 1.0, action="ansible.builtin.assert", message="b is at it"),
        event("ok", "ready", "a", 2.0, action="ansible.builtin.assert"),
    ):
        progress.take(each)
    assert (alone, progress.claimed) == ([], ["a"])
