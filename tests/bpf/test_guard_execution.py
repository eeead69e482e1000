"""bpf/guard.bpf.c compiled for this machine, against guard_reference on made-up executions.

With sanitizers: what reads or counts where it must not ends the program, and the test.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.agent import policy
from harness.agent.policy import Rule
from harness.agent.policy_paths import tries
from harness.agent.records import LAYOUTS, Records
from harness.agent.together import Together
from harness.linux import processes
from tests.bpf import guard_reference as reference
from tests.bpf.guard_worlds import JAIL, LONGEST, Execution, encoded, made_up

pytestmark = pytest.mark.bpf

HERE = Path(__file__).parent
BPF = HERE.parents[1] / "bpf"
CASES = 12_000
SEED = 15
MORE_SECONDS = float(os.environ.get("HARNESS_FUZZ_SECONDS", "0"))  # by another seed each time
SIGKILL = 9
RULES = (
    Rule("any", "exec", ("*",), "report"),
    Rule("jail", "exec", ("/srv/jail/*",), "kill"),
    Rule("fine", "exec", ("/srv/jail/ok", "/srv/jail/a/*", "/usr/*"), "ignore"),
    Rule("ends", "exec", ("*.sh", "*/fd/evil"), "kill"),
    Rule("lists", "exec", ("*/x.sh",), "ignore"),
)
POLICIES = {
    "beginnings": RULES[:3],
    "ends": RULES,
    "too long": (*RULES, Rule("long", "exec", (policy.TOO_LONG,), "report")),
}
LOADER = ("lib64", "ld-linux-x86-64.so.2")


class Host:
    """The program that guard_host.c is, with a policy."""

    def __init__(self, program: Path, rules: Sequence[Rule]) -> None:
        self._program, self._rules = program, rules
        self._policy, self._cases, self._answers = (
            program.with_name(name) for name in ("policy", "cases", "answers")
        )
        both = tries(rules, [lambda path: path])  # no links
        listed = [struct.pack("=I", len(t)) + b"".join(k + v for k, v in t.items()) for t in both]
        kinds = policy.unknown_paths(rules)
        at = policy.RULE.size * policy.EVENTS["exec"]
        self._policy.write_bytes(b"".join(listed) + kinds[at : at + policy.RULE.size])

    def judge(self, cases: Sequence[Execution]) -> Iterator[dict[str, Any] | None]:
        """The attributes of each one's record, None where there is none."""
        self._cases.write_bytes(encoded(cases))
        files = [str(each) for each in (self._policy, self._cases, self._answers)]
        processes.run([str(self._program), *files], timeout=300)
        answer = struct.Struct(f"=II{LAYOUTS['event'].size}s")
        records = Records(self._rules, Together())
        answers = self._answers.read_bytes()
        assert len(answers) == answer.size * len(cases)
        for size, sent, event in answer.iter_unpack(answers):
            told = dict(records.event(event[:size]).attributes) if size else None
            assert sent == (SIGKILL if told and told["guard.action"] == "kill" else 0)
            for own in ("pid", "parent_pid", "executable.name"):
                (told or {}).pop(f"process.{own}", None)
            yield told


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gcc = shutil.which("gcc")  # which has its sanitizers with it
    assert gcc is not None
    built = tmp_path_factory.mktemp("host") / "guard_host"
    flags = ["-O1", "-g", "-fsigned-char", "-fno-strict-aliasing", "-Wall", "-Werror"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    folders = [f"-I{BPF}", f"-I{BPF}/vmlinux/x86_64"]
    source = str(HERE / "guard_host.c")
    processes.run([gcc, *flags, *checks, *folders, source, "-o", str(built)], timeout=120)
    return built


def agreed(host: Host, rules: Sequence[Rule], seed: int, number: int) -> set[tuple[Any, ...]]:
    """Judge so many by this seed; the kinds of them that there were."""
    chance = random.Random(seed)
    cases = [made_up(chance) for _ in range(number)]
    kinds = set()
    try:
        judged = list(host.judge(cases))
    except Exception as error:  # of a sanitizer
        error.add_note(f"It judged those of the seed {seed}.")
        raise
    for case, told in zip(cases, judged, strict=True):
        assert told == reference.told(case, rules), (seed, case)
        second = reference.second(case)
        cut = tuple(told.get("guard.truncated", ())) if told else ()
        kinds.add((told and told["guard.rule"], second and second.whole, case.is_script, cut))
    return kinds


@pytest.mark.parametrize("name", POLICIES)
def test_agrees_with_the_reference_on_made_up_executions(program: Path, name: str) -> None:
    rules = POLICIES[name]
    host = Host(program, rules)
    assert len(agreed(host, rules, SEED, CASES // len(POLICIES))) > 30  # not the same thing always
    end, more = time.monotonic() + MORE_SECONDS / len(POLICIES), 0
    while time.monotonic() < end:
        agreed(host, rules, time.time_ns(), CASES)
        more += CASES
    print(f"{more} executions more, {CASES} by each seed")


def loaded(*words: bytes) -> Execution:
    """The loader, told this."""
    return Execution(tuple(map(str.encode, LOADER)), args=(b"ld.so", *words))


def script(filename: bytes, **more: Any) -> Execution:
    return replace(Execution(filename=filename, is_script=True), **more)


# the second path of each, None if there is none
KNOWN = [
    (script(b"/../evil.sh", root=JAIL), "/srv/jail/evil.sh"),
    (script(b"../../../evil.sh", root=JAIL, folder=(*JAIL, b"a")), "/srv/jail/evil.sh"),
    (script(b"../../evil.sh", root=(*JAIL, b"a"), folder=JAIL), "/evil.sh"),  # it is not in it
    (script(b"/../evil.sh", root=JAIL, mounts=frozenset([JAIL])), "/srv/jail/evil.sh"),
    (script(b"/dev/fd/1", files=(None, (*JAIL, b"x"))), "/srv/jail/x"),
    (script(b"/dev/fd/1/../y", files=(None, (*JAIL, b"x"))), "/srv/jail/y"),
    (script(b"/dev/fd/0/y", files=(None, (*JAIL, b"x"))), "/dev/fd/0/y"),
    (script(b"/dev/fd/1x", files=(None, (*JAIL, b"x"))), "/dev/fd/1x"),
    (loaded(b"--", b"--evil"), "/--evil"),
    (loaded(b"--inhibit-cache", b"--argv0", b"--", b"/evil"), "/evil"),
    (loaded(b"--list"), None),
    (loaded(), None),
    # what follows begins with the last byte that is read, and is an option
    (loaded(b"--argv0", b"x" * (LONGEST - 16), b"--argv0", b"y", b"/srv/jail/evil"), "..."),
]


def test_what_was_wrong_once(program: Path) -> None:
    told = list(Host(program, RULES[:1]).judge([case for case, _ in KNOWN]))
    assert [each and each.get("process.script.path") for each in told] == [p for _, p in KNOWN]


def test_the_longest_path_that_is_known(program: Path) -> None:
    deep = (b"d" * 203,) * 20
    known, longer = (*deep, b"e" * 14), (*deep, b"e" * 15)
    text = b"".join(b"/" + each for each in known)
    assert len(text) == LONGEST
    cases = [Execution(program=known), Execution(program=longer), script(text)]
    whole, cut, spelled = [each or {} for each in Host(program, RULES[:1]).judge(cases)]
    assert whole["process.executable.path"] == text[:255].decode()
    assert cut["process.executable.path"] == "..." + text[204:][:255].decode()
    assert spelled["process.script.path"] == text[:255].decode()


def test_arguments_are_whole_or_said_to_be_cut(program: Path) -> None:
    long = b"x" * 254
    cases = [
        Execution(args=(b"true", b"", b"")),
        Execution(args=(long,)),
        Execution(args=(long, b"")),
        Execution(args=(long + b"y",)),
        Execution(args=(b"true",), faults=True),
    ]
    told = Host(program, RULES[:1]).judge(cases)
    found = [(e["process.command_args"], "guard.truncated" in e) for e in told if e is not None]
    assert found == [
        (["true", "", ""], False),
        ([long.decode()], False),
        ([long.decode()], True),
        ([long.decode() + "y"], True),
        ([], True),
    ]
