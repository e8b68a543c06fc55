"""The control groups of this process, in which Linux and containers limit memory and CPUs."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class ControlGroup(NamedTuple):
    """The folder with the limits of a group."""

    folder: Path
    version: int
    """1 or 2; the files have other names."""


def control_groups(controller: str) -> Iterator[ControlGroup]:
    """The groups of this process, and the groups around them.

    Args:
        controller: what is limited, such as ``memory`` or ``cpu``.
    """
    for line in read_text_if_any(PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root, version = (GROUPS / controller, 1) if controllers else (GROUPS, 2)
        group = Path(path.lstrip("/"))  # a container may not see its group, but then the root has the limits
        for folder in (root / group, *(root / outer for outer in group.parents)):
            yield ControlGroup(folder, version)


def read_number(path: Path) -> int | None:
    """The number in a file; None if the file is missing or contains a word such as ``max``."""
    text = read_text_if_any(path).strip()
    return int(text) if text.isdecimal() else None


def read_text_if_any(path: Path) -> str:
    """The text of a file of the system; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
