"""What Ansible said when something failed, recorded -> the sentences that a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CommandError, ComponentError, HarnessError, InputError, NeedError
from harness.targets.vm import failures

RECORDED = Path(__file__).with_name("ansible")
LOG = Path("ansible.log")
EXPECTED: dict[str, tuple[type[HarnessError], str, str]] = {
    "unreachable": (NeedError, "machine-2 cannot be reached.", "ssh machine-2"),
    "host-key": (NeedError, "The host key of machine-2 is not one that is trusted.", "ssh-keyscan"),
    "no-key": (NeedError, "machine-1 does not let us in.", "ansible_ssh_private_key_file"),
    "wrong-password": (NeedError, "sudo on machine-1 refuses the password.", "ansible-vault"),
    "no-password": (NeedError, "sudo on machine-1 asks for a password.", "NOPASSWD"),
    "not-in-sudoers": (NeedError, "Who connects to machine-1 may not become root there.", "sudo"),
    "full-disk": (NeedError, "The disk of machine-1 is full.", "run the same command again"),
    "expired-token": (ComponentError, "with which machine-3 was to join", "a new one is made"),
    "no-way": (NeedError, "machine-3 does not reach the control plane.", "6443 and 10250"),
    "clocks": (NeedError, "The clocks of the hosts are 3600 s apart", "timedatectl set-ntp"),
    "unsupported": (NeedError, "machine-1 runs Debian 11 on x86_64", "Take a host with one of"),
    "sums": (InputError, "What came to machine-1 is not what SHA256SUMS says.", "anew"),
    "preflight": (NeedError, "kubeadm refuses machine-1.", "cluster_ignore_preflight"),
    "no-python": (NeedError, "machine-1 has no Python 3", "python3"),
    "drain": (ComponentError, "Pods do not leave machine-2.", "poddisruptionbudgets"),
    "skew": (NeedError, "kubeadm refuses to upgrade machine-1.", "run the same command again"),
    "not-ready": (ComponentError, "The cluster is there, and is not ready.", "describe nodes"),
    "unknown": (CommandError, "`Make the control plane` failed on machine-1.", "ansible.log"),
}


def recorded(name: str) -> list[dict[str, Any]]:
    lines = (RECORDED / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_failure_is_told_in_sentences(name: str) -> None:
    kind, what, next_step = EXPECTED[name]
    error = failures.explain(recorded(name), LOG)
    assert type(error) is kind
    assert what in error.what
    assert next_step in error.next_step
    assert error.why
    assert len(error.why) < 600
    assert "\n" not in str(error)


def test_every_recording_is_looked_at() -> None:
    assert {path.stem for path in RECORDED.iterdir()} == set(EXPECTED)


def test_hosts_that_failed_as_well_are_named() -> None:
    first = recorded("full-disk")[0]
    error = failures.explain([first, {**first, "host": "machine-2"}], LOG)
    assert error.what == "The disk of machine-1 is full."
    assert error.why.endswith("It failed on machine-2 as well.")


@pytest.mark.parametrize(
    "answer",
    [
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        'configmaps "cluster-info" is forbidden: User "system:anonymous" cannot get resource',
    ],
)
def test_a_control_plane_that_answers_is_reached(answer: str) -> None:
    event = recorded("no-way")[0]
    refused = "dial tcp 127.0.0.1:6443: connect: connection refused"
    assert refused in event["stderr"]
    error = failures.explain([{**event, "stderr": event["stderr"].replace(refused, answer)}], LOG)
    assert error.what == "`Join the cluster` failed on machine-3."
    assert answer in error.why


@pytest.mark.parametrize(
    "silence",
    [
        "dial tcp 192.0.2.11:6443: connect: no route to host",
        "dial tcp 192.0.2.11:6443: i/o timeout",
        "context deadline exceeded",
        "net/http: request canceled while waiting for connection (Client.Timeout exceeded)",
    ],
)
def test_a_control_plane_that_does_not_answer_is_not_reached(silence: str) -> None:
    event = recorded("no-way")[0]
    refused = "dial tcp 127.0.0.1:6443: connect: connection refused"
    error = failures.explain([{**event, "stderr": event["stderr"].replace(refused, silence)}], LOG)
    assert error.what == "machine-3 does not reach the control plane."


def test_what_may_hold_a_secret_is_not_repeated() -> None:
    hidden = "the output has been hidden due to the fact that 'no_log: true' was specified"
    event = {**recorded("unknown")[0], "message": hidden, "stdout": "", "stderr": ""}
    assert failures.explain([event], LOG).why == hidden
