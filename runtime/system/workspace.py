"""A folder to make a result in before it gets its name; the next run removes those of runs that were killed."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stale_runtime.errors import OutputError

PREFIX, SUFFIX = ".stale-", ".part"
_NAME = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}" + re.escape(SUFFIX))
SET_ASIDE = "set-aside"
"""In a workspace: what goes back beside it, unless its name is taken by then."""


@contextmanager
def workspace(folder: Path | None = None) -> Iterator[Path]:
    """Make a folder inside another, for its maker alone and as long as the block runs.

    It is locked while its maker lives. An unlocked one is of a run that was killed, and removed here; on a file system
    without locks on folders none is.

    Args:
        folder: of the result, on whose file system the workspace then is; None for the system's temporary folder.

    Raises:
        OSError: it cannot be made.
        OutputError: no temporary folder can be written to.
    """
    folder = _temporary_folder() if folder is None else folder
    sweep(folder)
    path, lock = _make(folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def sweep(folder: Path) -> None:
    """Remove the workspaces that killed runs left in a folder, where that can be done."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if _NAME.fullmatch(name):
                with suppress(OSError):
                    _remove_unlocked(folder / name)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file, and wait until it would survive a power cut.

    Raises:
        OSError: it cannot be written, or is there already.
    """
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until what has a name in a folder would have it after a power cut, where the file system knows how."""
    with suppress(OSError):  # what was renamed is in place; not every file system syncs folders
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as problem:
        raise OutputError("no temporary folder can be written to; name one in TMPDIR") from problem


def _make(folder: Path) -> tuple[Path, int]:
    """A locked workspace, and the descriptor that holds the lock."""
    while True:
        path = Path(tempfile.mkdtemp(dir=folder, prefix=PREFIX, suffix=SUFFIX))
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another run swept it, not locked yet
            continue
        except OSError:
            os.rmdir(path)
            raise
        with suppress(OSError):  # no locks here, so no other run can lock it either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)


def _remove_unlocked(path: Path) -> None:
    """Remove a workspace unless its maker lives, or is another account: what that left there could lead anywhere."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid != os.geteuid():
            return
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (path / SET_ASIDE).is_dir() and not (path / SET_ASIDE).is_symlink():
            for kept in (path / SET_ASIDE).iterdir():
                if not os.path.lexists(path.parent / kept.name):
                    kept.rename(path.parent / kept.name)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
