"""Finding out by which recipe published features were made, from the video of one of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.segments import FloatArray
from stale_runtime.video.video_features import ImageEncoder, VideoFeatures

ROWS_A_SECOND = (5.0, 10.0)
"""Rows a second that are tried, beside the recipe's own."""
RESIZES = ("crop", "squash")
ORDERS = ("rgb", "bgr")
MOST_ROWS = 64
"""Rows that are compared in each trial, evenly spread."""
_SAME_SPACING = 0.01
"""Spacings that differ by a smaller part than this are not tried twice."""


class Trial(NamedTuple):
    """How well published features fit those by one recipe."""

    recipe: FeatureRecipe
    spread: bool
    """Whether the published rows were taken as evenly spread over the whole video, instead of a fixed time apart."""
    rows: int
    """Rows that were compared; those at the same time, published rows of zeros left out."""
    mean: float
    """Mean cosine between them; NaN if none could be compared."""
    median: float


def compare_recipes(path: Path, encoder: ImageEncoder, published: FloatArray) -> Iterator[Trial]:
    """Compute the features of a video by several recipes, and compare each with published features.

    Row r of the published features is taken as showing the time (r + 0.5) times the seconds from a row to the next, as
    in every recipe, and compared with the row of that time. Rows after the video's end are left out. They are also
    compared as if they were spread over the whole video, as features that were resampled to some length are.

    Args:
        path: the video.
        encoder: the tower; its own recipe says all that is not tried.
        published: (T0, C) features of the same video.

    Yields:
        One trial for each way of resizing, spacing and order of channels.

    Raises:
        VideoError: the video cannot be read.
        FeatureError: the tower's embeddings are no features.
    """
    own = encoder.recipe
    duration_s, T0 = VideoFeatures(path, encoder).duration_s, len(published)
    spacings = {1 / rate: False for rate in ROWS_A_SECOND}
    for spacing, spread in ((own.snippet_s, False), (duration_s / T0, True)):
        if spacing and all(abs(spacing / other - 1) > _SAME_SPACING for other in spacings):
            spacings[spacing] = spread
    both = _BothOrders(encoder)
    for resize in RESIZES:
        for spacing, spread in spacings.items():
            recipe = replace(own, resize=resize, snippet_s=spacing, channel_order=ORDERS[0], normalised=False)
            features = VideoFeatures(path, both, recipe)
            shared = min(features.snippets, T0)
            rows = np.unique(np.linspace(0, shared - 1, min(shared, MOST_ROWS)).astype(np.intp))
            computed = np.concatenate(list(features.read_rows(rows)))  # (n, 2C)
            for order, half in zip(ORDERS, np.split(computed, 2, axis=1), strict=True):
                cosines = _cosines(half, published[rows])
                tried = replace(recipe, channel_order=order, normalised=own.normalised)
                yield Trial(tried, spread, len(cosines), *_summary(cosines))


def most_trials() -> int:
    """How many trials there are at most."""
    return len(RESIZES) * len(ORDERS) * (len(ROWS_A_SECOND) + 2)


class _BothOrders:
    """A tower that sees each image twice, with its channels in both orders, so that it is decoded once."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder
        self.recipe, self.channels = encoder.recipe, 2 * encoder.channels

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images (B, S, S, 3) -> embeddings (B, 2C)."""
        orders = images, np.ascontiguousarray(images[..., ::-1])
        return np.concatenate([self._encoder.embed(ordered) for ordered in orders], axis=1)


def _cosines(computed: FloatArray, published: FloatArray) -> NDArray[np.float64]:
    a, b = computed.astype(np.float64), published.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)  # (n,)
    real = norms > 0
    return np.asarray((a * b).sum(axis=1)[real] / norms[real])


def _summary(cosines: NDArray[np.float64]) -> tuple[float, float]:
    return (float(cosines.mean()), float(np.median(cosines))) if len(cosines) else (np.nan, np.nan)
