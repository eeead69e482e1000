"""Questions that ours and others' programs answer, and how they are asked; for bench_collectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiver import Receiver

PROGRAM = "/bin/true"
FREQUENCY = 99
# classic tracepoints are found in tracefs, which is mounted for that program alone
TRACEFS = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'mount -t tracefs none /sys/kernel/tracing; exec "$@"',
    "sh",
)


@dataclass(frozen=True)
class Tool:
    """One that others have written.

    `argv` may name {cgroup}, {cgroup_id}, {pid} and {port} of who makes the events, and {folder}
    of the files. What it saw is how often `seen` is in what it says, or the sum of its group.
    """

    name: str
    argv: tuple[str, ...]
    seen: str
    scope: str

    def count(self, said: str, names: Mapping[str, str]) -> int:
        """How many events it told."""
        pattern = self.seen.format(**{key: re.escape(value) for key, value in names.items()})
        found = re.findall(pattern, said, re.MULTILINE)
        return sum(int(each) if each.isdigit() else 1 for each in found)


@dataclass(frozen=True)
class Question:
    """`unit` are the events; `ask` is the command to the maker of events, with its arguments."""

    name: str
    unit: str
    collector: str
    options: Callable[[Path, Mapping[str, str]], list[str]]
    told: Callable[[Receiver], float]
    ask: tuple[str, Mapping[str, Any]]
    tools: tuple[Tool, ...]


def _bpftrace(name: str, program: str, seen: str, scope: str) -> Tool:
    return Tool(name, ("bpftrace", "-q", "-e", program), seen, scope)


def _rule(event: str, match: str) -> Callable[[Path, Mapping[str, str]], list[str]]:
    def options(folder: Path, names: Mapping[str, str]) -> list[str]:
        policy = folder / "policy.toml"
        rule = f'event = "{event}"\nmatch = "{match.format(**names)}"\naction = "report"\n'
        policy.write_text(f"[[rules]]\n{rule}")
        return ["--policy", str(policy)]

    return options


def _pprof(folder: Path, _: Mapping[str, str]) -> list[str]:
    (folder / "pprof").mkdir(exist_ok=True)
    return ["--frequency", str(FREQUENCY), "--pprof", str(folder / "pprof")]


QUESTIONS = (
    Question(
        "Which connections were there?",
        "connection",
        "flows",
        lambda *_: [],
        lambda receiver: receiver.sums.get("tcp.connections.closed", 0),
        ("connect", {}),
        (
            Tool(
                "libbpf-tools tcplife",
                ("tcplife", "-D", "{port}"),
                r"^\d+ .* {port}(?: +[\d.]+){{3}}$",
                "the port",
            ),
            _bpftrace(
                "bpftrace, counting",
                "tracepoint:sock:inet_sock_set_state /args->dport == {port} && args->newstate == 7/"
                " {{ @closed[ntop(args->daddr), args->dport] = count(); }}"
                " interval:s:3 {{ print(@closed); clear(@closed); }}",
                r"^@closed.*: (\d+)$",
                "the port",
            ),
            Tool(
                "libbpf-tools tcpconnect", ("tcpconnect", "-P", "{port}"), r" {port}$", "the port"
            ),
            Tool(
                "libbpf-tools tcptracer", ("tcptracer", "-p", "{pid}"), r" {port}$", "the process"
            ),
            Tool("BCC tcplife", ("tcplife-bpfcc", "-D", "{port}"), r" {port} ", "the port"),
        ),
    ),
    Question(
        "Which programs were executed?",
        "execution",
        "guard",
        _rule("exec", "*"),
        lambda receiver: receiver.logs["process.exec"],
        ("execute", {"argv": [PROGRAM]}),
        (
            Tool(
                "libbpf-tools execsnoop",
                ("execsnoop", "-c", "{cgroup}"),
                rf" {PROGRAM} *$",
                "the cgroup",
            ),
            _bpftrace(
                "bpftrace, telling each",
                "tracepoint:sched:sched_process_exec /cgroup == {cgroup_id}/"
                ' {{ printf("%d %s\\n", pid, str(args->filename)); }}',
                rf"^\d+ {PROGRAM}$",
                "the cgroup",
            ),
            Tool("BCC execsnoop", ("execsnoop-bpfcc",), PROGRAM, "the host"),
        ),
    ),
    Question(
        "Which files were opened?",
        "opened file",
        "guard",
        _rule("open", "{folder}/*"),
        lambda receiver: receiver.logs["file.open"],
        ("open", {}),
        (
            Tool(
                "libbpf-tools opensnoop", ("opensnoop", "-p", "{pid}"), "{folder}/", "the process"
            ),
            _bpftrace(
                "bpftrace, telling each",
                "tracepoint:syscalls:sys_enter_openat /cgroup == {cgroup_id}/"
                ' {{ printf("%d %s\\n", pid, str(args->filename)); }}',
                "{folder}/",
                "the cgroup",
            ),
            Tool("BCC opensnoop", ("opensnoop-bpfcc", "-p", "{pid}"), "{folder}/", "the process"),
        ),
    ),
    Question(
        f"What runs on the CPU, {FREQUENCY} times a second?",
        "sample",
        "profile",
        _pprof,
        lambda receiver: receiver.sums.get("profile.samples", 0),
        ("burn", {}),
        (
            _bpftrace(
                "bpftrace, counting stacks",
                f"profile:hz:{FREQUENCY} /cgroup == {{cgroup_id}}/"
                " {{ @stacks[comm, kstack, ustack] = count(); }}"
                " interval:s:3 {{ print(@stacks); clear(@stacks); }}",
                r"^.*\]: (\d+)$",
                "the cgroup",
            ),
            Tool(
                "BCC profile",
                ("profile-bpfcc", "-F", str(FREQUENCY), "-p", "{pid}", "-f"),
                r" (\d+)$",
                "the process",
            ),
        ),
    ),
)
