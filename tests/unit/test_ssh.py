"""How a host is named, what ssh's words mean, and what is refused before anything is copied."""

from __future__ import annotations

import pytest

from harness.errors import CommandError, InputError, NeedError, NodeError
from harness.linux.processes import Completed
from harness.targets import openssh, ssh_host, target
from harness.targets.openssh import Host

GOOD = """harness looks
uid 0
machine x86_64
kernel 6.1.0-35-amd64
btf yes
free Available
free 8123456
python /usr/bin/python3
version 3.11.2
implementation cpython
libc glibc 2.36
venv yes
libbpf yes
"""


def looked(told: str) -> ssh_host.Look:
    return ssh_host.look("box", Completed((), 0, told, ""))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("box", Host("box")),
        ("me@box", Host("box", "me")),
        ("me@box.example.org:2222", Host("box.example.org", "me", 2222)),
        ("[fe80::1]:22", Host("fe80::1", "", 22)),
        ("me@corp@box", Host("box", "me@corp")),
    ],
)
def test_a_host_is_named_as_ssh_names_it(given: str, expected: Host) -> None:
    assert openssh.host(given) == expected


@pytest.mark.parametrize(
    "given", ["", "-oProxyCommand=x", "me@-box", "a b", "box:", "box:ssh", "fe80::1", "-l@box"]
)
def test_what_is_no_host_or_would_be_an_option_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="names no host"):
        target(f"ssh:{given}")


def test_the_target_keeps_the_name_that_it_was_given() -> None:
    assert target("ssh:me@box:22").name == "ssh:me@box:22"


@pytest.mark.parametrize(
    ("said", "kind", "what", "then"),
    [
        (
            "No ED25519 host key is known for box and you have requested strict checking.\r\n"
            "Host key verification failed.\r\n",
            NeedError,
            "key of box is not known",
            "ssh -p 22 me@box.",
        ),
        (
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n"
            "Host key verification failed.\r\n",
            NeedError,
            "another than the one that is known",
            "ssh-keygen -R box",
        ),
        ("me@box: Permission denied (publickey).", NeedError, "does not let us in", "BatchMode"),
        (
            "ssh: Could not resolve hostname box: Name or service not known",
            InputError,
            "no host box",
            "HostName",
        ),
        ("ssh: connect to host box port 22: Connection refused", NeedError, "be reached", "sshd"),
        ("ssh: connect to host box port 22: No route to host", NeedError, "be reached", "sshd"),
        (
            "/root/.ssh/config: line 3: Bad configuration option: x\r\n"
            "/root/.ssh/config: terminating, 1 bad configuration options",
            InputError,
            "cannot read its configuration",
            "Mend it",
        ),
        ("Connection to box closed by remote host.", NodeError, "failed", "stays up"),
        ("", NodeError, "failed", "stays up"),
    ],
)
def test_what_ssh_says_becomes_what_to_do(
    said: str, kind: type[Exception], what: str, then: str
) -> None:
    error = openssh.refusal(Host("box", "me", 22), said)
    assert type(error) is kind
    assert what in error.what
    assert then in error.next_step
    assert error.why


def test_a_host_on_which_a_node_can_run_is_taken() -> None:
    found = looked(GOOD)
    ssh_host.require("box", found, "x86_64")
    assert found.interpreter == "/usr/bin/python3"
    assert (found.python.minor, found.python.glibc) == ("3.11", 36)
    assert found.is_root


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("machine x86_64", "machine aarch64", "box is a aarch64 machine"),
        ("uid 0", "uid 1000\nrefused sudo: a password is required", "User 1000 of box is not root"),
        ("btf yes\n", "", "no type information"),
        ("btf yes", "btf yes\nmissing flock\nmissing tar", "no flock and no tar"),
        ("python /usr/bin/python3\n", "", "box has no Python"),
        ("python /usr/bin/python3\n", "old 3.9.2\n", "The Python of box is 3.9.2"),
        ("libc glibc 2.36", "libc  ", "no glibc"),
        ("implementation cpython", "implementation pypy", "pypy"),
        ("venv yes", "venv", "cannot make environments"),
        ("libbpf yes", "libbpf", "no libbpf.so.1"),
        ("free 8123456", "free 1024", "too full"),
    ],
)
def test_each_thing_that_a_host_lacks_is_named(old: str, new: str, what: str) -> None:
    assert old in GOOD
    with pytest.raises(NeedError) as refused:
        ssh_host.require("box", looked(GOOD.replace(old, new)), "x86_64")
    assert what in refused.value.what
    assert refused.value.why
    assert refused.value.next_step


def test_a_user_who_may_use_sudo_need_not_be_root() -> None:
    found = looked(GOOD.replace("uid 0", "uid 1000\nsudo yes"))
    ssh_host.require("box", found, "x86_64")
    assert not found.is_root


def test_a_login_shell_that_prints_is_refused_because_frames_would_be_lost() -> None:
    with pytest.raises(InputError, match=r"prints text.*Welcome"):
        looked(f"Welcome to box!\n{GOOD}")


def test_a_login_shell_that_runs_nothing_is_told_of() -> None:
    with pytest.raises(NeedError, match=r"runs no command.*not available"):
        looked("This account is currently not available.\n")


def test_a_disk_that_is_full_is_told_from_other_failures() -> None:
    full = ssh_host.not_installed("box", "/var/lib/harness", "tar: x: No space left on device\n")
    assert isinstance(full, NeedError)
    assert "too full" in full.what
    other = ssh_host.not_installed("box", "/var/lib/harness", "mkdir: Read-only file system\n")
    assert isinstance(other, CommandError)
    assert "Read-only" in other.why
