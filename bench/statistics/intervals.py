"""Confidence intervals for ratios of times."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99
"""Confidence of an interval. A second run's estimate lies in it less often, because it has an error of its own."""
FEWEST_LAUNCHES = 3
RESAMPLES = 2000
_NORMAL = 2.576
_STUDENT = (
    63.66, 9.92, 5.84, 4.60, 4.03, 3.71, 3.50, 3.36, 3.25, 3.17, 3.11, 3.05, 3.01, 2.98, 2.95, 2.92, 2.90, 2.88, 2.86,
)  # fmt: skip
"""Quantile 0.995 of Student's t distribution, for 1, 2, 3 … degrees of freedom."""


def student_quantile(degrees_of_freedom: int) -> float:
    """Half the width of an interval, in standard errors, for at least one degree of freedom."""
    return _STUDENT[min(degrees_of_freedom, len(_STUDENT)) - 1]


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    median: float
    low: float | None
    """None if there were too few processes to tell."""
    high: float | None


def ratio_interval(times: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], *, seed: int = 0) -> Interval:
    """The ratio of two backends' times that were measured in turns.

    Two processes of one program differ more than two rounds of one process, for example because their memory is laid
    out differently. So processes are resampled, and rounds within each, which makes the interval a little too wide. A
    bootstrap of few processes is too narrow, so it is widened by the ratio of Student's t to the normal distribution.

    Args:
        times: times by launch and round, in any unit.
        baseline: the baseline's times. Rounds are paired; a launch or round that only one of the two has is left out.
        seed: seed of the resampling.

    Returns:
        The geometric mean over launches of the median ratio of their rounds, with its interval.

    Raises:
        ValueError: the two have no round in common.

    Source: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4), 2015,
        section 3.2 on narrowness.
    """
    logs = [_log_ratios(ours, theirs) for ours, theirs in zip(times, baseline, strict=False)]
    logs = [rounds for rounds in logs if len(rounds)]
    if not logs:
        raise ValueError("no round that both backends have")
    G = len(logs)
    point = float(np.mean([np.median(rounds) for rounds in logs]))
    if G < FEWEST_LAUNCHES:
        return Interval(float(np.exp(point)), None, None)
    generator = np.random.default_rng(seed)
    medians = np.stack([_resampled_medians(rounds, generator) for rounds in logs], axis=1)  # (RESAMPLES, G)
    picked = generator.integers(G, size=(RESAMPLES, G))
    resampled = np.take_along_axis(medians, picked, axis=1).mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    widening = student_quantile(G - 1) / _NORMAL * (G / (G - 1)) ** 0.5
    low, high = point + widening * (np.quantile(resampled, [tail, 1 - tail]) - point)
    return Interval(float(np.exp(point)), float(np.exp(min(low, point))), float(np.exp(max(high, point))))


def _log_ratios(times: Sequence[float], baseline: Sequence[float]) -> NDArray[np.float64]:
    rounds = min(len(times), len(baseline))
    return np.asarray(np.log(times[:rounds]) - np.log(baseline[:rounds]))


def _resampled_medians(rounds: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Medians of resamples: (R,) -> (RESAMPLES,)."""
    R = len(rounds)
    return np.asarray(np.median(rounds[generator.integers(R, size=(RESAMPLES, R))], axis=1))
