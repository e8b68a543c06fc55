"""A folder's files, opened once: what is read is what was there then, whatever is renamed or removed since."""

import os
import stat
import weakref
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_PIECE = 2**20


class HeldFolder:
    """An open folder, and those of its files that were opened.

    All is closed by ``close``, or when nobody refers to it any more. Several threads may read at the same time.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder, and no file yet.

        Raises:
            OSError: it is not there, or no folder.
        """
        self._path = path
        self._folder = os.open(path, _FOLDER)
        self._files: dict[str, int] = {}
        self.close = weakref.finalize(self, _close, self._folder, self._files)

    def names(self) -> set[str]:
        """All that the folder holds.

        Raises:
            OSError: it cannot be listed.
        """
        return set(os.listdir(self._folder))

    def hold(self, name: str) -> int | None:
        """Open a plain file.

        Returns:
            Its size in bytes; None for a link, a folder, a pipe or a device, which are not opened.

        Raises:
            OSError: it is not there, or may not be read.
        """
        if not stat.S_ISREG(os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_mode):
            return None
        self._files[name] = os.open(name, _FILE, dir_fd=self._folder)
        status = os.fstat(self._files[name])  # what was opened may be another than what was looked at
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def pieces(self, name: str, size: int, *, piece: int = _PIECE) -> Iterator[bytes]:
        """The first ``size`` bytes of a file that is held, or all that it has, piece by piece.

        Raises:
            OSError: it cannot be read, or is not held, or no longer.
        """
        if name not in self._files:
            raise OSError("not open, or no longer")
        at = 0
        while at < size and (data := os.pread(self._files[name], min(piece, size - at), at)):
            yield data
            at += len(data)

    def read(self, name: str, size: int) -> bytes:
        """The same at once."""
        parts = list(self.pieces(name, size, piece=size))
        return parts[0] if len(parts) == 1 else b"".join(parts)

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
