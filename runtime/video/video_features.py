"""The snippet features of a video, computed while it is decoded."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError, VideoError
from stale_runtime.inputs.features import rows_read
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.video.video_reader import probe_video, read_video

Rows = NDArray[np.float16]
"""Snippet features (n, C), rounded as ``stale-features`` writes them: so a video gives what its feature file gives."""
ROWS_AT_ONCE = 64
"""Rows of a block of features."""


class ImageEncoder(Protocol):
    """A vision tower that is ready to run."""

    @property
    def recipe(self) -> FeatureRecipe:
        """How its images are made, and rows from its embeddings; usable."""
        ...

    @property
    def channels(self) -> int:
        """C, the width of an embedding."""
        ...

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images (B, S, S, 3) -> embeddings (B, C)."""
        ...


Watch = Callable[[Iterable[Rows], int], Iterable[Rows]]
"""Blocks of features and their number -> the same blocks, for showing how far the work is."""


class VideoFeatures:
    """The snippet features of one video. Nothing but its header is read before they are asked for."""

    def __init__(
        self, path: str | os.PathLike[str], encoder: ImageEncoder, recipe: FeatureRecipe | None = None
    ) -> None:
        """Look at a video's header.

        Args:
            path: a video file.
            encoder: computes the features.
            recipe: how frames become images, and embeddings rows; None for the encoder's own.

        Raises:
            VideoError: the file cannot be read, or is not a video.
        """
        self.path = Path(path)
        self._encoder = encoder
        self._recipe = recipe or encoder.recipe
        self.duration_s = probe_video(self.path).duration_s
        self.channels = encoder.channels
        self.snippets = self._recipe.row_count(self.duration_s)
        """T0, the rows of features that the video has."""

    @property
    def block_count(self) -> int:
        """How many blocks there are."""
        return -(-self.snippets // ROWS_AT_ONCE)

    def blocks(self) -> Iterator[Rows]:
        """All features, block by block; memory is taken for one of them.

        Yields:
            (n, C) consecutive pieces.

        Raises:
            VideoError: the video cannot be decoded.
            FeatureError: the tower's embeddings are no features.
        """
        return self._blocks_of(None, self.snippets)

    def read_resampled(self, length: int, watch: Watch | None = None) -> Rows:
        """The features of a video that is to be resampled: only the rows that resampling reads are computed.

        Args:
            length: T that they will be resampled to.
            watch: gets the computed blocks.

        Returns:
            (T0, C), zero in the rows that ``rows_read`` does not name.

        Raises:
            VideoError, FeatureError: as for ``blocks``.
        """
        rows = rows_read(self.snippets, length, self.channels)
        features = np.zeros((self.snippets, self.channels), np.float16)  # takes memory only where it is written
        blocks: Iterable[Rows] = self.read_rows(rows)
        if watch is not None:
            blocks = watch(blocks, -(-len(rows) // ROWS_AT_ONCE))
        done = 0
        for block in blocks:
            features[rows[done : done + len(block)]] = block
            done += len(block)
        return features

    def read_rows(self, rows: NDArray[np.intp]) -> Iterator[Rows]:
        """The features of some rows, block by block.

        Args:
            rows: indices, ascending.

        Yields:
            (n, C) consecutive pieces.

        Raises:
            VideoError, FeatureError: as for ``blocks``.
        """
        return self._blocks_of(rows, len(rows))

    def _blocks_of(self, rows: NDArray[np.intp] | None, count: int) -> Iterator[Rows]:
        """The features of some rows, ascending, or of all: ``count`` of them."""
        embeddings = self._embeddings(rows)
        for start in range(0, count, ROWS_AT_ONCE):
            size = min(ROWS_AT_ONCE, count - start)
            yield self._round(np.stack([self._mean(embeddings) for _ in range(size)]), start)

    def _embeddings(self, rows: NDArray[np.intp] | None) -> Iterator[NDArray[np.float32]]:
        """The embedding (C,) of each frame of some rows, or of all.

        An int8 tower finds the range of what it quantizes in all images that it gets at once. It gets one, so that no
        row depends on which others are computed.
        """
        for images in read_video(self.path, self._recipe, rows=rows):
            for image in images:
                yield self._encoder.embed(image[None])[0]

    def _mean(self, embeddings: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The mean embedding (C,) of the frames of the next row."""
        frames = list(islice(embeddings, self._recipe.frames or 1))
        if not frames:
            raise VideoError(f"{self.path}: it ends before its header says so; copy it again, or convert it")
        return np.asarray(np.mean(frames, axis=0))

    def _round(self, vectors: NDArray[np.float32], start: int) -> Rows:
        """Make features from the mean embeddings (n, C) of the rows from ``start`` on, and check them."""
        with np.errstate(all="ignore"):
            if self._recipe.normalised:
                vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            rounded = vectors.astype(np.float16)
        finite = np.isfinite(rounded).all(axis=1)
        if not finite.all():
            raise FeatureError(
                f"{self.path}: the vision tower's embedding of row {start + int(finite.argmin())} is NaN, infinite or "
                "beyond float16; take the tower that its recipe is about, or ask whoever made it"
            )
        return rounded
