"""Swapping two names at once, where Linux and the file system can."""

import ctypes
import os
from pathlib import Path

_WORKING_FOLDER = -100
_EXCHANGE = 2


def exchange(one: Path, other: Path) -> bool:
    """Let each of two names stand for what the other did, with no moment in between.

    Args:
        one: a file or folder.
        other: another, on the same file system.

    Returns:
        Whether it is done; if not, nothing has changed.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # no Linux, or a C library without it
        return False
    names = ctypes.c_char_p(os.fsencode(one)), ctypes.c_char_p(os.fsencode(other))
    folder = ctypes.c_int(_WORKING_FOLDER)
    return bool(renameat2(folder, names[0], folder, names[1], ctypes.c_uint(_EXCHANGE)) == 0)
