"""Docker, kind, helm and kubectl of a test's own on PATH, for tests of images; and their names."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from harness.targets.kubernetes import images, sources, values

OWN = "localhost/harness-node:1"
NODE = "kindest/node:v1.34.0"
PREFIX = "registry.example:5000/team"
STACK = values.stack("shop", grafana=True)
NAMES = values.images(values.values(STACK, OWN))

DOCKER = """
has() { grep -qxF "$1" "$0.has" 2>/dev/null; }
echo "$@" >>"$0.done"
case "$1" in
image)
    shift 2
    if [ "$1" = --format ]; then
        has "$3" && echo "sha256:$3" && exit
        echo "No such image: $3" >&2
        exit 1
    fi
    between='['
    for each; do
        has "$each" || exit 1
        printf '%s{"Id": "sha256:%s", "RepoDigests": ["x@y"], "Size": 3}' "$between" "$each"
        between=', '
    done
    echo ']';;
pull) echo "$3" >>"$0.has";;
tag) has "$2" || exit 1; echo "$3" >>"$0.has";;
save) shift; echo "saved $*"; head -c 300000 /dev/zero;;
load) cat >"$0.loaded";;
rmi) grep -vxF "$2" "$0.has" >"$0.rest"; mv "$0.rest" "$0.has";;
exec)
    test "$2" = full || test -e "${0%docker}kind.$2" && cat "$0.has"
    exit 0;;
version) echo 28;;
esac
"""
KIND = """
echo "$@" >>"$0.done"
case "$1 $2" in
"get nodes") echo full; echo bare;;
"load image-archive") cat "$7" >"$0.$6";;
esac
"""


@dataclasses.dataclass
class Machine:
    """What is on PATH, what the docker there has, what it was told."""

    folder: Path

    def put(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def has(self, *names: str) -> None:
        (self.folder / "docker.has").write_text("".join(f"{each}\n" for each in names))

    def told(self, name: str, word: str = "") -> list[str]:
        file = self.folder / f"{name}.done"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(word)]


def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """All four first on PATH; docker has our image, and no other."""
    (folder / "path").mkdir()
    monkeypatch.setenv("PATH", f"{folder}/path:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setattr(images, "name", lambda: OWN)
    made = Machine(folder / "path")
    made.put("docker", DOCKER)
    made.put("kind", KIND)
    for name in ("helm", "kubectl"):
        made.put(name, 'echo "$@" >>"$0.done"; exit 1')
    made.has(OWN)
    return made


def bundle(folder: Path) -> Path:
    """A bundle with kind's node image in it."""
    file = folder / "harness.tar"
    sources.bundle(file, print, node_image=NODE)
    return file
