"""Swapping two names in one step, if Linux and the file system support it."""

import ctypes
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: Path, other: Path) -> bool:
    """Swap the names of two files or folders in one step.

    Python has no function for this, and two renames leave a moment without a bundle, in which runs fail.

    Returns:
        Whether it was done; if not, nothing has changed.
    """
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:  # not Linux, or an old C library
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
