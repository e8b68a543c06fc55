"""What the decoding process takes from itself before it looks at an untrusted file."""

import contextlib
import importlib
import pkgutil
import resource
from typing import Final

DECODER_MEMORY: Final = 3_221_225_472
"""Bytes of address space, enough for the sixteen frames that an 8K decoder with ten bits a colour keeps."""
OPENING_CPU_S: Final = 60
"""Seconds of CPU time until the packets are listed."""
_CPU_S_PER_MEGAPIXEL = 0.2


def load_all_modules(package: str) -> None:
    """Import every module of a package, because none can be loaded once no file can be opened."""
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def confine(*, threads: int) -> None:
    """Give up, for good, opening files and sockets, writing files, starting processes, and most memory.

    What is open stays open: the video and the pipes. Only threads that the decoder itself starts need NPROC.

    Args:
        threads: of the decoder.
    """
    _limit(resource.RLIMIT_AS, DECODER_MEMORY)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    if threads == 1:
        _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_NOFILE, 0)
    _limit_cpu(OPENING_CPU_S)


def allow_decoding(*, frames: int, pixels: int) -> None:
    """Allow as much CPU time as decoding and resizing takes on a slow machine, and no more.

    Args:
        frames: that are decoded or resized.
        pixels: width times height of a frame.
    """
    _limit_cpu(OPENING_CPU_S + int(frames * pixels / 1e6 * _CPU_S_PER_MEGAPIXEL))


def _limit(kind: int, most: int) -> None:
    """Lower a limit, if it is not lower already, so that it cannot be raised again."""
    with contextlib.suppress(ValueError, OSError):  # not all systems have all of them
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _limit_cpu(seconds: int) -> None:
    """The limit at which the process ends; it is raised once it is known how much there is to do."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        allowed = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, hard))
