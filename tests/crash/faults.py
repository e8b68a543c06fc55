"""Kill a piece of code, or let the disk be full, at each of its file operations in turn.

Python's profiler reports the operations as the code runs, so nothing in the code has to be replaced.
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
    """Everything in a folder, hidden files included."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


def visible(folder: Path) -> Snapshot:
    """Everything in a folder except workspaces, which nobody reads."""
    return {name: data for name, data in snapshot(folder).items() if PREFIX not in name}


def files(state: Snapshot) -> Snapshot:
    """The files of a snapshot."""
    return {name: data for name, data in state.items() if data is not None}


def killed(action: Action, before: int) -> bool:
    """Kill an action, in a child process, before its n-th file operation, counted from 0.

    Returns:
        Whether the action got that far; if not, it has run to its end.
    """

    def kill(_: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return _is_ended_by(lambda: _run_with_fault(action, before, CHANGES, kill), signal.SIGKILL)


def killed_in_mid_write(action: Action, at: int) -> bool:
    """Kill an action, in a child process, when a file reaches a size in bytes; return whether one did."""

    def run_limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (at, at))
        action()

    return _is_ended_by(run_limited, signal.SIGXFSZ)


def disk_full(action: Action, at: int) -> OSError | None:
    """Let the n-th file operation that takes space fail, as on a full disk.

    Returns:
        The error that the action ended with, or None if it has fewer such operations.
    """
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    happened = []

    def fail(operation: str) -> None:
        happened.append(operation)
        raise full

    try:
        _run_with_fault(action, at, TAKES_SPACE, fail)
    except OSError as problem:
        if problem is not full:
            raise
    return full if happened else None


def _run_with_fault(action: Action, at: int, operations: set[str], fault: Callable[[str], None]) -> None:
    """Run an action, and call ``fault`` in place of its n-th operation of some kinds."""
    left = at

    def watch(_: FrameType, event: str, function: object) -> None:
        nonlocal left
        if event != "c_call" or (name := _operation_name(function)) not in operations:
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


def _operation_name(function: object) -> str:
    """The name of a built-in function that works on files; an empty string for other functions."""
    owner = getattr(function, "__self__", None)
    of_files = getattr(function, "__module__", None) in ("posix", "fcntl") or isinstance(
        owner, io.FileIO | io.BufferedWriter
    )
    return getattr(function, "__name__", "") if of_files or function is open else ""


def _is_ended_by(action: Action, number: signal.Signals) -> bool:
    """Run an action in a child process; return whether this signal ended it, rather than its own end."""
    with _fork_warnings_ignored():
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
def _fork_warnings_ignored() -> Iterator[None]:
    """Python 3.12 warns that a forked child may wait for a thread's lock forever; ours only writes files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
