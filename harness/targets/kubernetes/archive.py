"""One file with all that a roll-out needs where nothing can be pulled: read, checked and loaded.

`packing` writes it; `rollout` takes images from it, `production` charts, too. It is a plain tar, so
that a part is found without reading the others: the images as `docker save` writes them, packed, in
two parts (those of the stack, that of kind's nodes), charts, their values, and at the end what it
holds, so that half a file is told from a whole one. Images are streamed: no copy of them is kept in
memory or on disk.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import CommandError, InputError, NeedError
from harness.linux import processes
from harness.stack.config.description import KEEPS
from harness.targets.kubernetes import charts, dashboards, helm, images, keepers, registry, values
from harness.targets.kubernetes.images import Nodes

FORMAT = 1
TRIAL, PRODUCTION = "poc", "production"
"""The profiles: what is in a bundle of one is of no use to the other."""
STACK, NODE, CONTENT = "images.tar.gz", "kind-node.tar.gz", "bundle.json"
END_SECONDS = 900.0
"""For a program to end after its last byte: a node may still unpack."""
CHUNK_BYTES = 1 << 20

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Image:
    """An image by its name, docker's id of it, its digests in registries, and its size unpacked."""

    name: str
    id: str
    digests: list[str]
    size_bytes: int


@dataclass(frozen=True)
class Content:
    """What is packed, but for the images themselves: their `names`, and `files` by their names.

    `values` are RELEASE=NAME of those files that a person gave.
    """

    profile: str
    fingerprint: str
    names: Sequence[str]
    files: Mapping[str, bytes]
    values: Sequence[str] = ()


@dataclass(frozen=True)
class Archive:
    """What a file holds; `fingerprint` is of chart and values, `node` the image of kind's nodes.

    `profile` is what it is for, `files` are the sums of what is in it besides images, `values`
    RELEASE=NAME of those of them that a person gave.
    """

    file: Path
    version: str
    fingerprint: str
    images: list[Image]
    node: Image | None
    profile: str = TRIAL
    files: Mapping[str, str] = field(default_factory=dict)
    values: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """The stack's images."""
        return [image.name for image in self.images]

    def require(self, profile: str = TRIAL) -> None:
        """InputError unless this very code wrote it for this profile.

        NeedError if it lacks one of its images.
        """
        if self.profile != profile:
            raise InputError(
                f"{self.file} was written for the profile {self.profile}, not for {profile}.",
                "The two have other charts and other images.",
                f"Write one for it: harness bundle FILE --profile {profile}.",
            )
        own, needed = self._own()
        if (self.version, self.fingerprint) != (__version__, own):
            raise InputError(
                f"{self.file} was written by harness {self.version} ({self.fingerprint}), "
                f"this is harness {__version__} ({own}).",
                "Its images and its chart go with the code and the built parts that wrote it.",
                "Write it anew with this code (harness bundle FILE), or bring the folder that "
                "wrote it here, with bpf/.output and workloads/ as they are there.",
            )
        if lacking := [name for name in needed if name not in self.names]:
            raise NeedError(
                f"{self.file} lacks {', '.join(lacking)}.",
                next_step="Write it anew: harness bundle FILE.",
            )

    def _own(self) -> tuple[str, list[str]]:
        """The fingerprint that this code would give it, and images that it must have."""
        if self.profile == PRODUCTION:
            return charts.whole(images.name()), [images.name()]
        keeps = keepers.settled(keepers.carried(self.names))
        given = own_values(grafana=dashboards.image() in self.names, keeps=keeps)
        return helm.fingerprint(given), values.images(given)

    def unpack(self, into: Path) -> list[str]:
        """Put charts and a person's values into a folder; RELEASE=FILE of those values there.

        InputError unless they are as they were packed.
        """
        wanted = [name for name in self.files if name.endswith(".tgz")]
        given = [each.split("=", 1) for each in self.values]
        try:
            with tarfile.open(self.file, "r:") as outer:
                for name in [*wanted, *(name for _, name in given)]:
                    part = outer.extractfile(name)
                    content = part.read() if part else b""
                    if hashlib.sha256(content).hexdigest() != self.files[name]:
                        raise ValueError(f"{name} is not as it was packed")
                    (into / Path(name).name).write_bytes(content)
        except (KeyError, ValueError, tarfile.TarError) as error:
            raise _not_whole(self.file, error) from error
        return [f"{release}={into / Path(name).name}" for release, name in given]

    def node_image(self, asked: str = "") -> str:
        """The name of the image for a new cluster's nodes; an error unless it is in here.

        `asked` is what a person named; empty for whatever is there.
        """
        if self.node is None:
            raise NeedError(
                f"{self.file} has no image for the nodes of a new cluster.",
                "Only who writes it knows which one: kind's release notes name it.",
                "Write it anew: harness bundle FILE --image IMAGE.",
            )
        if registry.plain(asked) not in ("", self.node.name):
            raise InputError(
                f"{self.file} has no image {asked}.",
                f"That of kind's nodes in it is {self.node.name}.",
                "Leave --image out.",
            )
        return self.node.name

    def load_node_image(self, tell: Tell) -> None:
        """Let the local docker have the image of kind's nodes, from which kind makes them."""
        if self.node is not None and images.identity(self.node.name) != self.node.id:
            tell(f"loading {self.node.name} from {self.file.name}")
            self._feed(NODE, ["docker", "load", "--quiet"])

    def load(self, tell: Tell) -> None:
        """Let the local docker have the stack's images."""
        if any(images.identity(image.name) != image.id for image in self.images):
            tell(f"loading {len(self.images)} images from {self.file.name}")
            self._feed(STACK, ["docker", "load", "--quiet"])

    def load_into(self, own: Nodes, tell: Tell) -> None:
        """Let each node of ours have the stack's images, one after the other."""
        for node in own.nodes_without(self.names):
            tell(f"loading {len(self.images)} images from {self.file.name} into {node}")
            self._feed(STACK, own.taking(node))
        if left := own.nodes_without(self.names):  # they would be pulled, or be missed by pods
            raise CommandError(
                f"{', '.join(left)} did not take all images of {self.file}.",
                next_step="See what is there: docker exec NODE ctr --namespace=k8s.io images ls.",
            )

    def _feed(self, part: str, argv: Sequence[str]) -> None:
        """Let a program read one part, unpacked."""
        with tempfile.TemporaryDirectory(prefix="harness-bundle-") as folder:
            process = processes.connect(argv, log=Path(folder) / "log")
            assert process.stdin is not None
            try:
                with self._unpacked(part) as source:
                    _pour(source, process.stdin.fileno())
                process.stdin.close()
                code = processes.ended(process, END_SECONDS)
            except BaseException as error:
                processes.stop(process)
                if isinstance(error, (OSError, EOFError, KeyError, zlib.error, tarfile.TarError)):
                    raise _not_whole(self.file, error) from error
                raise
            require_done(argv, code, process.log)

    @contextlib.contextmanager
    def _unpacked(self, part: str) -> Iterator[gzip.GzipFile]:
        with tarfile.open(self.file, "r:") as outer:
            packed = outer.extractfile(part)
            with gzip.GzipFile(fileobj=packed, mode="rb") as stream:
                yield stream


def read(file: Path) -> Archive:
    """What it holds; InputError if it cannot be read, is none or not whole."""
    try:
        with tarfile.open(file, "r:") as outer:
            content = outer.extractfile(CONTENT)
            told = json.loads(content.read() if content else b"")
        if told["format"] != FORMAT:
            raise InputError(
                f"{file} is a bundle of another format ({told['format']}, not {FORMAT}).",
                next_step="Write it anew with this code: harness bundle FILE.",
            )
        found = [Image(**each) for each in told["images"]]
        node = Image(**told["node"]) if told["node"] else None
        more = {key: told[key] for key in ("profile", "files", "values") if key in told}
        return Archive(file, told["version"], told["fingerprint"], found, node, **more)
    except FileNotFoundError:
        raise InputError(
            f"There is no {file}.",
            next_step="Write it where images can be pulled: harness bundle FILE.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise _not_whole(file, error) from error


def own_values(*, grafana: bool = False, keeps: Mapping[str, str] = KEEPS) -> dict[str, Any]:
    """The chart's values for a cluster of no particular name: of one code they are the same."""
    return values.values(values.stack("bundle", grafana=grafana, keeps=keeps), images.name())


def require_done(argv: Sequence[str], code: int, log: Path) -> None:
    """CommandError with a program's last words unless it ended well."""
    if code:
        raise CommandError(
            f"`{' '.join(argv)}` failed ({code}).",
            " ".join(processes.last_words(log)),
            "See that docker's daemon answers, and that there is room on its disk.",
        )


def _pour(source: gzip.GzipFile, sink: int) -> None:
    """All of it, or as much as the reader wants: its exit code says whether that is well."""
    with contextlib.suppress(BrokenPipeError):
        while chunk := memoryview(source.read(CHUNK_BYTES)):
            while chunk:
                chunk = chunk[os.write(sink, chunk) :]


def _not_whole(file: Path, error: BaseException) -> InputError:
    return InputError(
        f"{file} is no whole bundle.",
        f"It cannot be read: {error}.",
        "Copy it again, or write it anew: harness bundle FILE.",
    )
