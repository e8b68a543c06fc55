"""Encoded prompts on disk, so that each text encoder encodes a text only once."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import PromptError
from stale_runtime.system.files import read_bytes
from stale_runtime.system.workspace import workspace

_DIGEST = hashlib.sha256().digest_size


def default_cache_folder() -> Path | None:
    """``$STALE_CACHE``, else ``stale-edge`` in the user's cache folder, or None for a user without a home."""
    given = os.environ.get("STALE_CACHE")
    if given:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stale-edge"
    except RuntimeError:
        return None


class PromptCache:
    """Vectors by text for one text encoder, each in a file of its own.

    Damaged files and files of other users count as absent, and write failures are ignored. A folder that other users
    may write to is not used at all. Root is trusted, because it can do anything anyway.
    """

    def __init__(self, folder: Path, *, encoder: str, width: int) -> None:
        """Use a cache folder, which the first write creates.

        Args:
            folder: shared by all encoders.
            encoder: hash of everything that a vector depends on, except its text.
            width: numbers in a vector.
        """
        self._root, self._folder = folder, folder / encoder[:32]
        self._bytes = 4 * width

    @property
    def problem(self) -> str | None:
        """Why the folder is not used; None if it is, or if there is none yet."""
        for folder in (self._root, self._folder):
            try:
                status = folder.stat()
            except OSError:  # it is created by the first write, or cannot be used anyway
                continue
            if not _is_trusted(status):
                return f"prompt cache {folder}: user {status.st_uid} owns it, so it is not used; give another --cache"
            if _is_open(status):
                return f"prompt cache {folder}: other users may write to it, so it is not used; chmod go-w {folder}"
        return None

    def get(self, text: str) -> NDArray[np.float32] | None:
        """The vector (width,) of a text, or None if it is absent."""
        if self.problem is not None:
            return None
        try:
            status = self._path(text).stat()
            if not _is_trusted(status) or _is_open(status):
                return None
            data = read_bytes(self._path(text), limit=_DIGEST + self._bytes, error=PromptError)
        except (PromptError, OSError):
            return None
        digest, vector = data[:_DIGEST], data[_DIGEST:]
        if len(vector) != self._bytes or digest != hashlib.sha256(vector).digest():
            return None
        values = np.frombuffer(vector, dtype="<f4").astype(np.float32)
        return values if np.isfinite(values).all() else None

    def put(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Write the vectors (N, width) of N texts, up to the first that cannot be written."""
        if self.problem is not None:
            return
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with workspace(self._folder) as space:
                for text, vector in zip(texts, vectors, strict=True):
                    self._put(text, vector, space / "vector")
        except OSError:
            return

    def _put(self, text: str, vector: NDArray[np.float32], temporary: Path) -> None:
        data = vector.astype("<f4").tobytes()
        # Not synced, because a file torn by a power cut counts as absent.
        temporary.touch(0o600)
        temporary.write_bytes(hashlib.sha256(data).digest() + data)
        temporary.replace(self._path(text))

    def _path(self, text: str) -> Path:
        return self._folder / hashlib.sha256(text.encode()).hexdigest()


def _is_trusted(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user or to root."""
    return status.st_uid in (0, os.geteuid())


def _is_open(status: os.stat_result) -> bool:
    """Whether others may write to a file or folder."""
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
