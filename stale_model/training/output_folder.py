"""The folder that a training writes to: one training at a time, and nothing overwritten by mistake."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stale_model.training.training_files import LAST
from stale_runtime.errors import OutputError
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.workspace import workspace


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Create a folder, and lock it against other trainings until the block ends, if its file system has locks.

    Raises:
        OutputError: the folder cannot be created, or another training is using it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as problem:
        raise OutputError(f"-o {folder}: {why_unwritten(problem)}") from problem
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"-o {folder}: another stale-train is using it; wait until that ends, or give another folder"
                ) from None
        yield
    finally:
        os.close(descriptor)


def check_folder(folder: Path, *, resume: bool) -> None:
    """Make sure that files can be written to a folder, and that it contains no training unless that is resumed.

    Raises:
        OutputError: they cannot be written, or it contains one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with workspace(folder):  # writes a file, and removes what a killed run left
            pass
    except OSError as problem:
        raise OutputError(f"-o {folder}: {why_unwritten(problem)}") from problem
    if (folder / LAST).exists() and not resume:
        raise OutputError(f"-o {folder}: contains a training already; give --resume to continue it, or another folder")
