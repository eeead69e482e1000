"""Keeps idle CPUs polling instead of halting while something is measured; `session` enters it.

A virtual CPU that halts is descheduled by its host and comes back late and cold, which is noise
in every CPU second that is measured.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEVICE = Path("/dev/cpu_dma_latency")


@contextmanager
def polling(wanted: bool = True, device: Path = DEVICE) -> Iterator[bool]:
    """Ask for a wake-up latency of 0 us within the block; yields whether the kernel took it.

    The request holds as long as the file is open (Linux, admin-guide/pm/cpuidle, "CPU latency
    QoS"), so that it ends with this process however that ends.
    """
    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC) if wanted else None
    except OSError:  # a kernel without cpuidle, or a container without the device
        descriptor = None
    try:
        yield descriptor is not None and _asked(descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _asked(descriptor: int) -> bool:
    try:
        return os.write(descriptor, struct.pack("=i", 0)) == 4
    except OSError:
        return False
