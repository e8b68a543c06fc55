"""The kernel's own figures for what a process holds."""

import os
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_DESCRIPTORS = Path("/proc/self/fd")


def peak_rss_mb() -> float:
    """Most resident memory that this process has held, in megabytes (10^6 bytes).

    Linux says it for the program alone (``VmHWM``); its ``ru_maxrss`` would begin with what the parent held when it
    forked.
    """
    peak = _status_mb("VmHWM")
    if peak is not None:
        return peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def rss_mb() -> float:
    """Resident memory that this process holds now, in megabytes (10^6 bytes).

    Raises:
        OSError: this system does not say.
    """
    held = _status_mb("VmRSS")
    if held is None:
        raise OSError(f"{_STATUS} does not say what memory this process holds")
    return held


def open_descriptors() -> int:
    """Files, pipes and sockets that this process holds open.

    Raises:
        OSError: this system does not say.
    """
    return len(os.listdir(_DESCRIPTORS)) - 1  # one is for the listing itself


def _status_mb(field: str) -> float | None:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None
