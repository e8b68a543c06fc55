"""Temporary folders in which results are made before they are renamed; leftovers of killed runs are removed."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stale_runtime.errors import OutputError

PREFIX, SUFFIX = ".stale-", ".part"
_NAME = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}" + re.escape(SUFFIX))


@contextmanager
def workspace(folder: Path | None = None) -> Iterator[Path]:
    """Make a temporary folder inside another folder, and remove it when the block ends.

    It is locked as long as its process lives. Workspaces that are not locked were left by killed runs, and are removed
    first; on a file system without locks on folders they stay.

    Args:
        folder: the result's folder, so that the workspace is on the same file system; None for the system's temporary
            folder.

    Raises:
        OSError: it cannot be created.
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
    """Remove the workspaces that killed runs left in a folder; errors are ignored."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if _NAME.fullmatch(name):
                with suppress(OSError):
                    _remove_unlocked(folder / name)


def write_durably(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a new file, and wait until it would survive a power cut.

    Args:
        path: the file.
        data: its content, which may come in pieces.

    Raises:
        OSError: it cannot be written, or exists already.
    """
    with open(path, "xb") as file:
        file.writelines((data,) if isinstance(data, bytes) else data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder would survive a power cut."""
    with suppress(OSError):  # not every file system can sync a folder, and the files are in place anyway
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _temporary_folder() -> Path:
    import tempfile  # only who makes a folder needs it

    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as problem:
        raise OutputError("no temporary folder can be written to; name one in TMPDIR") from problem


def _make(folder: Path) -> tuple[Path, int]:
    """Make a locked workspace; return it and the descriptor that holds the lock."""
    import tempfile

    while True:
        path = Path(tempfile.mkdtemp(dir=folder, prefix=PREFIX, suffix=SUFFIX))
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another run removed it before it was locked
            continue
        except OSError:
            os.rmdir(path)
            raise
        with suppress(OSError):  # a file system without locks, where no other run removes it
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)


def _remove_unlocked(path: Path) -> None:
    """Remove a workspace unless its process lives, or it belongs to another account."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid != os.geteuid():
            return
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
