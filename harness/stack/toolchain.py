"""The Go that builds a module: the one that is installed, or a newer toolchain, which is fetched.

A toolchain is a module as any other, from the same proxy, into the same cache. Go does this by
itself only from 1.21 on, and Debian 12 has 1.19. One is pinned, new enough for all modules, by its
sum in modules/toolchain/go.sum: an old Go can be deceived about what the checksum database says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ComponentError, NeedError
from harness.linux import processes
from harness.stack.catalog import MODULES

SUMS = MODULES / "toolchain" / "go.sum"
_PINNED = re.compile(
    r"^golang\.org/toolchain (v0\.0\.1-go(\S+)\.linux-(\w+)) (h1:\S+)$", re.MULTILINE
)
_FETCH_MB, _FETCH_SECONDS = 70, 1800


@dataclass(frozen=True)
class Go:
    """The Go for one module; `refusal` if there is none.

    Without a `toolchain`, a version of the module of toolchains, it is the one that is installed.
    """

    version: str = ""
    toolchain: str = ""
    sum: str = ""
    refusal: str = ""

    def home(self, folder: Path) -> Path:
        """Where the toolchain is or will be, in the cache `folder`."""
        return folder / "go" / "mod" / "golang.org" / f"toolchain@{self.toolchain}"

    def ready(self, folder: Path) -> bool:
        """Whether nothing is to be fetched."""
        return not self.toolchain or os.access(self.home(folder) / "bin" / "go", os.X_OK)


def choose(go_mod: Path) -> Go:
    """The Go for a module; changes nothing and uses no network."""
    asked = re.search(r"^go (\S+)", go_mod.read_text(), re.MULTILINE)
    assert asked is not None
    if shutil.which("go") is None:
        return Go(refusal="Go is not installed; 1.19 or later will do.")
    # in /: below a go.mod that asks for a newer Go, even this would fetch that
    done = processes.run(
        ["go", "env", "-json", "GOVERSION", "GOTOOLCHAIN", "GOHOSTARCH"],
        check=False, cwd=Path("/"), env={"GOWORK": "off"},
    )  # fmt: skip
    if done.returncode:
        return Go(refusal=f"`go env` fails: {' '.join(done.stderr.split())}.")
    have = json.loads(done.stdout)
    version, arch = have["GOVERSION"].removeprefix("go"), have["GOHOSTARCH"]
    if numbers(version) >= numbers(asked[1]):
        return Go(version)
    lack = f"Go {asked[1]} is needed, {version} is installed"
    # below 1.21 Go does not know this setting
    setting = have.get("GOTOOLCHAIN") or os.environ.get("GOTOOLCHAIN", "")
    if setting not in ("", "auto") and not setting.endswith("+auto"):
        return Go(refusal=f"{lack}, and GOTOOLCHAIN={setting} forbids another; set it to auto.")
    for toolchain, pinned, for_arch, sum_ in _PINNED.findall(SUMS.read_text()):
        if for_arch == arch and numbers(pinned) >= numbers(asked[1]):
            return Go(pinned, toolchain, sum_)
    return Go(refusal=f"{lack}, and none is pinned for {arch}; install it.")


def to_fetch(go: Go, folder: Path) -> str:
    """What is to be fetched before `go` can build, for the plan; empty if nothing is."""
    if go.ready(folder):
        return ""
    return f"Go {go.version} from the module proxy, about {_FETCH_MB} MB, once"


def environment(go: Go, folder: Path) -> dict[str, str]:
    """In what `go build` is run; a toolchain that is not in the cache is fetched first.

    NeedError if it cannot be, ComponentError if it differs from its sum.
    """
    settings = {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-modcacherw -buildvcs=false",
        "GOCACHE": str(folder / "go" / "build"),
        "GOMODCACHE": str(folder / "go" / "mod"),
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
    }
    if not go.toolchain:
        return settings
    if not go.ready(folder):
        _fetch(go, folder, settings)
    home = go.home(folder)
    path = f"{home / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    return {**settings, "GOROOT": str(home), "PATH": path}


def numbers(version: str) -> tuple[int, ...]:
    """The first three numbers of a version, to be compared."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _fetch(go: Go, folder: Path, settings: dict[str, str]) -> None:
    # in /, because an old Go may not understand the go.mod of where we are
    done = processes.run(
        ["go", "mod", "download", "-json", f"golang.org/toolchain@{go.toolchain}"],
        check=False, cwd=Path("/"), env=settings, timeout=_FETCH_SECONDS,
    )  # fmt: skip
    try:
        told = json.loads(done.stdout)
    except ValueError:
        told = {}
    if done.returncode or "Sum" not in told:
        why = told.get("Error") or " ".join(done.stderr.strip().splitlines()[-3:])
        raise NeedError(
            f"Go {go.version} cannot be fetched from the module proxy.",
            f"{why or 'The Go tool does not say why'}.",
            f"Check the network and `go env GOPROXY`, or install Go {go.version} or later.",
        )
    if told["Sum"] != go.sum:
        shutil.rmtree(folder / "go" / "mod", ignore_errors=True)
        raise ComponentError(
            f"What the module proxy sent as Go {go.version} is not that: its sum is {told['Sum']}.",
            f"{go.sum} was expected; what was fetched is thrown away.",
            "Find out what `go env GOPROXY` names before you try again.",
        )
    _unfold(go.home(folder))


def _unfold(home: Path) -> None:
    """What the Go tool does since 1.21: a module holds no executable and no module within it."""
    for hidden in home.rglob("_go.mod"):
        shutil.copyfile(hidden, hidden.with_name("go.mod"))
    for part in ("pkg/tool", "bin"):  # bin last: it says that all is there
        for path in (home / part).rglob("*"):
            if path.is_file():
                path.chmod(0o755)
