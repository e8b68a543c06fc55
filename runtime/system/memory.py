"""How much memory this process may still take, and refusing what would need more."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stale_runtime.errors import OutOfMemoryError

_MEGABYTE = 2**20
NEGLIGIBLE = 4 * _MEGABYTE
"""What needs no more is not worth a look: the look itself takes some tenths of a millisecond."""
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED = 2**60
"""Cgroups write something of this size where there is no limit."""


class Available(NamedTuple):
    """Memory that may still be taken."""

    bytes: int
    limited_by: str
    """What would be exceeded first."""


def detection_bytes(*, length: int, classes: int, channels: int, heads: int) -> int:
    """About what it takes to run the network on a video and to decode its outputs.

    Measured with ONNX Runtime 1.32 from T=100 to 4096 and K=1 to 4096: 5 % below to 60 % above the true peak, and at
    most 6 MB away from it where that is small.

    Args:
        length: T, in snippets.
        classes: K
        channels: C
        heads: H
    """
    T, K, C, H = length, classes, channels, heads
    return 4 * (3 * T * T + 7 * K * T + 10 * T * C + K * H * C)


def available_memory() -> Available | None:
    """The least that any limit leaves: of the address space, the control groups, the machine; None if none is known.

    What would be given back or moved out for us counts as available: the cache of files, and swap.
    """
    return min((*_address_space(), *_control_groups(), *_machine()), default=None)


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Make sure that a computation fits in memory before any of it is taken.

    Args:
        needed: bytes, beside what this process holds already.
        what: needs them, for messages.
        remedy: what to do where there are not as many.

    Raises:
        OutOfMemoryError: there are not.
    """
    if needed <= NEGLIGIBLE:
        return
    available = available_memory()
    if available is not None and needed > available.bytes:
        raise OutOfMemoryError(
            f"{what}: needs about {needed / _MEGABYTE:,.0f} MB of memory, {available.bytes / _MEGABYTE:,.0f} MB are "
            f"left by {available.limited_by}; {remedy}"
        )


def _address_space() -> Iterator[Available]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = None if limit == resource.RLIM_INFINITY else _number(_PROC / "self" / "statm")
    if pages is not None:
        left = max(limit - pages * resource.getpagesize(), 0)
        yield Available(left // 2, "the limit on address space (ulimit -v), half of which allocators leave unused")


def _machine() -> Iterator[Available]:
    known = _fields(_PROC / "meminfo")
    if "MemAvailable:" in known:
        yield Available(1024 * (known["MemAvailable:"] + known.get("SwapFree:", 0)), "this machine")


def _control_groups() -> Iterator[Available]:
    """What the groups of this process leave, those of either version, each with the groups around it."""
    for line in _read(_PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit, usage, cached = _CGROUPS, "memory.max", "memory.current", ("inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            root, limit, usage = _CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = ("total_inactive_file", "total_active_file")
        else:
            continue
        group = Path(path.lstrip("/"))  # in a container it may not be there, but the root is, and stands for it
        for folder in (root / group, *(root / outer for outer in group.parents)):
            most, used = _number(folder / limit), _number(folder / usage)
            if most is not None and used is not None and most < _UNLIMITED:
                statistics = _fields(folder / "memory.stat")
                free = most - used + sum(statistics.get(name, 0) for name in cached)
                yield Available(max(free, 0), "the memory limit of its control group")


def _fields(path: Path) -> dict[str, int]:
    """The numbers in lines like ``MemFree:  12 kB``."""
    rows = (line.split() for line in _read(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _number(path: Path) -> int | None:
    """The number that a file begins with, if it does."""
    words = _read(path).split(maxsplit=1)
    return int(words[0]) if words and words[0].isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
