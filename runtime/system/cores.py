"""The cores that this process may use."""

import os
import sys

import psutil  # type: ignore[import-untyped]


def usable_cores() -> int:
    """Return the number of physical cores, or of those processors that this process is confined to if they are less."""
    cores = psutil.cpu_count(logical=False) or 1
    if sys.platform == "linux":
        return min(cores, len(os.sched_getaffinity(0)))
    return cores
