"""What failed on a host, as a sentence for a person; `ansible` asks.

Refusals of the playbooks' own are written there, in three lines: what, why, what to do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandError, ComponentError, HarnessError, InputError, NeedError
from harness.targets.vm.progress import Event

_AGAIN = "then run the same command again: it goes on where it stopped."
_WORDS = 400  # characters of what a program has said


@dataclass(frozen=True)
class _Known:
    """A failure that is told by what was said; {host} in its sentences is where."""

    pattern: str
    kind: type[HarnessError]
    what: str
    next_step: str


_KNOWN = (
    _Known(
        r"Incorrect sudo password|Sorry, try again|incorrect password attempt",
        NeedError, "sudo on {host} refuses the password.",
        "Give that of the user who connects: ansible_become_password, in a file that "
        "ansible-vault encrypts.",
    ),
    _Known(
        r"Missing sudo password|[Aa] password is required|no password was provided"
        r"|interactive authentication is required",
        NeedError, "sudo on {host} asks for a password.",
        "Give it (ansible_become_password, in a file that ansible-vault encrypts), or allow this "
        "user NOPASSWD in /etc/sudoers.d for the time.",
    ),
    _Known(
        r"not in the sudoers|may not run sudo|sudo: (command )?not found",
        NeedError, "Who connects to {host} may not become root there.",
        "Connect as root, or as a user who may use sudo.",
    ),
    _Known(
        r"No space left on device|[Dd]isk quota exceeded|enough free space",
        NeedError, "The disk of {host} is full.", f"Make room there, {_AGAIN}",
    ),
    _Known(
        r"unable to drain node|[Cc]annot evict pod|error when evicting pods",
        ComponentError, "Pods do not leave {host}.",
        f"Let them go (kubectl get poddisruptionbudgets; a pod without a controller), {_AGAIN}",
    ),
    _Known(
        r"\[upgrade/[a-z-]+\] FATAL(?!: \[preflight\])",
        NeedError, "kubeadm refuses to upgrade {host}.", f"Mend that, {_AGAIN}",
    ),
    _Known(
        r"certificate has expired or is not yet valid|certificate is not yet valid",
        NeedError, "A certificate is not valid by the clock of {host}.",
        f"Let all hosts take the time from one source (timedatectl set-ntp true), {_AGAIN}",
    ),
    _Known(
        r"could not find a JWS signature|[Tt]oken.*(expired|is invalid)|invalid bearer token",
        ComponentError, "The token with which {host} was to join is not valid any more.",
        "Run the same command again: each time a new one is made.",
    ),
    _Known(
        r"failed to request the cluster-info ConfigMap: .*(dial tcp|i/o timeout|deadline exceeded"
        r"|request canceled while waiting for connection|TLS handshake timeout)",
        NeedError, "{host} does not reach the control plane.",
        f"Let the hosts reach each other at 6443 and 10250, past any firewall, {_AGAIN}",
    ),
    _Known(
        r"computed checksums? did NOT match|: FAILED( open or read)?$",
        InputError, "What came to {host} is not what SHA256SUMS says.",
        f"Write the folder of cluster_files anew, or copy it again, {_AGAIN}",
    ),
    _Known(
        r"timed out waiting for the condition on nodes/|exceeded its progress deadline"
        r"|timed out waiting for the condition",
        ComponentError, "The cluster is there, and is not ready.",
        "kubectl describe nodes, and kubectl get events --all-namespaces, say why.",
    ),
    _Known(
        r"\[ERROR [A-Za-z]+",
        NeedError, "kubeadm refuses {host}.",
        f"Mend that, {_AGAIN} A check that may be passed over goes into cluster_ignore_preflight.",
    ),
    _Known(
        r"interpreter .*was not found|python3?: (command )?not found|No python interpreters found",
        NeedError, "{host} has no Python 3, which Ansible works with.",
        f"Install the package python3 there, {_AGAIN}",
    ),
    _Known(
        r"resolving|Could not resolve|Failed to fetch|Unable to locate package|Unable to correct"
        r"|unmet dependencies|Could not connect|Cannot download",
        NeedError, "{host} cannot get the packages that it needs.",
        "Let it reach its distribution's repositories, or bring them: cluster_source=files, and "
        "its folder packages/.",
    ),
)  # fmt: skip
_UNREACHABLE = (
    _Known(
        r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED",
        NeedError, "The host key of {host} is not one that is trusted.",
        "Look at it, and let ssh know it: ssh-keyscan, or log in once by hand.",
    ),
    _Known(
        r"Permission denied", NeedError, "{host} does not let us in.",
        "Name the user and the key: ansible_user and ansible_ssh_private_key_file.",
    ),
    _Known(
        r"", NeedError, "{host} cannot be reached.",
        f"See that `ssh {{host}}` works with what the inventory says, {_AGAIN}",
    ),
)  # fmt: skip


def explain(failed: Sequence[Event], log: Path) -> HarnessError:
    """The error of what failed first; if others failed too, they are named."""
    first, *others = failed
    error = _explain(first, log)
    if names := sorted({each["host"] for each in others} - {first["host"]}):
        also = f"It failed on {', '.join(names)} as well."
        return type(error)(error.what, f"{error.why} {also}".strip(), error.next_step)
    return error


def _explain(event: Event, log: Path) -> HarnessError:
    host = event["host"]
    if event["event"] == "unreachable":
        known = next(each for each in _UNREACHABLE if re.search(each.pattern, event["message"]))
        return _error(known, host, _shortened(event["message"]))
    if event["action"].rpartition(".")[2] in ("assert", "fail"):
        what, why, next_step = (*event["message"].strip().splitlines(), "", "", "")[:3]
        return NeedError(what, why, next_step)
    words = "\n".join(each for each in (event["message"], event["stdout"], event["stderr"]) if each)
    return _told(_KNOWN, host, words) or CommandError(
        f"`{event['task']}` failed on {host}.",
        _shortened(words),
        f"{log} has all that Ansible said. Mend it, {_AGAIN}",
    )


def _told(known: Sequence[_Known], host: str, words: str) -> HarnessError | None:
    for each in known:
        if found := re.search(each.pattern, words, re.MULTILINE):
            return _error(each, host, _around(words, found.start()))
    return None


def _error(known: _Known, host: str, why: str) -> HarnessError:
    return known.kind(known.what.format(host=host), why, known.next_step.format(host=host))


def _around(words: str, at: int) -> str:
    """The line with what was known, and those after it."""
    begin = words.rfind("\n", 0, at) + 1
    return _plain(words[begin:])[:_WORDS]


def _shortened(words: str) -> str:
    """The end, which says why."""
    plain = _plain(words)
    return plain if len(plain) <= _WORDS else f"... {plain[-_WORDS:]}"


def _plain(words: str) -> str:
    """On one line, without what Ansible begins all of them with."""
    return re.sub(r"^Task failed: (Action failed: )?", "", " ".join(words.split()))
