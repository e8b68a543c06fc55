"""Prompt embeddings on disk, so that a text is encoded once by each text encoder."""

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import PromptError
from stale_runtime.files import read_bytes, write_whole

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
    """Embeddings by text for one text encoder, each in a file of its own.

    A file that is damaged counts as absent, and one that cannot be written is done without.
    """

    def __init__(self, folder: Path, *, encoder: str, channels: int) -> None:
        """Use (and on the first write make) a cache folder.

        Args:
            folder: shared by all encoders.
            encoder: hash of everything that an embedding depends on beside the text.
            channels: C, the width of an embedding.
        """
        self._folder = folder / encoder[:32]
        self._bytes = 4 * channels

    def get(self, text: str) -> NDArray[np.float32] | None:
        """The embedding (C,) of a text, or None if it is not there."""
        try:
            data = read_bytes(self._path(text), limit=_DIGEST + self._bytes, error=PromptError)
        except PromptError:
            return None
        digest, embedding = data[:_DIGEST], data[_DIGEST:]
        if len(embedding) != self._bytes or digest != hashlib.sha256(embedding).digest():
            return None
        return np.frombuffer(embedding, dtype="<f4").astype(np.float32)

    def put(self, text: str, embedding: NDArray[np.float32]) -> None:
        """Keep the embedding (C,) of a text, if the disk lets us."""
        data = embedding.astype("<f4").tobytes()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path(text), hashlib.sha256(data).digest() + data)
        except OSError:
            return

    def _path(self, text: str) -> Path:
        return self._folder / hashlib.sha256(text.encode()).hexdigest()
