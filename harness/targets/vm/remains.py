"""What machines of an inventory still have of ours, each asked over ssh; called by `cli.cluster`.

What is pinned or attached, files and containers outlive a roll-out unseen by a cluster's API, and
with the cluster taken off there is none to ask. A machine needs no more than its Python for it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError, NodeError
from harness.linux.processes import Completed
from harness.targets.base import Tell
from harness.targets.kubernetes import images
from harness.targets.kubernetes.chosen import Options
from harness.targets.openssh import Connection
from harness.targets.vm import machines, noted
from harness.targets.vm.inventory import Host

_AS_ROOT = ("sh", "-c", '[ "$(id -u)" = 0 ] && exec "$@"; exec sudo -n "$@"', "sh")
_SECONDS, _PATIENCE_SECONDS = 120.0, 75.0
_IMAGE = images.REPOSITORY.rpartition("/")[2]  # of any version, in any registry
_ALWAYS = ("/var/lib/harness", "/run/harness/*", "/sys/fs/bpf/harness*")
_OF_A_CLUSTER = (
    "/var/lib/harness-cluster", "/etc/modules-load.d/harness*", "/etc/sysctl.d/*harness*",
    "/etc/apt/keyrings/harness*", "/etc/apt/sources.list.d/harness*", "/etc/pki/rpm-gpg/harness*",
    "/etc/yum.repos.d/harness*", "/run/cilium", "/sys/fs/bpf/cilium",
)  # fmt: skip
_CGROUPS = ("/sys/fs/cgroup/harness*", "/sys/fs/cgroup/*/harness*")
SCRIPT = """
import ctypes, glob, json, os, platform, re, shutil, subprocess, sys, time
asked = json.loads(sys.argv[1])
root = asked["root"]

def agents():
    for folder in glob.glob(root + "/proc/[0-9]*"):
        try:
            with open(folder + "/cmdline", "rb") as file:
                words = file.read().split(b"\\0")
            if b"harness.agent" in words or b"harness.node" in words:
                yield folder
        except OSError:  # it has ended
            pass

def held(folder):
    for place in glob.glob(folder + "/fdinfo/*"):
        try:
            with open(place, errors="replace") as file:
                yield from map(int, re.findall(r"(?m)^prog_id:\\s*(\\d+)", file.read()))
        except OSError:
            pass

def is_loaded(number):
    attributes = ctypes.create_string_buffer(number.to_bytes(4, sys.byteorder), 128)
    call = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.syscall(ctypes.c_long(call), 13, attributes, 128)  # BPF_PROG_GET_FD_BY_ID
    if descriptor >= 0:
        os.close(descriptor)
    elif ctypes.get_errno() != 2:  # ENOENT
        raise SystemExit("bpf(2) says: " + os.strerror(ctypes.get_errno()))
    return descriptor >= 0

def containers():
    argv = ["ctr", "--namespace=k8s.io", "containers", "list"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    if done.returncode:
        raise SystemExit("ctr says: " + done.stderr.decode()[-300:])
    listed = [line.split()[:2] for line in done.stdout.decode().splitlines()[1:]]
    ours = r"(^|/)" + asked["image"] + "[:@]"
    return [f"the container {number[:12]} of {image} is there"
            for number, image in listed if re.search(ours, image)]

def left():
    until = time.monotonic() + 5  # the kernel frees programs a little after their holders ended
    ids = asked["ids"]
    while (there := [each for each in ids if is_loaded(each)]) and time.monotonic() < until:
        time.sleep(0.1)
    yield from (f"the BPF program {each} is loaded" for each in there)
    for folder in agents():
        yield f"the process {os.path.basename(folder)} runs"
    for pattern in asked["files"]:
        yield from (f"{each[len(root):]} is there" for each in sorted(glob.glob(root + pattern)))
    for pattern in asked["cgroups"]:
        for each in sorted(glob.glob(root + pattern)):
            yield f"the cgroup {each[len(root):]} is there"
    if shutil.which("ctr") and os.path.exists(root + "/run/containerd/containerd.sock"):
        until = time.monotonic() + asked["patience"]  # the kubelet looks for ended ones each minute
        while (there := containers()) and time.monotonic() < until:
            time.sleep(1)
        yield from there

if asked["after"]:
    print(json.dumps(list(left())))
else:
    print(json.dumps(sorted({number for each in agents() for number in held(each)})))
"""


@dataclass(frozen=True)
class Before:
    """A machine, and the programs that agents held there, or why that is not known."""

    host: Host
    ids: tuple[int, ...] = ()
    unknown: str = ""


def held(options: Options, tell: Tell) -> list[Before]:
    """What agents hold on each machine of an inventory; machines that we made go as a whole.

    Those that a reset leaves out, as they are in the inventory no more, are not asked either.
    """
    now = noted.read(options.name) if options.target == "vm" else None
    if now is None or now.maker or not now.ever:
        return []
    asked, found = now.members, []
    if options.machines.reset:
        asked, gone = machines.there_and_gone(options.name, now)
        for host in gone:
            tell(f"{host.name} is not in {now.inventory} any more: what is left there is not asked")
    for host in asked:
        tell(f"asking {host.name} which BPF programs agents have")
        try:
            found.append(Before(host, tuple(_asked(host, words(after=False)))))
        except HarnessError as error:
            found.append(Before(host, unknown=str(error)))
    return found


def left(options: Options, before: Sequence[Before], tell: Tell) -> Iterator[str]:
    """What each of them has now, in sentences; which could not be asked, too.

    What makes it a node of a cluster is left only where that was to be taken off.
    """
    for each in before:
        name = each.host.name
        tell(f"asking {name} what is left there")
        if each.unknown:
            yield f"Which BPF programs {name} had is not known: {each.unknown}"
        try:
            about = words(each.ids, reset=options.machines.reset)
            yield from (f"On {name} {line}." for line in _asked(each.host, about))
        except HarnessError as error:
            yield f"{name} could not be asked what is left there: {error}"


def words(
    ids: Sequence[int] = (), *, after: bool = True, reset: bool = False, root: str = ""
) -> tuple[str, str]:
    """What a machine's Python is to run, and about what; `root` is where it looks."""
    about = {
        "after": after, "ids": list(ids), "image": _IMAGE, "root": root,
        "patience": _PATIENCE_SECONDS,
        "files": [*_ALWAYS, *(_OF_A_CLUSTER if reset else ())], "cgroups": _CGROUPS,
    }  # fmt: skip
    return SCRIPT, json.dumps(about)


def _asked(host: Host, about: tuple[str, str]) -> list[Any]:
    with contextlib.closing(_connection(host)) as connection:
        command = (*_AS_ROOT, "python3", "-c", *about)
        return answer(host.name, connection.run(*command, timeout=_SECONDS))


def _connection(host: Host) -> Connection:
    return host.connection()


def answer(name: str, done: Completed) -> list[Any]:
    """What a machine printed as its answer; NodeError with what it said instead."""
    try:
        found = json.loads(done.stdout) if not done.returncode else None
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise NodeError(
            f"{name} did not answer.",
            f"It said {' '.join(done.stderr.split())[-300:]!r}.",
            "It takes python3 there, and root or a sudo that asks for no password.",
        )
    return found
