"""Refusing work that needs more memory than is left.

Only the limits of the machine and of the control groups are checked, because beyond them the kernel kills the process
without an error. Under a limit on address space (``ulimit -v``) an allocation fails as ``MemoryError``, which needs no
prediction.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stale_runtime.errors import OutOfMemoryError
from stale_runtime.system import control_groups
from stale_runtime.system.control_groups import read_number, read_text_if_any

_MEGABYTE = 2**20
NEGLIGIBLE = 64 * _MEGABYTE
"""Smaller needs are not checked: a mistake about them does no harm, and reading the limits takes time."""
_LIMIT_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}
"""Limit and usage, by version of control groups."""
_UNLIMITED = 2**60
"""Version 1 of control groups writes a number of this size if there is no limit."""


class Available(NamedTuple):
    """Memory that may still be taken."""

    bytes: int
    limited_by: str
    """What leaves no more, for messages."""


def detection_bytes(*, length: int, rows: int, classes: int, channels: int, windows: int = 1) -> int:
    """The least memory that running the network on a video and decoding its outputs takes.

    Measured with ONNX Runtime 1.32: 25 to 80 % of the true peak of ``ort-fp32``, for T from 512 to 4096 and K from 20
    to 2000.

    Args:
        length: T, in snippets.
        rows: how many rows of the masks are computed, T of them or fewer.
        classes: K
        channels: C
        windows: B, inputs of T snippets that the network gets at once; their outputs are decoded one by one.
    """
    T, P, K, C, B = length, rows, classes, channels, windows
    return 4 * (B * (2 * P * T + 2 * K * T + 4 * T * C) + K * T)


def most_detection_bytes(*, length: int, classes: int, channels: int, windows: int) -> int:
    """Far more than running the network takes, to tell a graph that asks for anything from one that is large.

    Measured with ONNX Runtime 1.32: three to six times what it needs, for T from 100 to 4096 and K up to 4096. The
    arguments are those of ``detection_bytes``, with all rows of the masks.
    """
    least = detection_bytes(length=length, rows=length, classes=classes, channels=channels, windows=windows)
    return 256 * _MEGABYTE + 4 * least


def available_memory() -> Available | None:
    """The smallest of the amounts that the machine and the control groups leave; None if nothing is known.

    The cache of files and free swap count as available.
    """
    return min((*_control_groups(), *_machine()), default=None)


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Make sure that memory for a computation is available before any of it is taken.

    Args:
        needed: the least that it takes, in bytes, so that nothing is refused that would fit.
        what: names the computation in messages.
        remedy: what to do if it is not available.

    Raises:
        OutOfMemoryError: it is not available.
    """
    if needed <= NEGLIGIBLE:
        return
    available = available_memory()
    if available is not None and needed > available.bytes:
        raise OutOfMemoryError(
            f"{what}: needs at least {needed / _MEGABYTE:,.0f} MB of memory, {available.bytes / _MEGABYTE:,.0f} MB are "
            f"left by {available.limited_by}; {remedy}"
        )


def held_bytes() -> int:
    """Memory that this process holds for itself alone; 0 if that is not known.

    Another process that opens the same files takes as much; the code of libraries is shared.
    """
    return 1024 * _read_fields(control_groups.PROC / "self" / "status").get("RssAnon:", 0)


def fitting_processes(each: int) -> tuple[int, str] | None:
    """How many processes fit into the memory that is left, and what leaves no more; None if nothing is known.

    Args:
        each: the least that one takes, in bytes.
    """
    available = available_memory()
    return None if available is None or not each else (available.bytes // each, available.limited_by)


def _machine() -> Iterator[Available]:
    known = _read_fields(control_groups.PROC / "meminfo")
    if "MemAvailable:" in known:
        yield Available(1024 * (known["MemAvailable:"] + known.get("SwapFree:", 0)), "this machine")


def _control_groups() -> Iterator[Available]:
    """What is left by the control groups of this process, of version 1 or 2, and the groups around them."""
    for folder, version in control_groups.control_groups("memory"):
        limit, usage = _LIMIT_FILES[version]
        most, used = read_number(folder / limit), read_number(folder / usage)
        if most is not None and used is not None and most < _UNLIMITED:
            counts = _read_fields(folder / "memory.stat")
            cached = sum(counts.get(f"total_{name}", counts.get(name, 0)) for name in ("active_file", "inactive_file"))
            yield Available(max(most - used + cached, 0), "the memory limit of its control group")


def _read_fields(path: Path) -> dict[str, int]:
    """The numbers in lines like ``MemFree:  12 kB``."""
    rows = (line.split() for line in read_text_if_any(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}
