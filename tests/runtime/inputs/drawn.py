"""Drawn features like CLIP's: all share a direction, each video has its own scene, and rows are about 10 long."""

import numpy as np
from numpy.typing import NDArray

from stale_runtime.inputs.feature_statistics import FeatureStatistics, summarise_features

Array = NDArray[np.float32]
COMMON = 0.8
NOISE = 0.5
"""Lengths of what all images share, and of what a video and a snippet add."""


def draw_video(seed: int, *, snippets: int = 60, channels: int = 512) -> Array:
    """(snippets, channels) of one video."""
    base = np.random.default_rng(0).standard_normal(channels)
    rng = np.random.default_rng(seed)
    scene, noise = rng.standard_normal(channels), rng.standard_normal((snippets, channels))
    rows = COMMON * base + NOISE * (scene + noise)
    norms = rng.uniform(9, 11, (snippets, 1))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True) * norms, np.float32)


def draw_statistics(*, videos: int = 20, channels: int = 512, spacing_s: float | None = 0.5) -> FeatureStatistics:
    """The statistics of a training on drawn videos."""
    summaries = [summarise_features(draw_video(seed, channels=channels)) for seed in range(100, 100 + videos)]
    spacings_s = [spacing_s] * videos if spacing_s is not None else []
    found = FeatureStatistics.over([summary for summary in summaries if summary is not None], spacings_s=spacings_s)
    assert found is not None
    return found


def rotate(features: Array, seed: int = 1) -> Array:
    """The features as another tower would give them: the same distances, other directions."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((features.shape[1],) * 2))
    return np.asarray(features @ turn, np.float32)
