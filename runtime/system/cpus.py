"""The CPUs that this process may use."""

import os


def available_threads() -> int:
    """Number of CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wait_passively() -> None:
    """Let threads of OpenMP that wait for others sleep instead of spinning, unless the user has decided otherwise.

    Call it before PyTorch is loaded, which reads this once. Where other programs run, too, threads that spin take the
    CPU from those that they wait for.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
