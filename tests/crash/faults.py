"""Killing a piece of code, or letting the disk fill up, at each of its file operations in turn.

The operations are found by Python's profiler as the code runs, so nothing of it has to be replaced for this.
"""

import errno
import io
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from stale_runtime.system.workspace import PREFIX

Action = Callable[[], object]
Snapshot = dict[str, bytes | None]
"""Content by path; None for a folder."""
TAKES_SPACE = {"mkdir", "write", "flush", "fsync", "rename", "replace"}
CHANGES = {*TAKES_SPACE, "open", "flock", "close", "unlink", "rmdir"}


def snapshot(folder: Path) -> Snapshot:
    """All that a folder holds, hidden things included."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


def visible(folder: Path) -> Snapshot:
    """All that a folder holds but workspaces, which nobody reads."""
    return {name: data for name, data in snapshot(folder).items() if PREFIX not in name}


def files(state: Snapshot) -> Snapshot:
    """The files of a snapshot."""
    return {name: data for name, data in state.items() if data is not None}


def killed(action: Action, before: int) -> bool:
    """Kill an action, in a process of its own, before its n-th file operation from 0; whether it got that far."""

    def kill(operation: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return _ends_by(lambda: _interrupted(action, before, CHANGES, kill), signal.SIGKILL)


def killed_in_mid_write(action: Action, at: int) -> bool:
    """Kill an action, in a process of its own, when a file reaches a size in bytes; whether one did."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (at, at))
        action()

    return _ends_by(limited, signal.SIGXFSZ)


def disk_full(action: Action, at: int) -> OSError | None:
    """Let the n-th file operation of an action that takes space fail once; None if it got through without."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    happened = []

    def fail(operation: str) -> None:
        happened.append(operation)
        raise full

    try:
        _interrupted(action, at, TAKES_SPACE, fail)
    except OSError as problem:
        if problem is not full:
            raise
    return full if happened else None


def _interrupted(action: Action, at: int, operations: set[str], fault: Callable[[str], None]) -> None:
    left = at

    def watch(frame: FrameType, event: str, function: object) -> None:
        nonlocal left
        if event != "c_call" or (name := _operation(function)) not in operations:
            return
        if left == 0:
            sys.setprofile(None)
            fault(name)
        left -= 1

    sys.setprofile(watch)
    try:
        action()
    finally:
        sys.setprofile(None)


def _operation(function: object) -> str:
    """The name of a built-in function that works on files; empty for others."""
    owner = getattr(function, "__self__", None)
    of_files = getattr(function, "__module__", None) in ("posix", "fcntl") or isinstance(
        owner, io.FileIO | io.BufferedWriter
    )
    return getattr(function, "__name__", "") if of_files or function is open else ""


def _ends_by(action: Action, number: signal.Signals) -> bool:
    """Whether an action in a child ends by a signal rather than well."""
    with _forking():
        child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == number
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@contextmanager
def _forking() -> Iterator[None]:
    """Python 3.12 warns of forking beside threads, whose locks a child might wait for; ours only writes files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
