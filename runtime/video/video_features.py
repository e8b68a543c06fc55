"""The snippet features of a video, computed while it is decoded."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError, RecipeError, VideoError
from stale_runtime.evidence import PosterFrame
from stale_runtime.inputs.features import rows_read
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.video.poster_frames import PosterMaker
from stale_runtime.video.video_reader import probe_video, read_video
from stale_runtime.video.vision_encoder import average_frames

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
        """Images (B, S, S, 3) -> embeddings (B, C), the same for an image in any batch."""
        ...


Watch = Callable[[Iterable[Rows], int], Iterable[Rows]]
"""Blocks of features and their number -> the same blocks, for showing how far the work is."""


class VideoFeatures:
    """The snippet features of one video. Nothing but its header is read before they are asked for."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        encoder: ImageEncoder,
        recipe: FeatureRecipe | None = None,
        *,
        poster: bool = False,
    ) -> None:
        """Look at a video's header.

        Args:
            path: a video file.
            encoder: computes the features.
            recipe: how frames become images, and embeddings rows; None for the encoder's own.
            poster: whether to make ``poster``.

        Raises:
            VideoError: the file cannot be read, or is not a video.
            RecipeError: the recipe does not say all that is needed.
        """
        self.path = Path(path)
        self._encoder = encoder
        self._recipe = recipe or encoder.recipe
        require_usable(self._recipe)
        self._properties = probe_video(self.path)
        self._damaged_frames = 0
        self._has_poster = poster
        self.poster: tuple[PosterFrame, ...] = ()
        """Small pictures of some of the frames that the features are computed from, once those have been read."""
        self.duration_s = self._properties.duration_s
        self.channels = encoder.channels
        self.snippets = self._recipe.row_count(self.duration_s)
        """T0, the rows of features that the video has."""

    @property
    def block_count(self) -> int:
        """How many blocks there are."""
        return -(-self.snippets // ROWS_AT_ONCE)

    @property
    def damage(self) -> str | None:
        """What is damaged in the video, as far as it is known after reading; None if nothing is."""
        found = []
        if self._damaged_frames:
            found.append(f"{self._damaged_frames:,} of its frames are damaged")
        if self._properties.missing_s:
            found.append(f"its last {self._properties.missing_s:.1f} s are missing")
        return " and ".join(found) or None

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
            yield self._round(np.concatenate([self._next_row(embeddings) for _ in range(size)]), start)
        next(embeddings, None)  # what is damaged is known at the end

    def _embeddings(self, rows: NDArray[np.intp] | None) -> Iterator[NDArray[np.float32]]:
        """The embedding (C,) of each frame of some rows, or of all."""
        with read_video(self.path, self._recipe, rows=rows) as frames:
            maker = None
            if self._has_poster:
                maker = PosterMaker(self._recipe, frames.properties, range(frames.rows) if rows is None else rows)
            for images in frames:
                if maker is not None:
                    maker.take(images)
                    self.poster = maker.frames
                yield from self._encoder.embed(images)
            self._damaged_frames = frames.damaged_frames

    def _next_row(self, embeddings: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
        """A row (1, C) of the embeddings of its frames."""
        frames = list(islice(embeddings, self._recipe.frames))
        if len(frames) != self._recipe.frames:
            raise VideoError(f"{self.path}: it ends before its header says so; copy it again, or convert it")
        return average_frames(np.stack(frames), self._recipe)

    def _round(self, vectors: NDArray[np.float32], start: int) -> Rows:
        """The rows (n, C) from ``start`` on, rounded and checked."""
        with np.errstate(over="ignore"):
            rounded = vectors.astype(np.float16)
        finite = np.isfinite(rounded).all(axis=1)
        if not finite.all():
            raise FeatureError(
                f"{self.path}: the embedding of row {start + int(finite.argmin())} is beyond float16, which ends at "
                "65,504; CLIP's are far smaller, so take another vision tower"
            )
        return rounded


def require_usable(recipe: FeatureRecipe) -> None:
    """Make sure that a recipe says all that computing features needs.

    Raises:
        RecipeError: it does not.
    """
    if recipe.missing:
        raise RecipeError(
            f"the recipe of the vision tower does not say {', '.join(recipe.missing)}; ask whoever made the bundle or "
            "the tower, or compute the features as those of the training were and give .npy files"
        )
