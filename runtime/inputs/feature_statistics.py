"""What the features of a training look like, so that features of another kind are noticed before they mislead.

A network that gets other features than those that it was trained on finds nonsense without any error. What tells them
apart is cheap: the features of all images share a direction, their lengths are alike, and rows are seldom zeros.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.segments import FloatArray
from stale_runtime.system.json_dataclasses import build
from stale_runtime.system.sorted_values import median_value

SAMPLE_SNIPPETS: Final = 256
"""Most snippets of a video that are looked at."""
GROUPS: Final = 8
"""Consecutive snippets are taken at so many places of a long video."""
MOST_CHANNELS: Final = 2**16
_LOW, _HIGH = 0.01, 0.99
"""Quantiles over the videos of a training; some of its videos may be broken themselves."""
_DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class FeatureSummary:
    """What the features of one video look like, from a sample of its snippets."""

    snippets: int
    """T0, of the whole video."""
    direction: NDArray[np.float32]
    """(C,) mean direction of the snippets that are not zeros; of length 1, or 0 if all are."""
    norm: float
    """Euclidean length of the snippets that are not zeros, the median; 0 if all are."""
    zero_rows: float
    """Share of the snippets that are zeros, in [0, 1]."""
    zero_channels: int
    """Number of channels that are 0 in all snippets."""
    transposed: NDArray[np.float32] | None
    """(C,) mean direction if rows and columns are swapped; None if the features are not square."""


def sample_spans(snippets: int) -> Iterator[slice]:
    """Which snippets of a video stand for all: all of a short one, else some at evenly spaced places.

    Args:
        snippets: T0
    """
    if snippets <= SAMPLE_SNIPPETS:
        yield slice(0, snippets)
        return
    size = SAMPLE_SNIPPETS // GROUPS
    for group in range(GROUPS):
        start = group * (snippets - size) // (GROUPS - 1)
        yield slice(start, start + size)


def summarise_features(features: FloatArray) -> FeatureSummary | None:
    """Summarise the features of a video (T0, C); None if there are values that are not finite."""
    snippets = len(features)
    sample = features if is_square(features.shape) else np.concatenate([features[s] for s in sample_spans(snippets)])
    return summarise_sample(sample, snippets)


def summarise_sample(sample: FloatArray, snippets: int) -> FeatureSummary | None:
    """Summarise the features of a video.

    Args:
        sample: (n, C) some of its snippets; all of them, if it is square.
        snippets: T0, of the whole video.

    Returns:
        None if there are values that are not finite in float32.
    """
    with np.errstate(all="ignore"):
        rows = sample.astype(np.float32, copy=False)  # (n, C)
        norms = np.sqrt(np.einsum("nc,nc->n", rows, rows))  # (n,)
        if not np.isfinite(norms).all():
            return None
        used = norms > 0  # (n,)
        direction = np.divide(used, norms, out=np.zeros_like(norms), where=used) @ rows  # (C,)
    square = is_square((snippets, rows.shape[1])) and len(rows) == snippets
    return FeatureSummary(
        snippets=snippets,
        direction=_unit(direction),
        norm=float(median_value(norms[used])) if used.any() else 0.0,
        zero_rows=1 - float(used.mean()),
        zero_channels=int(np.count_nonzero(~rows.any(axis=0))) if np.count_nonzero(direction) < rows.shape[1] else 0,
        transposed=_unit(rows.sum(axis=1)) if square else None,
    )


def is_square(shape: tuple[int, ...]) -> bool:
    """Whether features of a shape may be transposed by mistake without anyone noticing; such are summarised whole."""
    return shape[0] == shape[1] <= SAMPLE_SNIPPETS * GROUPS


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """What the features of a training look like."""

    videos: int
    """Number of videos."""
    direction: tuple[float, ...]
    """(C,) the mean direction over the videos, of length 1."""
    cosine_low: float
    """Cosine of a video's mean direction and ``direction``: 99 in 100 videos have at least this."""
    norm_low: float
    """Median length of a video's snippets, the 1st percentile over the videos."""
    norm_high: float
    """The 99th percentile."""
    zero_rows_high: float
    """Share of a video's snippets that are zeros, the 99th percentile, in [0, 1]."""
    snippet_s_low: float | None
    """Seconds from a snippet to the next, the 1st percentile; None if the durations are unknown."""
    snippet_s_high: float | None
    """The 99th percentile."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.direction) <= MOST_CHANNELS:
            raise ValueError(f"direction has {len(self.direction)} numbers, expected 1 to {MOST_CHANNELS}")
        length = math.sqrt(sum(value * value for value in self.direction if abs(value) <= 1))
        if not abs(length - 1) < 0.01 or max(map(abs, self.direction)) > 1:
            raise ValueError(f"direction is not of length 1 but {length:.3g}")
        limits = {"cosine_low": (-1.01, 1.01), "zero_rows_high": (0, 1), "videos": (1, 2**40)}
        limits |= dict.fromkeys(("norm_low", "norm_high"), (0, 1e12))
        limits |= dict.fromkeys(("snippet_s_low", "snippet_s_high"), (0, LONGEST_S))
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} is {value:.6g}, expected {least:g} to {most:g}")

    @classmethod
    def over(
        cls, summaries: Sequence[FeatureSummary], *, spacings_s: Iterable[float] = ()
    ) -> "FeatureStatistics | None":
        """The statistics of a training; None if no video has features other than zeros.

        Args:
            summaries: of its videos.
            spacings_s: seconds from a snippet to the next, of the videos whose duration is known.
        """
        summaries = [summary for summary in summaries if summary.norm > 0]
        if not summaries:
            return None
        directions = np.stack([summary.direction for summary in summaries]).astype(np.float64)  # (N, C)
        direction = _unit(directions.mean(axis=0))
        if not direction.any():
            return None
        norms = _quantiles([summary.norm for summary in summaries])
        spacings = list(spacings_s)
        low_s, high_s = _quantiles(spacings) if spacings else (None, None)
        return cls(
            videos=len(summaries),
            direction=tuple(round(float(value), _DIGITS) for value in direction),
            cosine_low=round(float(np.quantile(directions @ direction, _LOW)), _DIGITS),
            norm_low=norms[0],
            norm_high=norms[1],
            zero_rows_high=_quantiles([summary.zero_rows for summary in summaries])[1],
            snippet_s_low=low_s,
            snippet_s_high=high_s,
        )

    def to_json(self) -> dict[str, Any]:
        """The statistics as an object for JSON."""
        return {**asdict(self), "direction": list(self.direction)}

    @classmethod
    def from_json(cls, content: Any) -> "FeatureStatistics":
        """Read what ``to_json`` returned.

        Raises:
            ValueError: it is not that.
        """
        return build(cls, content)


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [_LOW, _HIGH])
    return float(f"{low:.6g}"), float(f"{high:.6g}")


def _unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    length = np.linalg.norm(vector)
    return np.asarray(vector / length if length > 0 else np.zeros_like(vector), np.float32)
