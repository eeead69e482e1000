"""Images by name: what they are called in a registry of one's own, how they get here and there.

`values` asks for the names, `archive` and `rollout` for the images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from harness.errors import CommandError, InputError, NeedError
from harness.linux import processes
from harness.targets.kubernetes import images

_PART = "[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_PREFIX = re.compile(rf"[A-Za-z0-9.-]+(?::[0-9]+)?(?:/{_PART})*")
_PULL_SECONDS = 1800.0

Tell = Callable[[str], None]


def check(prefix: str) -> None:
    """InputError unless images can be named below it."""
    if not _PREFIX.fullmatch(prefix):
        raise InputError(
            f"{prefix!r} cannot be what names of images begin with.",
            "It is a registry's name, with its port and a path if need be: no https://, no tag, "
            "no slash at the end.",
            "Take --registry HOST[:PORT][/PATH].",
        )


def named(image: str, prefix: str) -> str:
    """What it is called below `prefix`: its own name without the registry that it is from.

    `docker.io/prom/prometheus:v3` is PREFIX/prom/prometheus:v3. Without a prefix it keeps its name.
    """
    if not prefix:
        return image
    first, _, rest = image.partition("/")
    is_host = rest and (first == "localhost" or "." in first or ":" in first)
    return f"{prefix}/{rest if is_host else image}"


def plain(image: str) -> str:
    """Its name without a digest: what docker saves and loads it by."""
    return image.partition("@")[0]


def short(image: str) -> str:
    """A name as docker shortens it: containerd writes out which registry and tag are meant."""
    name = image.removeprefix("docker.io/").removeprefix("library/")
    return name if "@" in name else name.removesuffix(":latest")


def gather(wanted: Sequence[str], tell: Tell, prefix: str = "") -> None:
    """Let the local docker have all of them, by their plain names; NeedError names what is not had.

    Ours is built, of the others those that it lacks are pulled, by their names below `prefix`.
    """
    own = images.name()
    for image in wanted:
        if image == own:
            images.build(tell)
            continue
        source = image
        if not images.present(image):
            source = named(image, prefix)
            _pull(source, tell)
        if source != plain(image):
            processes.run(["docker", "tag", source, plain(image)])


def push(wanted: Sequence[str], prefix: str, tell: Tell) -> list[str]:
    """Push what the local docker has of these names; what they are called there, below `prefix`.

    Their names there are taken from the local docker again.
    """
    pushed = []
    for image in wanted:
        there = named(image, prefix)
        had = images.present(there)
        tell(f"pushing {there}")
        processes.run(["docker", "tag", image, there])
        try:
            processes.run(["docker", "push", "--quiet", there], timeout=_PULL_SECONDS)
        except CommandError as error:
            host = prefix.partition("/")[0]
            raise NeedError(
                f"The image {there} cannot be pushed.",
                error.why,
                f"See that docker reaches the registry, and may write there: docker login {host}.",
            ) from error
        finally:
            if not had:
                processes.run(["docker", "rmi", there], check=False)
        pushed.append(there)
    return pushed


def _pull(image: str, tell: Tell) -> None:
    tell(f"pulling {image}")
    try:
        processes.run(["docker", "pull", "--quiet", image], timeout=_PULL_SECONDS)
    except CommandError as error:
        raise NeedError(
            f"The image {image} cannot be pulled.",
            error.why,
            "See that docker reaches its registry, or bring it here by hand: docker load.",
        ) from error
