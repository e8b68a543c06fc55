"""A folder whose files are opened once, and can be read even after they were renamed or removed."""

import os
import stat
import weakref
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_PIECE = 2**20


class HeldFolder:
    """An open folder, and the files in it that were opened with ``hold``.

    Everything is closed by ``close``, or when nothing refers to the object any more. Threads may read at the same time.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder, and no file yet.

        Raises:
            OSError: it does not exist, or is not a folder.
        """
        self._path = path
        self._folder = os.open(path, _FOLDER)
        self._files: dict[str, int] = {}
        self.close = weakref.finalize(self, _close, self._folder, self._files)

    def names(self) -> set[str]:
        """The names of everything in the folder.

        Raises:
            OSError: it cannot be listed.
        """
        return set(os.listdir(self._folder))

    def hold(self, name: str) -> int | None:
        """Open a regular file.

        Returns:
            Its size in bytes; None for a link, a folder, a pipe or a device, which is not opened.

        Raises:
            OSError: it does not exist, or may not be read.
        """
        if not stat.S_ISREG(os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_mode):
            return None  # because opening a device can have side effects
        self._files[name] = os.open(name, _FILE, dir_fd=self._folder)
        status = os.fstat(self._files[name])  # the file may have been replaced since it was checked
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def pieces(self, name: str, size: int, *, piece: int = _PIECE) -> Iterator[bytes]:
        """The first ``size`` bytes of a held file, or all of it if it is shorter, piece by piece.

        Raises:
            OSError: it cannot be read, or is not open.
        """
        if name not in self._files:
            raise OSError("not open, or closed again")
        at = 0
        while at < size and (data := os.pread(self._files[name], min(piece, size - at), at)):
            yield data
            at += len(data)

    def read(self, name: str, size: int) -> bytes:
        """Like ``pieces``, as one bytes object."""
        return b"".join(self.pieces(name, size, piece=size))  # usually one piece, which is then not copied

    def was_replaced(self) -> bool:
        """Whether the path now leads to another folder, or to none."""
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._folder))
        except OSError:
            return True


def _close(folder: int, files: dict[str, int]) -> None:
    for descriptor in (*files.values(), folder):
        os.close(descriptor)
    files.clear()
