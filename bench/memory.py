"""The kernel's own figure for how much memory a process has ever held."""

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_rss_mb() -> float:
    """Most resident memory that this process has held, in megabytes (10^6 bytes).

    Linux says it for the program alone (``VmHWM``); its ``ru_maxrss`` would begin with what the parent held when it
    forked.
    """
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
