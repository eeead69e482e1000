"""Which path of an execution is judged and told: of scripts, of loaders, from memory, and long."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.node.known_events import write_program
from tests.bpf.guarded import BECOME, logs, policy
from tests.waiting import until

pytestmark = pytest.mark.bpf

SCRIPT = '#!/bin/sh\necho ran > "$1"\n'
LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
BY_DESCRIPTOR = """
import os, sys
found = os.open(sys.argv[1], os.O_RDONLY)
os.set_inheritable(found, True)
{code}
os.execve(found, sys.argv[1:], dict(os.environ))
"""
FROM_MEMORY = """
import os
found = os.memfd_create("evil", 0)
with open("/bin/true", "rb") as program:
    data = program.read()
while data:
    data = data[os.write(found, data):]
os.execve(found, ["kworker", "x"], {})
"""
DEEP = """
import os, shutil, sys
os.chdir(sys.argv[1])
for _ in range(25):
    os.mkdir("n" * 200)
    os.chdir("n" * 200)
shutil.copy(sys.argv[2], "program")
os.execv("./program", ["./program"])
"""
CHROOT = """
import os, sys
os.chroot(sys.argv[1])
os.chdir("/")
"""


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    """A folder with a script and a program, in which nothing may be executed."""
    folder = tmp_path / "jail"
    folder.mkdir()
    (folder / "evil.sh").write_text(SCRIPT)
    (folder / "evil.sh").chmod(0o755)
    shutil.copy("/bin/true", folder / "evil")
    return folder


@pytest.fixture
def python(service: Any) -> Callable[..., int]:
    """Run a piece of Python in the cgroup to its end; its exit code."""

    def run(code: str, *words: str) -> int:
        return int(service.start(sys.executable, "-S", "-c", code, *words).wait(60))

    return run


@pytest.mark.parametrize(
    ("folder", "spelled"),
    [
        ("/", "{jail}/evil.sh"),
        ("{jail}", "./evil.sh"),
        ("{jail}/..", "jail/evil.sh"),
        ("/", "{jail}//./evil.sh"),
        ("{jail}", "../../{parent}/./jail/../jail/evil.sh"),
    ],
)
@pytest.mark.parametrize("match", ["{jail}/*", "{jail}/evil.sh", "*.sh"])
def test_a_script_is_judged_by_its_own_path(
    jail: Path,
    python: Callable[..., int],
    start_agent: Any,
    receiver: Any,
    folder: str,
    spelled: str,
    match: str,
) -> None:
    names = {"jail": jail, "parent": jail.parent.name}
    rules = ("exec", match.format(**names), "kill"), ("exec", "*", "report")
    agent = start_agent("guard", *policy(jail.parent, *rules))
    mark = jail.parent / "ran"
    code = BECOME.format(code=f"os.chdir({folder.format(**names)!r})")
    assert python(code, spelled.format(**names), str(mark)) == -9
    assert not mark.exists()
    agent.call("flush")
    script = logs(receiver, "process.exec")[-1]
    assert script["process.executable.path"] == os.path.realpath("/bin/sh")
    assert script["process.script.path"] == str(jail / "evil.sh")
    assert (script["guard.rule"], script["guard.action"]) == ("r0", "kill")


def test_a_script_that_is_executed_by_descriptor(
    jail: Path, python: Callable[..., int], start_agent: Any, receiver: Any
) -> None:
    agent = start_agent("guard", *policy(jail.parent, ("exec", f"{jail}/*", "kill")))
    assert python(BY_DESCRIPTOR.format(code=""), str(jail / "evil.sh"), "/dev/null") == -9
    agent.call("flush")
    (script,) = logs(receiver, "process.exec")
    assert script["process.script.path"] == str(jail / "evil.sh")


def test_a_script_elsewhere_is_told_with_its_interpreter_and_runs(
    jail: Path, service: Any, start_agent: Any, receiver: Any
) -> None:
    rules = ("exec", f"{jail}/*", "kill"), ("exec", "*", "report")
    agent = start_agent("guard", *policy(jail.parent, *rules))
    good = jail.parent / "good.sh"
    shutil.copy(jail / "evil.sh", good)
    assert service.start(str(good), str(jail.parent / "ran")).wait(60) == 0
    assert (jail.parent / "ran").read_text() == "ran\n"
    assert service.start("/bin/true").wait(60) == 0
    agent.call("flush")
    script, program = logs(receiver, "process.exec")
    assert script["process.script.path"] == str(good)
    assert script["process.command_args"] == ["/bin/sh", str(good), str(jail.parent / "ran")]
    assert "process.script.path" not in program


def test_the_interpreter_is_judged_as_well(
    jail: Path, service: Any, start_agent: Any, receiver: Any
) -> None:
    rules = ("exec", "/bin/sh", "kill"), ("exec", f"{jail}/*", "report")
    agent = start_agent("guard", *policy(jail.parent, *rules))
    assert service.start(str(jail / "evil.sh"), str(jail / "ran")).wait(60) == -9
    agent.call("flush")
    (script,) = logs(receiver, "process.exec")
    assert script["guard.rule"] == "r0"


@pytest.fixture
def loader() -> str:
    found = next((each for each in LOADERS if Path(each).exists()), None)
    if found is None:
        pytest.skip("this machine has no dynamic loader of glibc")
    return found


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--inhibit-cache",),
        ("--library-path", "/nowhere"),
        ("--argv0", "good", "--inhibit-rpath", "", "--preload", ""),
        ("--library-path", "/" + "n" * 4200),  # nobody reads as far: it may be any program
    ],
)
def test_what_a_loader_starts_is_judged(
    jail: Path,
    service: Any,
    start_agent: Any,
    receiver: Any,
    loader: str,
    options: tuple[str, ...],
) -> None:
    agent = start_agent("guard", *policy(jail.parent, ("exec", f"{jail}/*", "kill")))
    assert service.start(loader, *options, str(jail / "evil")).wait(60) == -9
    agent.call("flush")
    (started,) = logs(receiver, "process.exec")
    assert started["process.executable.path"] == os.path.realpath(loader)
    known = len(options) < 2 or len(options[1]) < 4000
    assert started["process.script.path"] == (str(jail / "evil") if known else "...")


def test_a_loader_may_start_others_and_its_arguments_are_no_programs(
    jail: Path, service: Any, start_agent: Any, receiver: Any, loader: str
) -> None:
    rules = ("exec", f"{jail}/*", "kill"), ("exec", "*", "report")
    agent = start_agent("guard", *policy(jail.parent, *rules))
    assert service.start(loader, "/bin/true", str(jail / "evil")).wait(60) == 0
    assert service.start(loader, "--help").wait(60) == 0
    agent.call("flush")
    started, helped = logs(receiver, "process.exec")
    assert started["process.script.path"] == "/bin/true"
    assert "process.script.path" not in helped


def test_what_is_executed_from_memory_has_a_path(
    tmp_path: Path, python: Callable[..., int], start_agent: Any, receiver: Any
) -> None:
    rules = ("exec", "/memfd:*", "kill"), ("exec", "*", "report")
    agent = start_agent("guard", *policy(tmp_path, *rules))
    assert python(FROM_MEMORY) == -9
    agent.call("flush")
    first, executed = logs(receiver, "process.exec")
    assert executed["process.executable.path"] == "/memfd:evil"
    assert executed["guard.unlinked"] is True
    assert executed["guard.rule"] == "r0"
    assert "guard.unlinked" not in first


def test_a_program_that_was_unlinked_keeps_its_path(
    jail: Path, python: Callable[..., int], start_agent: Any, receiver: Any
) -> None:
    agent = start_agent("guard", *policy(jail.parent, ("exec", f"{jail}/*", "kill")))
    code = BY_DESCRIPTOR.format(code="os.unlink(sys.argv[1])")
    assert python(code, str(jail / "evil")) == -9
    agent.call("flush")
    (executed,) = logs(receiver, "process.exec")
    assert executed["process.executable.path"] == str(jail / "evil")
    assert executed["guard.unlinked"] is True


@pytest.mark.parametrize("program", ["evil", "evil.sh"])
def test_a_path_that_is_too_long_to_know_is_a_match(
    jail: Path, python: Callable[..., int], start_agent: Any, receiver: Any, program: str
) -> None:
    agent = start_agent("guard", *policy(jail.parent, ("exec", f"{jail}/*", "kill")))
    assert python(DEEP, str(jail), str(jail / program)) == -9
    agent.call("flush")
    (executed,) = logs(receiver, "process.exec")
    name = "process.script.path" if program == "evil.sh" else "process.executable.path"
    assert executed[name].startswith(".../nnn")
    assert executed["guard.truncated"] == [name]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([("exec", "{jail}/*", "kill"), ("exec", "too-long", "report")], ["r1"]),
        ([("exec", "{jail}/evil", "kill")], []),  # which it cannot be
        ([("exec", "*", "report")], ["r0", "r0"]),  # the Python before it, too
    ],
)
def test_a_policy_says_what_is_done_with_paths_that_are_too_long(
    jail: Path,
    python: Callable[..., int],
    start_agent: Any,
    receiver: Any,
    rules: list[tuple[str, str, str]],
    told: list[str],
) -> None:
    filled = [(event, match.format(jail=jail), action) for event, match, action in rules]
    agent = start_agent("guard", *policy(jail.parent, *filled))
    assert python(DEEP, str(jail), str(jail / "evil")) == 0
    agent.call("flush")
    assert [each["guard.rule"] for each in logs(receiver, "process.exec")] == told


def test_what_does_not_fit_into_an_event_is_said_to_be_cut(
    jail: Path, service: Any, start_agent: Any, receiver: Any
) -> None:
    agent = start_agent("guard", *policy(jail.parent, ("exec", "*", "report")))
    folder = jail / ("n" * 200) / ("n" * 200)
    folder.mkdir(parents=True)
    shutil.copy(jail / "evil", folder)
    shutil.copy(jail / "evil.sh", folder)
    for argv in (
        ["/bin/true", "x"],
        ["/bin/true", "x" * 300],
        [str(folder / "evil")],
        [str(folder / "evil.sh"), "/dev/null"],
    ):
        assert service.start(*argv).wait(60) == 0
    agent.call("flush")
    whole, args, path, script = logs(receiver, "process.exec")
    assert "guard.truncated" not in whole
    assert (whole["process.args_count"], args["process.args_count"]) == (2, 2)
    assert args["guard.truncated"] == ["process.command_args"]
    assert path["guard.truncated"] == ["process.executable.path", "process.command_args"]
    assert script["guard.truncated"] == ["process.command_args", "process.script.path"]
    assert str(folder / "evil.sh").startswith(script["process.script.path"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root as containers have it, where /bin/sh leads to a program that nobody has here."""
    folder = tmp_path / "root"
    (folder / "bin").mkdir(parents=True)
    write_program(folder / "bin" / "own-shell")
    (folder / "bin" / "own-shell").chmod(0o755)
    (folder / "bin" / "sh").symlink_to("/bin/own-shell")
    return folder


HOLD = (
    CHROOT
    + """
import time
print('{"ready": true, "port": 1}', flush=True)
time.sleep(600)
"""
)


def test_rules_for_programs_mean_those_of_each_root(
    root: Path, service: Any, python: Callable[..., int], start_agent: Any, receiver: Any
) -> None:
    """One that is there when the agent starts, and one that comes later."""
    later = root.parent / "later"
    shutil.copytree(root, later, symlinks=True)
    code = CHROOT + 'os.execv("/bin/sh", ["/bin/sh"])'
    service.serve(sys.executable, "-S", "-c", HOLD, str(root))
    rules = ("exec", "/bin/sh", "kill"), ("exec", f"{root.parent}/*", "report")
    agent = start_agent("guard", *policy(root.parent, *rules))
    assert python(code, str(root)) == -9
    said = (root.parent / "agent-guard.log").read_text()
    assert f"A link of a container leads /bin/sh to {root}/bin/own-shell: the rule r0 kills" in said
    service.serve(sys.executable, "-S", "-c", HOLD, str(later))
    assert until(lambda: python(code, str(later)) == -9)
    agent.call("flush")
    paths = [each["process.executable.path"] for each in logs(receiver, "process.exec")]
    assert paths[0] == f"{root}/bin/own-shell"
    assert paths[-1] == f"{later}/bin/own-shell"


@pytest.mark.parametrize("spelled", ["/../../evil.sh", "../evil.sh"])
def test_no_dots_lead_out_of_a_root(
    root: Path, python: Callable[..., int], start_agent: Any, receiver: Any, spelled: str
) -> None:
    (root / "evil.sh").write_text("#!/bin/own-shell\n")
    (root / "evil.sh").chmod(0o755)
    agent = start_agent("guard", *policy(root.parent, ("exec", f"{root}/evil.sh", "kill")))
    assert python(CHROOT + f"os.execv({spelled!r}, ['x'])", str(root)) == -9
    agent.call("flush")
    (told,) = logs(receiver, "process.exec")
    assert told["process.script.path"] == f"{root}/evil.sh"


def test_no_root_leads_a_rule_to_all_that_it_has(
    root: Path, service: Any, python: Callable[..., int], start_agent: Any, receiver: Any
) -> None:
    """What is forbidden in a folder is not forbidden everywhere, if that folder leads to /."""
    (root / "scratch").symlink_to("/")
    service.serve(sys.executable, "-S", "-c", HOLD, str(root))
    rules = ("exec", "/scratch/*", "kill"), ("exec", f"{root}/*", "report")
    agent = start_agent("guard", *policy(root.parent, *rules))
    code = CHROOT + 'os.execv("/bin/sh", ["/bin/sh"])'
    assert python(code, str(root)) == 0
    agent.call("flush")
    (told,) = logs(receiver, "process.exec")
    assert (told["process.executable.path"], told["guard.rule"]) == (f"{root}/bin/own-shell", "r1")
