"""The kernel's own figures for what a process holds."""

import os
from pathlib import Path

_STATUS = Path("/proc/self/status")
_DESCRIPTORS = Path("/proc/self/fd")


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
