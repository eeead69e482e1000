"""What is looked at and done on a host, as shell scripts, and what is refused there; for `ssh`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import CommandError, HarnessError, InputError, NeedError
from harness.linux.processes import Completed
from harness.targets.packages import Python

OLDEST = "3.11"  # Python, as in pyproject.toml
ROOM = 400 << 20  # bytes that an installation takes, with some to spare

_TOOLS = ("tar", "gzip", "flock", "mktemp")
_GREETING = "harness looks"
_PYTHONS = "/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11"

# an old Python must be able to read it too, if only to say that it is old
_ASK_PYTHON = """
import sys, platform
if sys.version_info < (3, 11):
    print("old " + platform.python_version())
    sys.exit(1)
import ctypes, importlib.util
print("python " + sys.executable)
print("version " + platform.python_version())
print("implementation " + sys.implementation.name)
print("libc " + " ".join(platform.libc_ver()))
print("venv " + ("yes" if importlib.util.find_spec("venv") else ""))
try:
    ctypes.CDLL("libbpf.so.1")
    print("libbpf yes")
except OSError as error:
    print("libbpf")
"""

LOOK = f"""
echo "{_GREETING}"
echo "uid $(id -u)"
echo "machine $(uname -m)"
echo "kernel $(uname -r)"
[ -e /sys/kernel/btf/vmlinux ] && echo "btf yes"
for tool in {" ".join(_TOOLS)}; do command -v $tool >/dev/null 2>&1 || echo "missing $tool"; done
if [ "$(id -u)" != 0 ]; then
    said=$(sudo -n true 2>&1) && echo "sudo yes" || echo "refused $said"
fi
folder=$1
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
df -Pk "$folder" | while read -r _ _ _ free _; do echo "free $free"; done
for python in {_PYTHONS}; do
    "$python" -c '{_ASK_PYTHON}' 2>/dev/null && break
done
exit 0
"""
"""Looks and changes nothing; `$1` is the folder of installations."""

INSTALL = """
set -eu
umask 022
mkdir -p "$1"
new=$(mktemp -d "$1/.new-XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
tar -xzf - --no-same-owner -C "$new"
"$3" -m venv --without-pip "$new/venv"
site=$("$new/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\\n' "$1/$2" "$1/$2/packages" >"$site/harness.pth"
if [ -d /usr/lib/python3/dist-packages/bcc ]; then
    ln -s /usr/lib/python3/dist-packages/bcc "$site/bcc"
fi
mv -T "$new" "$1/$2" || test -d "$1/$2"
"""
"""Unpacks what comes on stdin into folder `$1` under the name `$2`, for the interpreter `$3`."""

REMOVE = """
cd /
[ -d "$1" ] || exit 0
find "$1" -mindepth 1 -maxdepth 1 -name '.new-*' -mmin +60 -exec rm -rf {} +
for each in "$1"/*; do
    [ -d "$each" ] || continue
    flock --nonblock --conflict-exit-code 99 "$each" rm -rf "$each" || [ $? = 99 ] || exit 1
done
rmdir "$1" 2>/dev/null || true
"""
"""Removes each installation in folder `$1` that no node runs from; then the folder, if empty."""


@dataclass(frozen=True)
class Look:
    """What a host said of itself: a word and the rest of its line, and the tools that it lacks."""

    said: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def is_root(self) -> bool:
        """Whether we are root there without sudo."""
        return self.said.get("uid") == "0"

    @property
    def interpreter(self) -> str:
        """The path of its Python."""
        return self.said["python"]

    @property
    def python(self) -> Python:
        """Its Python, as wheels are made for it."""
        _, _, release = self.said["libc"].partition(" ")
        return Python(self.said["version"], self.said["machine"], int(release.split(".")[1]))


def look(name: str, done: Completed) -> Look:
    """What `LOOK` printed on the host of this name; NeedError where it could not, InputError where
    a login shell prints too.
    """
    before, greeted, rest = done.stdout.partition(f"{_GREETING}\n")
    if not greeted:
        said = f"{done.stdout} {done.stderr}".strip()
        raise NeedError(
            f"{name} lets us in, but runs no command.",
            f"It says: {said[:200]}" if said else f"It ends with exit code {done.returncode}.",
            "Use a user whose login shell is a POSIX shell.",
        )
    if before:
        raise InputError(
            f"The login shell of {name} prints text where nobody reads it.",
            f"It begins: {before[:80]!r}.",
            "Let its start-up files (.bashrc) print in interactive shells only.",
        )
    words = [line.partition(" ") for line in rest.splitlines()]
    missing = tuple(text for key, _, text in words if key == "missing")
    return Look({key: text.strip() for key, _, text in words if key != "missing"}, missing)


def require(name: str, found: Look, machine: str) -> None:
    """NeedError for the first thing without which a node cannot run on the host of this name.

    `machine` is the architecture that the collectors and services here are built for.
    """
    said = found.said
    if said.get("machine") != machine:
        raise NeedError(
            f"{name} is a {said.get('machine')} machine, this one is {machine}.",
            "Collectors and services are built here and copied.",
            f"Start the evaluation from a {said.get('machine')} machine.",
        )
    if not found.is_root and said.get("sudo") != "yes":
        raise NeedError(
            f"User {said.get('uid')} of {name} is not root, and sudo asks for something.",
            f"`sudo -n true` says: {said.get('refused', '')}.",
            f"Use ssh:root@{name}, or allow this user NOPASSWD in /etc/sudoers.d for the time.",
        )
    if said.get("btf") != "yes":
        raise NeedError(
            f"The kernel of {name} ({said.get('kernel')}) has no type information.",
            "/sys/kernel/btf/vmlinux is missing; the collectors adapt themselves with it.",
            "Use a kernel with CONFIG_DEBUG_INFO_BTF=y; all current distributions have it.",
        )
    if found.missing:
        raise NeedError(
            f"{name} has no {' and no '.join(found.missing)}.",
            "What a node needs is unpacked with them.",
            "Install them (Debian and Ubuntu: tar, gzip, util-linux, coreutils).",
        )
    _require_python(name, said)
    if said.get("libbpf") != "yes":
        raise NeedError(
            f"{name} has no libbpf.so.1.",
            "The included collectors load their programs with it.",
            "Install libbpf 1.0 or newer there (Debian and Ubuntu: libbpf1).",
        )
    if int(said.get("free", 0)) << 10 < ROOM:
        raise _full(name, f"{int(said.get('free', 0)) >> 10} MiB are free")


def _require_python(name: str, said: Mapping[str, str]) -> None:
    install = f"Install Python {OLDEST} or later there (Debian and Ubuntu: python3)."
    if "python" not in said:
        old = said.get("old")
        raise NeedError(
            f"The Python of {name} is {old}." if old else f"{name} has no Python.",
            f"A node needs {OLDEST} or later; none of these is: {_PYTHONS}.",
            install,
        )
    libc = said.get("libc", "")
    if said.get("implementation") != "cpython" or not re.match(r"glibc 2\.\d+", libc):
        raise NeedError(
            f"The Python of {name} is {said.get('implementation')} over {libc or 'no glibc'}.",
            "The packages that a node needs are had for CPython over glibc.",
            "Use a host of a distribution with glibc.",
        )
    if said.get("venv") != "yes":
        raise NeedError(
            f"The Python of {name} ({said['python']}) cannot make environments.",
            "It has no module venv.",
            "Install it there (Debian and Ubuntu: python3-venv).",
        )


def not_installed(name: str, folder: str, said: str) -> HarnessError:
    """Why unpacking failed on the host of this name; nothing of it is left there."""
    tail = " ".join(said.strip().splitlines()[-2:])
    if "No space left" in said or "Disk quota" in said:
        return _full(name, tail)
    return CommandError(
        f"What a node needs cannot be installed in {folder} on {name}.",
        tail,
        "Mend that, then try again; nothing of it is left there.",
    )


def _full(name: str, why: str) -> NeedError:
    return NeedError(
        f"The disk of {name} is too full.",
        f"A node takes {ROOM >> 20} MiB there while it is installed: {why}.",
        "Free some space there.",
    )
