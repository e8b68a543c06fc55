"""The CPUs that this process may use."""

import math
import os
from collections.abc import Iterator

from stale_runtime.system.control_groups import control_groups, read_text_if_any


def available_threads() -> int:
    """Number of CPUs that this process may use, at least 1.

    This is the number that it may run on, or what the control groups grant if that is less: containers are often
    granted the time of a few CPUs of a large machine. A part of a CPU counts as one, or it would be lost.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min((cpus, *(max(math.ceil(quota), 1) for quota in _quotas())))


def _quotas() -> Iterator[float]:
    """How many CPUs' time each control group grants that has a limit."""
    for folder, version in control_groups("cpu"):
        files = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = " ".join(read_text_if_any(folder / file) for file in files).split()
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):  # no limit is max, or -1
            quota_us, period_us = map(int, words)
            yield quota_us / period_us


def wait_passively() -> None:
    """Let threads of OpenMP that wait for others sleep instead of spinning, unless the user has decided otherwise.

    Call it before PyTorch is loaded, which reads this once. Where other programs run, too, threads that spin take the
    CPU from those that they wait for.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
