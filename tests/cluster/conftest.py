"""One engine for all tests of clusters; without its images they are skipped, which CI forbids."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import engine, images, programs
from tests.cluster.engine import Engine


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """A docker daemon that has kind's node image and those of the product; gone at the end."""
    if os.geteuid() != 0:
        pytest.skip("root is needed for a docker daemon")
    if not os.environ.get("HARNESS_CLUSTER"):
        pytest.skip("`make test-cluster` builds and runs it: half an hour the first time")
    images.main()
    with (
        tempfile.TemporaryDirectory(prefix="harness-engine-") as folder,
        engine.running(Path(folder)) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def helm() -> str:
    """Where helm is."""
    place = programs.folder("helm") / "helm"
    if not place.exists():
        pytest.skip("helm is not in the cache: `make test-cluster` builds it")
    return str(place)
